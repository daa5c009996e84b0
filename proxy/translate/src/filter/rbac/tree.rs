//! The matcher dialect (`xds.type.matcher.v3.Matcher`), as Kuma writes its policies.
//!
//! The inputs are those that Envoy allows in this place, without attributes in CEL.

use std::collections::HashMap;

use prost::Message as _;
use remora_model::policy::{
    Action, AddressRole, Branch, Condition, Input, InputMatch, Leaf, MatchTree, Reaction, Selection,
};

use super::{Subject, action};
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::rbac::v3 as api;
use crate::pb::envoy::extensions::matching::input_matchers::ip::v3::Ip;
use crate::pb::envoy::r#type::matcher::v3::{HttpRequestHeaderMatchInput, StringMatcher};
use crate::pb::xds::core::v3::TypedExtensionConfig;
use crate::pb::xds::r#type::matcher::v3::matcher::{
    MatcherType, OnMatch,
    matcher_list::{
        Predicate, predicate::MatchType, predicate::SinglePredicate, predicate::single_predicate,
    },
    matcher_tree::{MatchMap, TreeType},
    on_match,
};
use crate::pb::xds::r#type::matcher::v3::{Matcher, StringMatcher as SaidString};
use crate::{matcher, value};

const ACTION: &str = "envoy.config.rbac.v3.Action";
const IP: &str = "envoy.extensions.matching.input_matchers.ip.v3.Ip";
const HEADER: &str = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput";
/// Inputs without a setting, after their package.
const NETWORK_INPUTS: &str = "envoy.extensions.matching.common_inputs.network.v3.";
const TLS_INPUTS: &str = "envoy.extensions.matching.common_inputs.ssl.v3.";

/// A tree.
pub(super) fn translate(work: &mut Work<'_, '_>, said: &Matcher, subject: Subject) -> Option<MatchTree> {
    let selection = match &said.matcher_type {
        None => Some(Selection::Nothing),
        Some(MatcherType::MatcherList(said)) => work.at("matcher_list", |work| {
            if said.matchers.is_empty() {
                work.wrong_at("matchers", "expected at least one, found none");
            }
            let all = work.each("matchers", &said.matchers, |work, said| {
                let condition = match &said.predicate {
                    Some(said) => work.at("predicate", |work| predicate(work, said, subject)),
                    None => missing(work, "predicate"),
                };
                let reaction = reaction(work, "on_match", said.on_match.as_ref(), subject);
                Some(Branch {
                    condition: condition?,
                    reaction: reaction?,
                })
            });
            (all.len() == said.matchers.len()).then_some(Selection::List(all))
        }),
        Some(MatcherType::MatcherTree(said)) => work.at("matcher_tree", |work| {
            let input = input(work, said.input.as_ref(), subject);
            match &said.tree_type {
                Some(TreeType::ExactMatchMap(said)) => {
                    let map = map(work, "exact_match_map", said, subject)?;
                    Some(Selection::Exact(
                        input?,
                        map.into_iter().collect::<HashMap<_, _>>(),
                    ))
                }
                Some(TreeType::PrefixMatchMap(said)) => {
                    let mut map = map(work, "prefix_match_map", said, subject)?;
                    map.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
                    Some(Selection::Prefix(input?, map))
                }
                Some(TreeType::CustomMatch(said)) => refuse(work, "custom_match", said),
                None => missing(work, "tree_type"),
            }
        }),
    };
    let otherwise = match &said.on_no_match {
        Some(said) => Some(Box::new(reaction(work, "on_no_match", Some(said), subject)?)),
        None => None,
    };
    let selection = selection?;
    Some(MatchTree {
        logs: logs(&selection) || otherwise.as_deref().is_some_and(says_log),
        selection,
        otherwise,
    })
}

fn logs(selection: &Selection) -> bool {
    match selection {
        Selection::Nothing => false,
        Selection::List(all) => all.iter().any(|branch| says_log(&branch.reaction)),
        Selection::Exact(_, map) => map.values().any(says_log),
        Selection::Prefix(_, map) => map.iter().any(|(_, reaction)| says_log(reaction)),
    }
}

fn says_log(reaction: &Reaction) -> bool {
    match reaction {
        Reaction::Leaf(leaf) => leaf.action == Action::Log,
        Reaction::Tree(tree) => tree.logs,
    }
}

fn missing<T>(work: &mut Work<'_, '_>, field: &str) -> Option<T> {
    work.wrong_at(field, "expected a value, found none");
    None
}

fn refuse<T>(work: &mut Work<'_, '_>, field: &str, said: &TypedExtensionConfig) -> Option<T> {
    let kind = said
        .typed_config
        .as_ref()
        .map_or_else(String::new, |any| Extension::open(any).kind);
    work.wrong_at(field, format!("is not supported: '{}' of type {kind}", said.name));
    None
}

fn map(
    work: &mut Work<'_, '_>,
    field: &str,
    said: &MatchMap,
    subject: Subject,
) -> Option<Vec<(Box<[u8]>, Reaction)>> {
    work.at(field, |work| {
        if said.map.is_empty() {
            return missing(work, "map");
        }
        let mut entries: Vec<_> = said.map.iter().collect();
        entries.sort_by(|a, b| a.0.cmp(b.0));
        let known: Vec<_> = entries
            .into_iter()
            .filter_map(|(text, said)| {
                let reaction = reaction(work, &format!("map[{text:?}]"), Some(said), subject)?;
                Some((text.as_bytes().into(), reaction))
            })
            .collect();
        (known.len() == said.map.len()).then_some(known)
    })
}

