//! Is this the node that somebody asks for? (`envoy.type.matcher.v3.NodeMatcher`)
//!
//! Holds: matchers are alternatives, the parts of one must all match, and what cannot be understood is refused, not
//! taken for a match. Regular expressions have a bounded size.

use remora_model::matching::{Pattern, StringMatcher};

use crate::pb::envoy::config::core::v3::Node;
use crate::pb::envoy::r#type::matcher::v3::{
    self as api, double_matcher, list_matcher, string_matcher, struct_matcher::path_segment::Segment,
    value_matcher,
};
use crate::pb::google::protobuf::{Struct, Value, value::Kind};

/// Whether one of the matchers means this node; no matcher means every node.
///
/// # Errors
/// What is wrong with a matcher.
pub(super) fn any_matches(matchers: &[api::NodeMatcher], node: &Node) -> Result<bool, String> {
    let mut any = matchers.is_empty();
    for (index, matcher) in matchers.iter().enumerate() {
        any |= matches(matcher, node).map_err(|reason| format!("node_matchers[{index}].{reason}"))?;
    }
    Ok(any)
}

fn matches(matcher: &api::NodeMatcher, node: &Node) -> Result<bool, String> {
    let mut all = match &matcher.node_id {
        Some(said) => text(said, &node.id).map_err(|reason| format!("node_id: {reason}"))?,
        None => true,
    };
    for (index, said) in matcher.node_metadatas.iter().enumerate() {
        let found = metadata(said, node.metadata.as_ref());
        all &= found.map_err(|reason| format!("node_metadatas[{index}]: {reason}"))?;
    }
    Ok(all)
}

fn metadata(said: &api::StructMatcher, metadata: Option<&Struct>) -> Result<bool, String> {
    let mut inside = metadata;
    let mut found: Option<&Value> = None;
    for segment in &said.path {
        let Some(Segment::Key(key)) = &segment.segment else {
            return Err("path: expected a key in each segment".into());
        };
        found = inside.and_then(|fields| fields.fields.get(key));
        inside = match found.and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(fields)) => Some(fields),
            _ => None,
        };
    }
    let matcher = said
        .value
        .as_ref()
        .ok_or("value: expected a matcher, found none")?;
    value(matcher, found.and_then(|value| value.kind.as_ref()))
}

fn value(matcher: &api::ValueMatcher, found: Option<&Kind>) -> Result<bool, String> {
    use value_matcher::MatchPattern as M;
    let pattern = matcher.match_pattern.as_ref();
    Ok(
        match (pattern.ok_or("expected a kind of match, found none")?, found) {
            (M::NullMatch(_), found) => matches!(found, Some(Kind::NullValue(_))),
            (M::PresentMatch(present), found) => *present == found.is_some(),
            (M::BoolMatch(said), Some(Kind::BoolValue(found))) => said == found,
            (M::DoubleMatch(said), Some(Kind::NumberValue(found))) => number(said, *found)?,
            (M::StringMatch(said), Some(Kind::StringValue(found))) => text(said, found)?,
            (M::OrMatch(said), found) => {
                let mut any = false;
                for matcher in &said.value_matchers {
                    any |= value(matcher, found)?;
                }
                any
            }
            (M::ListMatch(said), Some(Kind::ListValue(found))) => {
                let Some(list_matcher::MatchPattern::OneOf(matcher)) = &said.match_pattern else {
                    return Err("list_match: expected one_of, found none".into());
                };
                let mut any = false;
                for item in &found.values {
                    any |= value(matcher, item.kind.as_ref())?;
                }
                any
            }
            _ => false,
        },
    )
}

fn number(said: &api::DoubleMatcher, found: f64) -> Result<bool, String> {
    match &said.match_pattern {
        Some(double_matcher::MatchPattern::Range(range)) => Ok((range.start..range.end).contains(&found)),
        Some(double_matcher::MatchPattern::Exact(exact)) => Ok(found.total_cmp(exact).is_eq()),
        None => Err("double_match: expected range or exact, found none".into()),
    }
}

fn text(said: &api::StringMatcher, found: &str) -> Result<bool, String> {
    use string_matcher::MatchPattern as M;
    let pattern = |literal: &str| Pattern::new(literal, said.ignore_case);
    let matcher = match &said.match_pattern {
        Some(M::Exact(literal)) => StringMatcher::Exact(pattern(literal)),
        Some(M::Prefix(literal)) => StringMatcher::Prefix(pattern(literal)),
        Some(M::Suffix(literal)) => StringMatcher::Suffix(pattern(literal)),
        Some(M::Contains(literal)) => StringMatcher::Contains(pattern(literal)),
        Some(M::SafeRegex(regex)) => StringMatcher::regex(&regex.regex).map_err(|error| error.to_string())?,
        Some(M::Custom(_)) => return Err("string matchers by extension are not supported".into()),
        None => return Err("expected one of exact, prefix, suffix, contains, safe_regex; found none".into()),
    };
    Ok(matcher.matches(found.as_bytes()))
}
