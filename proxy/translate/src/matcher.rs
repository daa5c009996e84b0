//! Matchers that several resources share: strings, regular expressions, headers, query parameters, substitutions.
//!
//! Holds: every expression is compiled here, once, with a bounded size; a form that is not supported is a problem,
//! never a matcher that matches something else. Deprecated single forms become the `string_match` that they stand for.

use regex::Regex;
use remora_model::matching::{Pattern, StringMatcher, whole_match};
use remora_model::route::{HeaderMatch, HeaderPredicate, HeaderPredicateName, QueryMatch, QueryPredicate};

use crate::context::Work;
use crate::pb::envoy::config::route::v3::{self as route, header_matcher, query_parameter_matcher};
use crate::pb::envoy::r#type::matcher::v3::{self as api, string_matcher::MatchPattern};
use crate::value;

/// A `StringMatcher`.
pub(crate) fn string(work: &mut Work<'_, '_>, said: &api::StringMatcher) -> Option<StringMatcher> {
    let pattern = |literal: &str| Pattern::new(literal, said.ignore_case);
    match &said.match_pattern {
        Some(MatchPattern::Exact(literal)) => Some(StringMatcher::Exact(pattern(literal))),
        Some(MatchPattern::Prefix(literal)) => {
            value::required(work, "prefix", literal).map(|literal| StringMatcher::Prefix(pattern(literal)))
        }
        Some(MatchPattern::Suffix(literal)) => {
            value::required(work, "suffix", literal).map(|literal| StringMatcher::Suffix(pattern(literal)))
        }
        Some(MatchPattern::Contains(literal)) => value::required(work, "contains", literal)
            .map(|literal| StringMatcher::Contains(pattern(literal))),
        Some(MatchPattern::SafeRegex(expression)) => {
            regex(work, "safe_regex", expression).map(StringMatcher::Regex)
        }
        Some(MatchPattern::Custom(_)) => {
            work.wrong_at("custom", "is not supported: string matchers by extension");
            None
        }
        None => {
            work.wrong("expected one of exact, prefix, suffix, contains, safe_regex; found none");
            None
        }
    }
}

/// A `RegexMatcher`: it must match the whole value.
pub(crate) fn regex(work: &mut Work<'_, '_>, field: &str, said: &api::RegexMatcher) -> Option<Regex> {
    work.at(field, |work| {
        let expression = value::required(work, "regex", &said.regex)?;
        compiled(work, expression, whole_match(expression))
    })
}

/// A `RegexMatchAndSubstitute`: every match in the value is replaced; `\1` names a group.
pub(crate) fn substitution(
    work: &mut Work<'_, '_>,
    field: &str,
    said: &api::RegexMatchAndSubstitute,
) -> Option<(Regex, Box<str>)> {
    work.at(field, |work| {
        let Some(pattern) = &said.pattern else {
            work.wrong_at("pattern", "expected a pattern, found none");
            return None;
        };
        let regex = work.at("pattern", |work| {
            let expression = value::required(work, "regex", &pattern.regex)?;
            let built = regex::RegexBuilder::new(expression).size_limit(1 << 20).build();
            compiled(work, expression, built)
        })?;
        groups(work, &said.substitution, regex.captures_len() - 1)?;
        Some((regex, said.substitution.as_str().into()))
    })
}

fn compiled(work: &mut Work<'_, '_>, expression: &str, built: Result<Regex, regex::Error>) -> Option<Regex> {
    match built {
        Ok(regex) => Some(regex),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            work.wrong_at(
                "regex",
                format!("'{expression}' is not a regular expression: {reason}"),
            );
            None
        }
    }
}

