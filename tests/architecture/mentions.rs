//! Which paths does a file name, as the compiler would resolve them?
//!
//! Reads `use` trees, paths in types, expressions, patterns and attributes, and the tokens of macros. A path that begins
//! with an imported name (also renamed, also through a `type` alias) is resolved to what was imported; `self`, `super` and
//! child modules become `crate::...`. A glob import ends in `*`. It does not read documentation, and does not resolve
//! what a glob brings in: that is why rules count a glob as naming everything below it.

use std::collections::HashMap;

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

use crate::sources::is_test;

/// One path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Resolved: begins with `crate` or with the name of a package (or with a local name, which no rule knows).
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    /// In an item that only tests see.
    pub(crate) test: bool,
}

impl Mention {
    /// Whether this names `rule` or something inside it, by itself or by a glob that brings it in.
    pub(crate) fn names(&self, rule: &str) -> bool {
        let rule: Vec<&str> = rule.split("::").collect();
        let own = match self.path.last() {
            Some(last) if last == "*" => &self.path[..self.path.len() - 1],
            _ => {
                return self.path.len() >= rule.len()
                    && self.path.iter().zip(&rule).all(|(own, rule)| own == rule);
            }
        };
        own.iter().zip(&rule).all(|(own, rule)| own == rule)
    }

    pub(crate) fn text(&self) -> String {
        self.path.join("::")
    }
}

/// What a file names: paths, and the names of methods it calls.
#[derive(Default)]
pub(crate) struct Mentions {
    pub(crate) paths: Vec<Mention>,
    /// Method name and line, production code only.
    pub(crate) methods: Vec<(String, usize)>,
}

/// Reads `text`, the file of `module` (empty for a crate's root).
///
/// # Errors
/// Text that is not Rust.
pub(crate) fn of_text(text: &str, module: &[String], test: bool) -> Result<Mentions> {
    let file = syn::parse_file(text).context("not Rust")?;
    let mut mentions = Mentions::default();
    of_module(&file.items, module, test, &mut mentions);
    Ok(mentions)
}

fn of_module(items: &[Item], module: &[String], test: bool, into: &mut Mentions) {
    let mut scope = Scope {
        module: module.to_vec(),
        names: HashMap::new(),
    };
    let mut collector = Collector { scope: &mut scope };
    for item in items {
        collector.visit_item(item);
    }
    let mut reader = Reader {
        scope: &scope,
        test,
        into,
    };
    for item in items {
        reader.visit_item(item);
    }
}

/// The names that a module brings in or declares, each with the paths that it may stand for.
struct Scope {
    module: Vec<String>,
    names: HashMap<String, Vec<Vec<String>>>,
}

impl Scope {
    fn add(&mut self, name: String, path: Vec<String>) {
        if path.first() != Some(&name) || path.len() > 1 {
            self.names.entry(name).or_default().push(path);
        }
    }

    fn resolve(&self, path: &[String], from_root: bool) -> Vec<Vec<String>> {
        self.resolve_within(path, from_root, 5)
    }

    fn resolve_within(&self, path: &[String], from_root: bool, rounds: usize) -> Vec<Vec<String>> {
        let Some(first) = path.first() else {
            return Vec::new();
        };
        if from_root || first == "crate" {
            return vec![path.to_vec()];
        }
        if first == "self" || first == "super" {
            return vec![self.relative(path)];
        }
        match self.names.get(first) {
            Some(targets) if rounds > 0 => targets
                .iter()
                .flat_map(|target| {
                    let whole: Vec<String> = target.iter().chain(&path[1..]).cloned().collect();
                    let stuck = target.first() == Some(first);
                    self.resolve_within(&whole, stuck, rounds - 1)
                })
                .collect(),
            _ => vec![path.to_vec()],
        }
    }

    fn relative(&self, path: &[String]) -> Vec<String> {
        let mut base = self.module.clone();
        let mut rest = path;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => {
                    base.pop();
                }
                _ => break,
            }
            rest = after;
        }
        let root = ["crate".to_owned()];
        root.into_iter().chain(base).chain(rest.iter().cloned()).collect()
    }
}

/// First round: what is brought in, wherever in the module (not in its inline modules, which are modules of their own).
struct Collector<'a> {
    scope: &'a mut Scope,
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for used in flatten(&item.tree) {
            if let Some(name) = used.name {
                let path = if used
                    .path
                    .first()
                    .is_some_and(|first| first == "self" || first == "super")
                {
                    self.scope.relative(&used.path)
                } else {
                    used.path
                };
                self.scope.add(name, path);
            }
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if let Some((_, name)) = &item.rename {
            self.scope.add(name.to_string(), vec![item.ident.to_string()]);
        }
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        if let syn::Type::Path(aliased) = item.ty.as_ref() {
            self.scope.add(item.ident.to_string(), segments(&aliased.path));
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let path = self.scope.relative(&["self".to_owned(), item.ident.to_string()]);
        self.scope.add(item.ident.to_string(), path);
    }
}

