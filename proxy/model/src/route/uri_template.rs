//! URI templates: paths with globs and named parts, and paths made of such parts.
//!
//! The grammar is Envoy's (`envoy.extensions.path.match.uri_template.v3`), asked of Envoy 1.40: a segment is a literal,
//! `*` (one segment or the rest of one), `**` (any number of them), or `{name}` or `{name=pattern}` with literals around.
//! Holds: a template is looked at without the query, from its first to its last character. A `*` inside of a literal is
//! Envoy's to the letter too: it repeats the character before it.

use regex::Regex;

use crate::matching::whole_match;

/// Most variables of a template.
const VARIABLES: usize = 5;
/// Longest name of a variable, bytes.
const NAME: usize = 16;
/// What `*` takes at least one of: the characters of a path segment (RFC 3986 section 3.3).
const SEGMENT: &str = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=*]+";
/// What `**` takes any number of.
const SEGMENTS: &str = r"[a-zA-Z0-9\-._~%!$&'()+,;:@=*/]*";

/// A compiled `path_template`.
#[derive(Debug, Clone)]
pub struct UriTemplate {
    text: Box<str>,
    regex: Regex,
}

/// A compiled `path_template_rewrite`: a path made of what a template's variables stand for.
#[derive(Debug, Clone)]
pub struct TemplateRewrite {
    template: UriTemplate,
    pieces: Vec<Piece>,
}

/// What a template cannot be, in Envoy's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

#[derive(Debug, Clone)]
enum Piece {
    Literal(Box<str>),
    /// The group of this number.
    Variable(usize),
}

/// A part of a template between slashes, or of a variable's pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'t> {
    Literal(&'t str),
    /// `*`.
    One,
    /// `**`.
    Any,
}

#[derive(Debug)]
enum Segment<'t> {
    Plain(Part<'t>),
    /// Literals around a variable, which takes one segment where it has no pattern.
    Variable {
        before: &'t str,
        name: &'t str,
        pattern: Vec<Part<'t>>,
        after: &'t str,
    },
}

impl UriTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// Envoy's sentence on what is wrong with it.
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        let (segments, suffix) = segments(text)?;
        check_names(&segments)?;
        check_globs(&segments)?;
        let mut expression = String::new();
        for segment in &segments {
            expression.push('/');
            segment.express(&mut expression);
        }
        if segments.is_empty() {
            expression.push('/');
        }
        express_literal(suffix, &mut expression);
        let regex = whole_match(&expression).map_err(|_| wrong("cannot be compiled"))?;
        Ok(Self {
            text: text.into(),
            regex,
        })
    }

    /// Whether this path, without query and fragment, is one of the template's.
    pub fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    /// The template as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl TemplateRewrite {
    /// Compiles a rewrite of the paths that `template` matches.
    ///
    /// # Errors
    /// What is wrong with the rewrite, or that it names a variable which the template does not have.
    pub fn new(text: &str, template: &UriTemplate) -> Result<Self, TemplateError> {
        let invalid = || {
            wrong(format!(
                "path_rewrite_policy.path_template_rewrite {text} is invalid"
            ))
        };
        let mut rest = text;
        if !rest.starts_with('/') || rest.contains("//") {
            return Err(invalid());
        }
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (literal, variable) = match rest.split_once('{') {
                Some((literal, more)) => (literal, Some(more.split_once('}').ok_or_else(invalid)?)),
                None => (rest, None),
            };
            if !literal.bytes().all(|byte| byte == b'/' || is_literal(byte)) {
                return Err(invalid());
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            let Some((name, after)) = variable else { break };
            if !is_name(name) {
                return Err(invalid());
            }
            pieces.push(Piece::Variable(template.group(name).ok_or_else(|| {
                let (from, to) = (template.text(), text);
                wrong(format!(
                    "mismatch between variables in path_match_policy {from} and path_rewrite_policy {to}"
                ))
            })?));
            rest = after;
        }
        let template = template.clone();
        Ok(Self { template, pieces })
    }

    /// The new path (without a query) in the place of this one, or `None` where the template does not match.
    pub fn apply(&self, path: &str) -> Option<String> {
        let captures = self.template.regex.captures(path)?;
        let mut made = String::with_capacity(path.len());
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => made.push_str(literal),
                Piece::Variable(group) => {
                    made.push_str(captures.get(*group).map_or("", |group| group.as_str()));
                }
            }
        }
        Some(made)
    }
}

impl UriTemplate {
    fn group(&self, name: &str) -> Option<usize> {
        self.regex.capture_names().position(|group| group == Some(name))
    }
}

impl Segment<'_> {
    fn express(&self, into: &mut String) {
        match self {
            Self::Plain(part) => part.express(into),
            Self::Variable {
                before,
                name,
                pattern,
                after,
            } => {
                express_literal(before, into);
                into.push_str("(?P<");
                into.push_str(name);
                into.push('>');
                for (index, part) in pattern.iter().enumerate() {
                    if index > 0 {
                        into.push('/');
                    }
                    part.express(into);
                }
                if pattern.is_empty() {
                    Part::One.express(into);
                }
                into.push(')');
                express_literal(after, into);
            }
        }
    }
}

impl Part<'_> {
    fn express(&self, into: &mut String) {
        match self {
            Self::Literal(literal) => express_literal(literal, into),
            Self::One => into.push_str(SEGMENT),
            Self::Any => into.push_str(SEGMENTS),
        }
    }
}