/// Checks that a substitution names only groups that are there, with RE2's rules for the backslash.
fn groups(work: &mut Work<'_, '_>, substitution: &str, groups: usize) -> Option<()> {
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            continue;
        }
        match characters.next() {
            Some('\\') => {}
            Some(digit) if digit.to_digit(10).is_some_and(|group| group as usize <= groups) => {}
            Some(digit) if digit.is_ascii_digit() => {
                work.wrong_at(
                    "substitution",
                    format!("names group {digit}, but the pattern has {groups}"),
                );
                return None;
            }
            _ => {
                work.wrong_at(
                    "substitution",
                    "expected a digit or a backslash after each backslash",
                );
                return None;
            }
        }
    }
    Some(())
}

/// A `HeaderMatcher`; without a specifier the header must be present.
pub(crate) fn header(work: &mut Work<'_, '_>, said: &route::HeaderMatcher) -> Option<HeaderMatch> {
    use header_matcher::HeaderMatchSpecifier as Specifier;
    let name = header_name(work, "name", &said.name);
    let literal = |work: &mut Work<'_, '_>, field: &str, text: &str, make: fn(Pattern) -> StringMatcher| {
        value::required(work, field, text).map(|text| HeaderPredicate::Text(make(Pattern::new(text, false))))
    };
    let predicate = match &said.header_match_specifier {
        None => Some(HeaderPredicate::Present(true)),
        Some(Specifier::PresentMatch(present)) => Some(HeaderPredicate::Present(*present)),
        Some(Specifier::RangeMatch(range)) => Some(HeaderPredicate::Range(range.start, range.end)),
        Some(Specifier::StringMatch(matcher)) => work
            .at("string_match", |work| string(work, matcher))
            .map(HeaderPredicate::Text),
        Some(Specifier::ExactMatch(text)) => Some(HeaderPredicate::Text(StringMatcher::Exact(Pattern::new(
            text, false,
        )))),
        Some(Specifier::PrefixMatch(text)) => literal(work, "prefix_match", text, StringMatcher::Prefix),
        Some(Specifier::SuffixMatch(text)) => literal(work, "suffix_match", text, StringMatcher::Suffix),
        Some(Specifier::ContainsMatch(text)) => {
            literal(work, "contains_match", text, StringMatcher::Contains)
        }
        Some(Specifier::SafeRegexMatch(expression)) => regex(work, "safe_regex_match", expression)
            .map(|regex| HeaderPredicate::Text(StringMatcher::Regex(regex))),
    };
    Some(HeaderMatch {
        name: name?,
        predicate: predicate?,
        invert: said.invert_match,
        missing_as_empty: said.treat_missing_header_as_empty,
    })
}

/// The name of a header or a pseudo-header.
pub(crate) fn header_name(work: &mut Work<'_, '_>, field: &str, name: &str) -> Option<HeaderPredicateName> {
    Some(match name.to_ascii_lowercase().as_str() {
        ":method" => HeaderPredicateName::Method,
        ":path" => HeaderPredicateName::Path,
        ":authority" | "host" => HeaderPredicateName::Authority,
        ":scheme" => HeaderPredicateName::Scheme,
        ":status" => HeaderPredicateName::Status,
        other if other.starts_with(':') => {
            work.wrong_at(
                field,
                format!("is not supported: matching of the pseudo-header '{other}'"),
            );
            return None;
        }
        _ => HeaderPredicateName::Header(value::header_name(work, field, name)?),
    })
}

/// A `QueryParameterMatcher`; without a specifier the parameter must be present.
pub(crate) fn query(work: &mut Work<'_, '_>, said: &route::QueryParameterMatcher) -> Option<QueryMatch> {
    use query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let name = value::required(work, "name", &said.name);
    let predicate = match &said.query_parameter_match_specifier {
        None => Some(QueryPredicate::Present(true)),
        Some(Specifier::PresentMatch(present)) => Some(QueryPredicate::Present(*present)),
        Some(Specifier::StringMatch(matcher)) => work
            .at("string_match", |work| string(work, matcher))
            .map(QueryPredicate::Text),
    };
    Some(QueryMatch {
        name: name?.into(),
        predicate: predicate?,
    })
}