/// Second round: every path, resolved.
struct Reader<'a> {
    scope: &'a Scope,
    test: bool,
    into: &'a mut Mentions,
}

impl Reader<'_> {
    fn mention(&mut self, path: &[String], from_root: bool, line: usize) {
        for path in self.scope.resolve(path, from_root) {
            self.into.paths.push(Mention {
                path,
                line,
                test: self.test,
            });
        }
    }

    fn inside<T>(&mut self, attributes: &[Attribute], read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.test;
        self.test |= is_test(attributes);
        let answer = read(self);
        self.test = before;
        answer
    }

    /// Reads the paths in a macro's tokens, `prefix` being what stands before a brace of a `use` tree.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.finish(&mut path, prefix, line);
                        line = ident.span().start().line;
                    }
                    colons = 0;
                    path.push(ident.to_string());
                }
                TokenTree::Group(group) => {
                    let tree = group.delimiter() == Delimiter::Brace && colons == 2 && !path.is_empty();
                    if tree {
                        let before: Vec<String> = prefix.iter().chain(&path).cloned().collect();
                        path.clear();
                        self.tokens(group.stream(), &before);
                    } else {
                        self.finish(&mut path, prefix, line);
                        self.tokens(group.stream(), &[]);
                    }
                    colons = 0;
                }
                TokenTree::Punct(punct) => {
                    if punct.as_char() == '*' && colons == 2 {
                        path.push("*".to_owned());
                    }
                    // `Vec::<T>::new`: the path goes on behind the brackets, but no rule needs its end.
                    self.finish(&mut path, prefix, line);
                    colons = 0;
                }
                TokenTree::Literal(_) => {
                    self.finish(&mut path, prefix, line);
                    colons = 0;
                }
            }
        }
        self.finish(&mut path, prefix, line);
    }

    fn finish(&mut self, path: &mut Vec<String>, prefix: &[String], line: usize) {
        let whole: Vec<String> = prefix.iter().cloned().chain(path.drain(..)).collect();
        if whole.len() > 1 {
            self.mention(&whole, false, line);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        self.inside(attributes(item), |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.inside(&item.attrs, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if let Some((_, items)) = &item.content {
            let mut module = self.scope.module.clone();
            module.push(item.ident.to_string());
            of_module(items, &module, self.test, self.into);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let line = item.use_token.span.start().line;
        for used in flatten(&item.tree) {
            self.mention(&used.path, item.leading_colon.is_some(), line);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.mention(&[item.ident.to_string()], true, item.ident.span().start().line);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A name alone is a variable, or was brought in by a `use` that is a mention itself.
        if let Some(first) = path.segments.first()
            && path.segments.len() > 1
        {
            self.mention(
                &segments(path),
                path.leading_colon.is_some(),
                first.ident.span().start().line,
            );
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_path(&mut self, expression: &'ast syn::ExprPath) {
        // `<Instant>::now` names the type's function as `Instant::now` does.
        if let Some(own) = &expression.qself
            && let syn::Type::Path(owner) = own.ty.as_ref()
            && let Some(first) = owner.path.segments.first()
        {
            let mut path = segments(&owner.path);
            path.extend(
                expression
                    .path
                    .segments
                    .iter()
                    .skip(own.position)
                    .map(|part| part.ident.to_string()),
            );
            self.mention(
                &path,
                owner.path.leading_colon.is_some(),
                first.ident.span().start().line,
            );
        }
        visit::visit_expr_path(self, expression);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if !self.test {
            self.into
                .methods
                .push((call.method.to_string(), call.method.span().start().line));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.tokens(invocation.tokens.clone(), &[]);
        visit::visit_macro(self, invocation);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.tokens(list.tokens.clone(), &[]);
        visit::visit_meta_list(self, list);
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect()
}

struct Used {
    path: Vec<String>,
    /// What the path is called here; none for a glob.
    name: Option<String>,
}

fn flatten(tree: &UseTree) -> Vec<Used> {
    match tree {
        UseTree::Path(path) => {
            let mut below = flatten(&path.tree);
            for used in &mut below {
                if used.path == ["self"] {
                    used.path.clear();
                    used.name = used.name.take().map(|name| {
                        if name == "self" {
                            path.ident.to_string()
                        } else {
                            name
                        }
                    });
                }
                used.path.insert(0, path.ident.to_string());
            }
            below
        }
        UseTree::Name(name) => vec![Used {
            path: vec![name.ident.to_string()],
            name: Some(name.ident.to_string()),
        }],
        UseTree::Rename(name) => vec![Used {
            path: vec![name.ident.to_string()],
            name: Some(name.rename.to_string()),
        }],
        UseTree::Glob(_) => vec![Used {
            path: vec!["*".to_owned()],
            name: None,
        }],
        UseTree::Group(group) => group.items.iter().flat_map(flatten).collect(),
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
