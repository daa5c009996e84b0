//! String matchers, shared by routes, header rules and subject alternative names.
//!
//! Follows `envoy.type.matcher.v3.StringMatcher`: `ignore_case` holds for every form but the regular expression, and a
//! regular expression must match the whole value.

use regex::Regex;

/// One compiled `StringMatcher`.
#[derive(Debug, Clone)]
pub enum StringMatcher {
    /// The whole value.
    Exact(Pattern),
    /// A beginning.
    Prefix(Pattern),
    /// An end.
    Suffix(Pattern),
    /// Anywhere inside.
    Contains(Pattern),
    /// RE2 syntax; anchored at both ends when compiled.
    Regex(Regex),
}

/// A literal with its case rule; stored in lower case when the case is ignored.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// What must be found.
    pub literal: Box<str>,
    /// ASCII case does not matter.
    pub ignore_case: bool,
}

impl Pattern {
    /// A pattern with the given case rule.
    pub fn new(literal: &str, ignore_case: bool) -> Self {
        let literal = if ignore_case {
            literal.to_ascii_lowercase()
        } else {
            literal.to_owned()
        };
        Self {
            literal: literal.into(),
            ignore_case,
        }
    }

    /// Whether `value` is the literal.
    pub fn equals(&self, value: &[u8]) -> bool {
        let literal = self.literal.as_bytes();
        if self.ignore_case {
            literal.eq_ignore_ascii_case(value)
        } else {
            literal == value
        }
    }

    /// Whether `value` begins with the literal.
    pub fn begins(&self, value: &[u8]) -> bool {
        value
            .get(..self.literal.len())
            .is_some_and(|head| self.equals(head))
    }
}

impl StringMatcher {
    /// A regular expression that must match the whole value, bounded in compiled size.
    ///
    /// # Errors
    /// What is wrong with the expression (RE2 syntax: no look-around, no back-references).
    pub fn regex(expression: &str) -> Result<Self, regex::Error> {
        whole_match(expression).map(Self::Regex)
    }

    /// Whether `value` matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(p) => p.equals(value),
            Self::Prefix(p) => p.begins(value),
            Self::Suffix(p) => value
                .len()
                .checked_sub(p.literal.len())
                .is_some_and(|start| p.equals(&value[start..])),
            Self::Contains(p) if !p.ignore_case => {
                memchr::memmem::find(value, p.literal.as_bytes()).is_some()
            }
            Self::Contains(p) => {
                p.literal.is_empty() || value.windows(p.literal.len()).any(|window| p.equals(window))
            }
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
        }
    }
}

/// Compiles an expression that must match from the first to the last character.
///
/// # Errors
/// What is wrong with the expression, or that its program would be larger than 1 MiB.
pub fn whole_match(expression: &str) -> Result<Regex, regex::Error> {
    // Checked alone first, so that an unbalanced `)` cannot escape the group that anchors it.
    regex::RegexBuilder::new(expression).size_limit(1 << 20).build()?;
    regex::RegexBuilder::new(&format!("^(?:{expression})$"))
        .size_limit(1 << 20)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_follows_its_case_rule() {
        let exact = |ignore| StringMatcher::Exact(Pattern::new("Ab", ignore));
        assert!(exact(true).matches(b"aB") && !exact(false).matches(b"aB"));
        assert!(StringMatcher::Prefix(Pattern::new("ab", false)).matches(b"abc"));
        assert!(!StringMatcher::Prefix(Pattern::new("abc", false)).matches(b"ab"));
        assert!(StringMatcher::Suffix(Pattern::new("BC", true)).matches(b"abc"));
        assert!(StringMatcher::Contains(Pattern::new("B", true)).matches(b"abc"));
        assert!(!StringMatcher::Contains(Pattern::new("B", false)).matches(b"abc"));
    }

    #[test]
    fn an_expression_must_match_the_whole_value() -> Result<(), regex::Error> {
        let matcher = StringMatcher::regex("a|b+")?;
        assert!(matcher.matches(b"bb") && matcher.matches(b"a"));
        assert!(!matcher.matches(b"ab") && !matcher.matches(b"xa"));
        assert!(StringMatcher::regex("a)|(b").is_err());
        Ok(())
    }
}
