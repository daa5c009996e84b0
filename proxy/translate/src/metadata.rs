//! Matchers over what filters noted of a request (`MetadataMatcher`).

use remora_model::Name;
use remora_model::metadata::{MetadataMatcher, NumberMatcher, StateMatcher, ValueMatcher};

use crate::context::Work;
use crate::pb::envoy::r#type::matcher::v3::{
    self as api, double_matcher, filter_state_matcher, list_matcher, metadata_matcher::path_segment::Segment,
    value_matcher::MatchPattern,
};
use crate::{matcher, value};

/// How deep `list_match` and `or_match` may go, as a hostile matcher could be as deep as its bytes allow.
const DEPTH: usize = 16;

/// A `MetadataMatcher`.
pub(crate) fn matcher(work: &mut Work<'_, '_>, said: &api::MetadataMatcher) -> Option<MetadataMatcher> {
    let namespace = value::required(work, "filter", &said.filter);
    if said.path.is_empty() {
        work.wrong_at("path", "expected at least one segment, found none");
    }
    let path = work.each("path", &said.path, |work, said| match &said.segment {
        Some(Segment::Key(key)) => value::required(work, "key", key).map(Name::from),
        None => {
            work.wrong("expected a key, found none");
            None
        }
    });
    let wanted = match &said.value {
        Some(said) => work.at("value", |work| of_value(work, said, DEPTH)),
        None => {
            work.wrong_at("value", "expected a value, found none");
            None
        }
    };
    Some(MetadataMatcher {
        namespace: namespace?.into(),
        path: path.into(),
        value: wanted?,
        invert: said.invert,
    })
}

/// A `FilterStateMatcher`.
pub(crate) fn state_matcher(work: &mut Work<'_, '_>, said: &api::FilterStateMatcher) -> Option<StateMatcher> {
    let key = value::required(work, "key", &said.key);
    let text = match &said.matcher {
        Some(filter_state_matcher::Matcher::StringMatch(said)) => {
            work.at("string_match", |work| matcher::string(work, said))
        }
        Some(filter_state_matcher::Matcher::AddressMatch(_)) => {
            work.wrong_at("address_match", "is not supported: addresses in the filter state");
            None
        }
        None => {
            work.wrong("expected string_match or address_match, found none");
            None
        }
    };
    Some(StateMatcher {
        key: key?.into(),
        text: text?,
    })
}

fn of_value(work: &mut Work<'_, '_>, said: &api::ValueMatcher, depth: usize) -> Option<ValueMatcher> {
    if depth == 0 {
        work.wrong(format!("is not supported: matchers more than {DEPTH} deep"));
        return None;
    }
    match &said.match_pattern {
        Some(MatchPattern::NullMatch(_)) => Some(ValueMatcher::Null),
        Some(MatchPattern::DoubleMatch(said)) => work
            .at("double_match", |work| number(work, said))
            .map(ValueMatcher::Number),
        Some(MatchPattern::StringMatch(said)) => work
            .at("string_match", |work| matcher::string(work, said))
            .map(ValueMatcher::Text),
        Some(MatchPattern::BoolMatch(wanted)) => Some(ValueMatcher::Bool(*wanted)),
        Some(MatchPattern::PresentMatch(wanted)) => Some(ValueMatcher::Present(*wanted)),
        Some(MatchPattern::ListMatch(said)) => work.at("list_match", |work| match &said.match_pattern {
            Some(list_matcher::MatchPattern::OneOf(said)) => {
                let one = work.at("one_of", |work| of_value(work, said, depth - 1))?;
                Some(ValueMatcher::OneOf(Box::new(one)))
            }
            None => {
                work.wrong("expected one_of, found none");
                None
            }
        }),
        Some(MatchPattern::OrMatch(said)) => work.at("or_match", |work| {
            if said.value_matchers.len() < 2 {
                let found = said.value_matchers.len();
                work.wrong_at(
                    "value_matchers",
                    format!("expected at least 2 matchers, found {found}"),
                );
            }
            let any = work.each("value_matchers", &said.value_matchers, |work, said| {
                of_value(work, said, depth - 1)
            });
            Some(ValueMatcher::Any(any.into()))
        }),
        None => {
            let kinds =
                "null_match, double_match, string_match, bool_match, present_match, list_match, or_match";
            work.wrong(format!("expected one of {kinds}; found none"));
            None
        }
    }
}

fn number(work: &mut Work<'_, '_>, said: &api::DoubleMatcher) -> Option<NumberMatcher> {
    match &said.match_pattern {
        Some(double_matcher::MatchPattern::Range(range)) => {
            Some(NumberMatcher::Range(range.start, range.end))
        }
        Some(double_matcher::MatchPattern::Exact(exact)) => Some(NumberMatcher::Exact(*exact)),
        None => {
            work.wrong("expected range or exact, found none");
            None
        }
    }
}