fn reaction(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&OnMatch>,
    subject: Subject,
) -> Option<Reaction> {
    let Some(said) = said else {
        return missing(work, field);
    };
    work.at(field, |work| {
        if said.keep_matching {
            work.wrong_at(
                "keep_matching",
                "is not supported: actions that do not end the search",
            );
        }
        match &said.on_match {
            Some(on_match::OnMatch::Matcher(said)) => work
                .at("matcher", |work| translate(work, said, subject))
                .map(|tree| Reaction::Tree(Box::new(tree))),
            Some(on_match::OnMatch::Action(said)) => work.at("action", |work| leaf(work, said)),
            None => missing(work, "on_match"),
        }
    })
}

fn leaf(work: &mut Work<'_, '_>, said: &TypedExtensionConfig) -> Option<Reaction> {
    let extension = said.typed_config.as_ref().map(Extension::open);
    let Some(extension) = extension.filter(|extension| extension.kind == ACTION) else {
        return refuse(work, "typed_config", said);
    };
    work.at("typed_config", |work| {
        let said: api::Action = extension.decode(work)?;
        let name = value::required(work, "name", &said.name)?;
        Some(Reaction::Leaf(Leaf {
            name: name.into(),
            action: action(work, said.action)?,
        }))
    })
}

fn predicate(work: &mut Work<'_, '_>, said: &Predicate, subject: Subject) -> Option<Condition> {
    match &said.match_type {
        Some(MatchType::SinglePredicate(said)) => {
            work.at("single_predicate", |work| single(work, said, subject))
        }
        Some(MatchType::OrMatcher(said)) => work
            .at("or_matcher", |work| list(work, &said.predicate, subject))
            .map(Condition::Any),
        Some(MatchType::AndMatcher(said)) => work
            .at("and_matcher", |work| list(work, &said.predicate, subject))
            .map(Condition::All),
        Some(MatchType::NotMatcher(said)) => work
            .at("not_matcher", |work| predicate(work, said, subject))
            .map(|condition| Condition::Not(Box::new(condition))),
        None => {
            work.wrong("expected a match_type, found none");
            None
        }
    }
}

/// Two predicates or more, as Envoy demands.
fn list(work: &mut Work<'_, '_>, said: &[Predicate], subject: Subject) -> Option<Vec<Condition>> {
    if said.len() < 2 {
        work.wrong_at("predicate", format!("expected at least 2, found {}", said.len()));
    }
    let all = work.each("predicate", said, |work, said| predicate(work, said, subject));
    (all.len() == said.len()).then_some(all)
}

fn single(work: &mut Work<'_, '_>, said: &SinglePredicate, subject: Subject) -> Option<Condition> {
    let input = input(work, said.input.as_ref(), subject);
    let wanted = match &said.matcher {
        Some(single_predicate::Matcher::ValueMatch(said)) => work.at("value_match", |work| {
            let matcher = matcher::string(work, &envoys(said)?)?;
            Some(InputMatch::Text(matcher))
        }),
        Some(single_predicate::Matcher::CustomMatch(said)) => {
            let extension = said.typed_config.as_ref().map(Extension::open);
            match extension.filter(|extension| extension.kind == IP) {
                Some(extension) => work.at("custom_match.typed_config", |work| {
                    let said: Ip = extension.decode(work)?;
                    value::required(work, "stat_prefix", &said.stat_prefix)?;
                    let ranges = work.each("cidr_ranges", &said.cidr_ranges, value::cidr);
                    (ranges.len() == said.cidr_ranges.len()).then_some(InputMatch::Ranges(ranges))
                }),
                None => refuse(work, "custom_match", said),
            }
        }
        None => missing(work, "matcher"),
    };
    Some(Condition::Input(input?, wanted?))
}

/// The two messages have the same fields under the same numbers.
fn envoys(said: &SaidString) -> Option<StringMatcher> {
    StringMatcher::decode(said.encode_to_vec().as_slice()).ok()
}

fn input(work: &mut Work<'_, '_>, said: Option<&TypedExtensionConfig>, subject: Subject) -> Option<Input> {
    let Some(said) = said else {
        return missing(work, "input");
    };
    let extension = said.typed_config.as_ref().map(Extension::open);
    let kind = extension.as_ref().map_or("", |extension| &extension.kind);
    let of_network = kind.strip_prefix(NETWORK_INPUTS);
    match of_network.or_else(|| kind.strip_prefix(TLS_INPUTS)) {
        Some("SourceIPInput") => Some(Input::Ip(AddressRole::Remote)),
        Some("SourcePortInput") => Some(Input::Port(AddressRole::Remote)),
        Some("DirectSourceIPInput") => Some(Input::Ip(AddressRole::Direct)),
        Some("DestinationIPInput") => Some(Input::Ip(AddressRole::Destination)),
        Some("DestinationPortInput") => Some(Input::Port(AddressRole::Destination)),
        Some("ServerNameInput") => Some(Input::ServerName),
        Some("UriSanInput") => Some(Input::UriSan),
        Some("DnsSanInput") => Some(Input::DnsSan),
        Some("SubjectInput") => Some(Input::Subject),
        _ => match extension {
            Some(extension) if kind == HEADER && subject == Subject::Requests => {
                work.at("input.typed_config", |work| {
                    let said: HttpRequestHeaderMatchInput = extension.decode(work)?;
                    matcher::header_name(work, "header_name", &said.header_name).map(Input::Header)
                })
            }
            _ => refuse(work, "input", said),
        },
    }
}
