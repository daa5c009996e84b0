//! How long are files and functions?
//!
//! A line counts when a token of code stands on it: blank lines and comments (documentation too) do not, every line of a
//! literal over several lines does. Of a file, inline `#[cfg(test)]` modules do not count; a file of tests counts whole.
//! Of a function, the lines between its braces count, closures and inner items included, as clippy's `too_many_lines`
//! counts them; functions of tests are functions too.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::sources::is_test;

/// The most lines of code in one file.
pub(crate) const FILE: usize = 500;
/// The most lines of code in one function.
pub(crate) const FUNCTION: usize = 60;

/// Lengths of one file.
pub(crate) struct Lengths {
    pub(crate) file: usize,
    pub(crate) functions: Vec<Function>,
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// Counts `text`.
///
/// # Errors
/// Text that is not Rust.
pub(crate) fn of_text(text: &str) -> Result<Lengths> {
    let tokens: TokenStream = text.parse().ok().context("not Rust")?;
    let parsed = syn::parse_file(text).context("not Rust")?;
    let mut lines = BTreeSet::new();
    code(tokens, &mut lines);
    let mut finder = Finder {
        lines: &lines,
        functions: Vec::new(),
        tests: BTreeSet::new(),
    };
    finder.visit_file(&parsed);
    let file = lines.difference(&finder.tests).count();
    Ok(Lengths {
        file,
        functions: finder.functions,
    })
}

/// Adds every line on which a token stands, documentation left out.
fn code(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                let line = hash.span().start().line;
                let bang =
                    tokens.next_if(|next| matches!(next, TokenTree::Punct(bang) if bang.as_char() == '!'));
                if tokens.next_if(is_documentation).is_none() {
                    lines.insert(line);
                    if let Some(bang) = bang {
                        cover(bang.span(), lines);
                    }
                }
            }
            TokenTree::Group(group) => {
                cover(group.span_open(), lines);
                code(group.stream(), lines);
                cover(group.span_close(), lines);
            }
            _ => cover(token.span(), lines),
        }
    }
}

fn is_documentation(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else {
        return false;
    };
    let mut inside = group.stream().into_iter();
    matches!(inside.next(), Some(TokenTree::Ident(name)) if name == "doc")
        && matches!(inside.next(), Some(TokenTree::Punct(equals)) if equals.as_char() == '=')
}

fn cover(span: Span, lines: &mut BTreeSet<usize>) {
    lines.extend(span.start().line..=span.end().line);
}

struct Finder<'a> {
    lines: &'a BTreeSet<usize>,
    functions: Vec<Function>,
    tests: BTreeSet<usize>,
}

impl Finder<'_> {
    fn function(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (open, close) = (block.brace_token.span.open(), block.brace_token.span.close());
        let (first, last) = (open.end().line, close.start().line);
        let lines = if first < last {
            self.lines.range(first + 1..last).count()
        } else {
            1
        };
        self.functions.push(Function {
            name: name.to_string(),
            line: name.span().start().line,
            lines,
        });
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if let Some((brace, _)) = &item.content
            && is_test(&item.attrs)
        {
            let attribute = item
                .attrs
                .first()
                .map_or(item.mod_token.span, |first| first.pound_token.span);
            self.tests
                .extend(attribute.start().line..=brace.span.close().end().line);
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}
