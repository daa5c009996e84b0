//! May this request, or this connection, pass? Role-based access control (`envoy.config.rbac.v3`), in both dialects.
//!
//! Holds: a policy is compiled once; a verdict is a pure function of the policy and the [`AccessFacts`]. What cannot be
//! known for certain never opens a door: a header with several values is read in every way in which its recipient may
//! read it ([`Truth`]), and where one of the readings would be refused, the request is. Nothing here counts or answers.

mod condition;
mod facts;
mod input;
#[cfg(test)]
mod tests;
mod tree;

pub use condition::{Condition, Truth};
pub use facts::{AccessFacts, AddressRole, Identity};
pub use input::{Input, InputMatch};
pub use tree::{Branch, Leaf, MatchTree, Reaction, Selection};

use std::sync::Arc;
use std::time::Duration;

use crate::Name;

/// `RBAC.Action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Who matches may pass, nobody else.
    Allow,
    /// Who matches may not pass.
    Deny,
    /// Everybody may pass; the access log is told who matched.
    Log,
}

/// Who may pass.
#[derive(Debug, Clone)]
pub enum Engine {
    /// `rules`.
    Rules(Rules),
    /// `matcher`.
    Tree(MatchTree),
}

/// `envoy.config.rbac.v3.RBAC`.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What a match means.
    pub action: Action,
    /// Policies by name, in that order: the first that matches is named.
    pub policies: Vec<(Name, Condition)>,
}

/// What an engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'p> {
    /// It may pass.
    pub allowed: bool,
    /// The policy that decided; `None`: none matched.
    pub policy: Option<&'p Name>,
    /// Whether a policy with `LOG` matched, where there is one (`access_log_hint`).
    pub log: Option<bool>,
}

impl Engine {
    /// The verdict.
    pub fn judge(&self, facts: &AccessFacts<'_>) -> Verdict<'_> {
        match self {
            Self::Rules(rules) => rules.judge(facts),
            Self::Tree(tree) => tree.judge(facts),
        }
    }
}

impl Rules {
    fn judge(&self, facts: &AccessFacts<'_>) -> Verdict<'_> {
        // What may be so opens no door and closes every one.
        let enough = match self.action {
            Action::Allow => Truth::Yes,
            Action::Deny | Action::Log => Truth::Maybe,
        };
        let found = self
            .policies
            .iter()
            .find(|(_, condition)| condition.truth(facts) >= enough);
        let matched = found.is_some();
        Verdict {
            allowed: match self.action {
                Action::Allow => matched,
                Action::Deny => !matched,
                Action::Log => true,
            },
            policy: found.map(|(name, _)| name),
            log: (self.action == Action::Log).then_some(matched),
        }
    }
}

/// What a filter enforces, and what it would.
#[derive(Debug, Clone, Default)]
pub struct AccessControl {
    /// `rules` or `matcher`; `None`: everybody may pass, uncounted.
    pub enforced: Option<Engine>,
    /// `shadow_rules` or `shadow_matcher`: counted and logged only.
    pub shadow: Option<Engine>,
    /// `rules_stat_prefix`.
    pub prefix: Name,
    /// `shadow_rules_stat_prefix`.
    pub shadow_prefix: Name,
    /// `track_per_rule_stats`.
    pub by_policy: bool,
}

/// `envoy.extensions.filters.http.rbac.v3.RBAC`, at a filter or (`RBACPerRoute`) at a route.
pub type HttpAccess = Arc<AccessControl>;

/// `envoy.extensions.filters.network.rbac.v3.RBAC`.
#[derive(Debug)]
pub struct ConnectionAccess {
    /// `stat_prefix`, without a dot at its end.
    pub stat_prefix: Name,
    /// The policy.
    pub control: AccessControl,
    /// `delay_deny`: how long a refused connection stays open.
    pub delay: Option<Duration>,
}
