//! `envoy.filters.http.rbac` and `envoy.filters.network.rbac`: policies become predicates.
//!
//! Holds: a principal, permission, input or matcher that is not known is refused by name, never left out: what is left
//! out of a policy opens a door. With `matcher` the `rules` beside it are not read, as in Envoy.

mod condition;
mod tree;

use std::sync::Arc;

use remora_model::filter::{NetworkFilter, RouteFilter};
use remora_model::policy::{
    AccessControl, Action, Condition, ConnectionAccess, Engine, HttpAccess, Rules, Words,
};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::rbac::v3 as api;
use crate::pb::envoy::extensions::filters::http::rbac::v3 as http;
use crate::pb::envoy::extensions::filters::network::rbac::v3 as network;
use crate::pb::xds::r#type::matcher::v3::Matcher;
use crate::value;

pub(super) const KIND: &str = "envoy.extensions.filters.http.rbac.v3.RBAC";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
pub(crate) const NETWORK: &str = "envoy.extensions.filters.network.rbac.v3.RBAC";

/// What a policy judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Requests,
    Connections,
}

/// In a chain of HTTP filters.
pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<HttpAccess> {
    let said: http::Rbac = extension.decode(work)?;
    control(work, &said)
}

/// At a route; without a policy the filter does not run there.
pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    let said: http::RbacPerRoute = extension.decode(work)?;
    match &said.rbac {
        Some(said) => work
            .at("rbac", |work| control(work, said))
            .map(RouteFilter::Access),
        None => Some(RouteFilter::Disabled),
    }
}

fn control(work: &mut Work<'_, '_>, said: &http::Rbac) -> Option<HttpAccess> {
    work.review(said);
    let (rules, matcher) = (said.rules.as_ref(), said.matcher.as_ref());
    let enforced = engine(work, ["rules", "matcher"], rules, matcher, Subject::Requests);
    let (rules, matcher) = (said.shadow_rules.as_ref(), said.shadow_matcher.as_ref());
    let shadow = engine(
        work,
        ["shadow_rules", "shadow_matcher"],
        rules,
        matcher,
        Subject::Requests,
    );
    Some(Arc::new(AccessControl {
        enforced: enforced?,
        shadow: shadow?,
        enforced_words: Words::enforced(&said.rules_stat_prefix),
        shadow_words: Words::shadow(&said.shadow_rules_stat_prefix),
        by_policy: said.track_per_rule_stats,
    }))
}

/// In a chain of network filters.
pub(super) fn connections(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<NetworkFilter> {
    let said: network::Rbac = extension.decode(work)?;
    work.review(&said);
    let stat_prefix = value::required(work, "stat_prefix", &said.stat_prefix);
    value::known::<network::rbac::EnforcementType>(work, "enforcement_type", said.enforcement_type)?;
    let (rules, matcher) = (said.rules.as_ref(), said.matcher.as_ref());
    let enforced = engine(work, ["rules", "matcher"], rules, matcher, Subject::Connections);
    let (rules, matcher) = (said.shadow_rules.as_ref(), said.shadow_matcher.as_ref());
    let shadow = engine(
        work,
        ["shadow_rules", "shadow_matcher"],
        rules,
        matcher,
        Subject::Connections,
    );
    Some(NetworkFilter::Access(Arc::new(ConnectionAccess {
        stat_prefix: stat_prefix
            .map(|prefix| prefix.strip_suffix('.').unwrap_or(prefix))?
            .into(),
        control: AccessControl {
            enforced: enforced?,
            shadow: shadow?,
            enforced_words: Words::enforced(""),
            shadow_words: Words::shadow(&said.shadow_rules_stat_prefix),
            by_policy: false,
        },
        delay: value::limit(work, "delay_deny", said.delay_deny.as_ref()),
    })))
}

/// The engine; `Some(None)` where nothing is said.
fn engine(
    work: &mut Work<'_, '_>,
    [of_rules, of_matcher]: [&'static str; 2],
    said: Option<&api::Rbac>,
    matcher: Option<&Matcher>,
    subject: Subject,
) -> Option<Option<Engine>> {
    if let Some(matcher) = matcher {
        let tree = work.at(of_matcher, |work| tree::translate(work, matcher, subject));
        return tree.map(|tree| Some(Engine::Tree(tree)));
    }
    let Some(said) = said else {
        return Some(None);
    };
    let rules = work.at(of_rules, |work| rules(work, said, subject));
    rules.map(|rules| Some(Engine::Rules(rules)))
}

fn rules(work: &mut Work<'_, '_>, said: &api::Rbac, subject: Subject) -> Option<Rules> {
    work.review(said);
    let action = action(work, said.action)?;
    let mut policies: Vec<_> = said.policies.iter().collect();
    policies.sort_by(|a, b| a.0.cmp(b.0));
    let mut known = Vec::with_capacity(policies.len());
    for (name, said) in policies {
        let policy = work.at(&format!("policies[{name:?}]"), |work| policy(work, said, subject));
        known.push((name.as_str().into(), policy?));
    }
    Some(Rules {
        action,
        policies: known,
    })
}

fn action(work: &mut Work<'_, '_>, said: i32) -> Option<Action> {
    Some(match value::known(work, "action", said)? {
        api::rbac::Action::Allow => Action::Allow,
        api::rbac::Action::Deny => Action::Deny,
        api::rbac::Action::Log => Action::Log,
    })
}

/// One of the permissions and one of the principals.
fn policy(work: &mut Work<'_, '_>, said: &api::Policy, subject: Subject) -> Option<Condition> {
    work.review(said);
    for (field, is_empty) in [
        ("permissions", said.permissions.is_empty()),
        ("principals", said.principals.is_empty()),
    ] {
        if is_empty {
            work.wrong_at(field, "expected at least one, found none");
        }
    }
    let permissions = work.each("permissions", &said.permissions, |work, said| {
        condition::permission(work, said, subject)
    });
    let principals = work.each("principals", &said.principals, |work, said| {
        condition::principal(work, said, subject)
    });
    Some(Condition::All(vec![
        condition::any(permissions),
        condition::any(principals),
    ]))
}
