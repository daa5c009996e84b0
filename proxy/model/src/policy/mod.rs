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
use crate::endpoint::{LabelValue, Labels};

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
#[derive(Debug, Clone)]
pub struct AccessControl {
    /// `rules` or `matcher`; `None`: everybody may pass, uncounted.
    pub enforced: Option<Engine>,
    /// `shadow_rules` or `shadow_matcher`: counted and logged only.
    pub shadow: Option<Engine>,
    /// What is said of the verdicts of `enforced`, under `rules_stat_prefix`.
    pub enforced_words: Words,
    /// What is said of those of `shadow`, under `shadow_rules_stat_prefix`.
    pub shadow_words: Words,
    /// `track_per_rule_stats`.
    pub by_policy: bool,
}

/// Names of counters and of dynamic metadata, put together once.
#[derive(Debug, Clone)]
pub struct Words {
    /// `rbac.<prefix>.allowed` and `rbac.<prefix>.denied`; `None`: the names without a prefix.
    pub stats: Option<[Name; 2]>,
    policy: Name,
    result: Name,
    allowed: Name,
    denied: Name,
}

impl Words {
    /// Those of what is enforced.
    pub fn enforced(prefix: &str) -> Self {
        Self::new(prefix, "enforced_", "")
    }

    /// Those of a shadow.
    pub fn shadow(prefix: &str) -> Self {
        Self::new(prefix, "shadow_", "shadow_")
    }

    fn new(prefix: &str, noted: &str, counted: &str) -> Self {
        let dot = if prefix.ends_with('.') { "" } else { "." };
        let stat = |word: &str| format!("rbac.{prefix}{dot}{counted}{word}").into();
        Self {
            stats: (!prefix.is_empty()).then(|| [stat("allowed"), stat("denied")]),
            policy: format!("{prefix}{noted}effective_policy_id").into(),
            result: format!("{prefix}{noted}engine_result").into(),
            allowed: "allowed".into(),
            denied: "denied".into(),
        }
    }

    /// What is noted of a verdict: the policy that decided, if one did, and the result.
    pub fn noted(&self, verdict: Verdict<'_>) -> Labels {
        let said = if verdict.allowed {
            &self.allowed
        } else {
            &self.denied
        };
        let text = |name: &Name| LabelValue::Text(Arc::clone(name));
        let policy = verdict.policy.map(|name| (Arc::clone(&self.policy), text(name)));
        let result = (Arc::clone(&self.result), text(said));
        Labels::new(policy.into_iter().chain([result]).collect())
    }
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