fn wrong(sentence: impl Into<String>) -> TemplateError {
    TemplateError(sentence.into())
}

/// A literal as an expression; its `*` stays what it is in one, as in Envoy.
fn express_literal(literal: &str, into: &mut String) {
    for character in literal.chars() {
        if matches!(character, '$' | '(' | ')' | '+' | '.') {
            into.push('\\');
        }
        into.push(character);
    }
}

fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=*".contains(&byte)
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A literal that is not empty, `kind` as Envoy calls it.
fn literal<'t>(kind: &str, text: &'t str) -> Result<&'t str, TemplateError> {
    if text.is_empty() || !text.bytes().all(is_literal) || text.contains("**") {
        return Err(wrong(format!("Invalid {kind}: \"{text}\"")));
    }
    Ok(text)
}

/// The operator that a text begins with, and the rest.
fn operator(text: &str) -> Option<(Part<'static>, &str)> {
    let any = text.strip_prefix("**").map(|rest| (Part::Any, rest));
    any.or_else(|| text.strip_prefix('*').map(|rest| (Part::One, rest)))
}

/// Everything before the first slash, and the rest with it.
fn first_segment(text: &str) -> (&str, &str) {
    text.split_at(text.find('/').unwrap_or(text.len()))
}

/// The segments of a template, and the literal that ends it behind a glob.
fn segments(text: &str) -> Result<(Vec<Segment<'_>>, &str), TemplateError> {
    if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(format!("Invalid pattern: \"{text}\"")));
    }
    let mut segments = Vec::new();
    let mut rest = &text[1..];
    while !rest.is_empty() {
        let (segment, after) = segment(rest)?;
        segments.push(segment);
        rest = match after.strip_prefix('/') {
            Some("") => {
                segments.push(Segment::Plain(Part::Literal("")));
                ""
            }
            Some(more) => more,
            None if after.is_empty() => "",
            None => {
                let (suffix, more) = first_segment(after);
                literal("literal", suffix)?;
                if !more.is_empty() {
                    return Err(wrong("Prefix match not supported."));
                }
                return Ok((segments, suffix));
            }
        };
    }
    Ok((segments, ""))
}

fn segment(rest: &str) -> Result<(Segment<'_>, &str), TemplateError> {
    if let Some((operator, after)) = operator(rest) {
        return Ok((Segment::Plain(operator), after));
    }
    let (first, after) = first_segment(rest);
    if first.starts_with('{') || first.contains('{') && first.contains('}') {
        return variable(rest);
    }
    Ok((Segment::Plain(Part::Literal(literal("literal", first)?)), after))
}

/// A segment with a variable.
fn variable(rest: &str) -> Result<(Segment<'_>, &str), TemplateError> {
    let unmatched = || wrong(format!("Unmatched variable bracket in mixed pattern: \"{rest}\""));
    let (before, opened) = rest.split_once('{').ok_or_else(unmatched)?;
    if !before.is_empty() {
        literal("prefix literal", before)?;
    }
    let (said, closed) = opened.split_once('}').ok_or_else(unmatched)?;
    let (after, rest) = first_segment(closed);
    if !after.is_empty() {
        literal("suffix literal", after)?;
    }
    let (name, mut text) = match said.split_once('=') {
        Some((_, "")) => return Err(wrong("Empty variable match")),
        Some((name, pattern)) => (name, pattern),
        None => (said, ""),
    };
    if !is_name(name) {
        return Err(wrong(format!("Invalid variable name: \"{name}\"")));
    }
    let mut pattern = Vec::new();
    while !text.is_empty() {
        let (part, more) = match operator(text) {
            Some(found) => found,
            None => {
                let (first, more) = first_segment(text);
                (Part::Literal(literal("literal", first)?), more)
            }
        };
        pattern.push(part);
        text = match more.strip_prefix('/') {
            Some(more) if !more.is_empty() => more,
            None if more.is_empty() => "",
            _ => return Err(wrong(format!("Invalid variable match: \"{more}\""))),
        };
    }
    let segment = Segment::Variable {
        before,
        name,
        pattern,
        after,
    };
    Ok((segment, rest))
}

fn check_names(segments: &[Segment<'_>]) -> Result<(), TemplateError> {
    let mut names = Vec::new();
    for segment in segments {
        let Segment::Variable { name, .. } = segment else {
            continue;
        };
        if names.len() == VARIABLES {
            return Err(wrong(format!("Exceeded variable count limit ({VARIABLES})")));
        }
        if name.len() > NAME {
            let rule = format!("should be at least 1 and no more than {NAME}");
            return Err(wrong(format!(
                "Invalid variable name length (length of \"{name}\" {rule})"
            )));
        }
        if names.contains(name) {
            return Err(wrong(format!("Repeated variable name: \"{name}\"")));
        }
        names.push(name);
    }
    Ok(())
}

/// What `**` takes has no end where another glob follows.
fn check_globs(segments: &[Segment<'_>]) -> Result<(), TemplateError> {
    let mut any = false;
    for segment in segments {
        let parts = match segment {
            Segment::Plain(part) => std::slice::from_ref(part),
            Segment::Variable { pattern, .. } if pattern.is_empty() && any => {
                return Err(wrong("Implicit variable path glob after text glob."));
            }
            Segment::Variable { pattern, .. } => pattern,
        };
        for part in parts {
            if matches!(part, Part::Literal(_)) {
                continue;
            }
            if any {
                return Err(wrong("Glob after text glob."));
            }
            any = *part == Part::Any;
        }
    }
    Ok(())
}
