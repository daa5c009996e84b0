//! Carries out what policies say of requests (`envoy.filters.http.rbac`).
//!
//! Holds: the shadow policy is asked first and decides nothing; what both say is counted and noted for the access log.

use remora_model::endpoint::{LabelValue, Labels};
use remora_model::filter::RouteFilter;
use remora_model::policy::{AccessControl, HttpAccess, Verdict};

use crate::data_path::forward::Cut;
use crate::data_path::request::{Exchange, facts};
use crate::exchange::{Downstream, RequestHead};
use crate::failure::{Denial, Failure};

use http::StatusCode;

/// The name space of what is noted, whatever the filter is called.
const NAMESPACE: &str = "envoy.filters.http.rbac";

/// Which policy spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Enforced,
    Shadow,
}

impl<D: Downstream> Exchange<'_, D> {
    /// Asks the policy of the route, else the filter's own; never answers by itself.
    ///
    /// # Errors
    /// When the request is refused.
    pub(super) fn permit(
        &mut self,
        own: &HttpAccess,
        said: Option<&RouteFilter>,
        head: &RequestHead,
    ) -> Result<bool, Cut> {
        let control = match said {
            Some(RouteFilter::Access(control)) => control,
            _ => own,
        };
        let (shadow, enforced) = {
            let facts = self.record.access_facts(facts(head, &self.record));
            let shadow = control.shadow.as_ref().map(|engine| engine.judge(&facts));
            (
                shadow,
                control.enforced.as_ref().map(|engine| engine.judge(&facts)),
            )
        };
        if let Some(verdict) = shadow {
            self.note_verdict(own, control, Part::Shadow, verdict);
        }
        let Some(verdict) = enforced else {
            return Ok(false);
        };
        self.note_verdict(own, control, Part::Enforced, verdict);
        if verdict.allowed {
            return Ok(false);
        }
        let denial = Denial::new(
            StatusCode::FORBIDDEN,
            denied_by(verdict.policy.map(|name| &**name)),
            "RBAC: access denied",
        );
        Err(Failure::from(denial).into())
    }

    /// Counts a verdict under the filter's names and notes it under those of the policy in force, as Envoy does.
    fn note_verdict(
        &mut self,
        own: &AccessControl,
        control: &AccessControl,
        part: Part,
        verdict: Verdict<'_>,
    ) {
        let cells = &self.context.cells.access;
        let (counter, stat, prefix) = match (part, verdict.allowed) {
            (Part::Enforced, true) => (&cells.allowed, "allowed", &own.prefix),
            (Part::Enforced, false) => (&cells.denied, "denied", &own.prefix),
            (Part::Shadow, true) => (&cells.shadow_allowed, "shadow_allowed", &own.shadow_prefix),
            (Part::Shadow, false) => (&cells.shadow_denied, "shadow_denied", &own.shadow_prefix),
        };
        let counters = &self.context.worker.counters;
        let tally = |stat: &str| {
            counters
                .http_tally(&self.manager.stat_prefix, stat)
                .tally
                .count
                .one();
        };
        if prefix.is_empty() {
            counter.one();
        } else {
            tally(&prefixed(prefix, stat));
        }
        if control.by_policy
            && let Some(policy) = verdict.policy
        {
            tally(&format!("rbac.policy.{policy}.{stat}"));
        }
        let (prefix, words) = match part {
            Part::Enforced => (
                &control.prefix,
                ["enforced_effective_policy_id", "enforced_engine_result"],
            ),
            Part::Shadow => (&control.shadow_prefix, SHADOW_WORDS),
        };
        self.record.note(NAMESPACE, noted(prefix, words, verdict));
        if let (Part::Enforced, Some(matched)) = (part, verdict.log) {
            let hint = ("access_log_hint".into(), LabelValue::Bool(matched));
            self.record.note("envoy.common", Labels::new(vec![hint]));
        }
    }
}

/// What is noted of a shadow policy.
pub(crate) const SHADOW_WORDS: [&str; 2] = ["shadow_effective_policy_id", "shadow_engine_result"];

/// `rbac.<prefix>.<stat>`
pub(crate) fn prefixed(prefix: &str, stat: &str) -> String {
    let dot = if prefix.ends_with('.') { "" } else { "." };
    format!("rbac.{prefix}{dot}{stat}")
}

/// The policy and the result, under their prefix.
pub(crate) fn noted(prefix: &str, [policy, result]: [&str; 2], verdict: Verdict<'_>) -> Labels {
    let said = if verdict.allowed { "allowed" } else { "denied" };
    let mut fields = vec![(format!("{prefix}{result}").into(), LabelValue::Text(said.into()))];
    if let Some(name) = verdict.policy {
        fields.push((format!("{prefix}{policy}").into(), LabelValue::Text(name.clone())));
    }
    Labels::new(fields)
}

/// Envoy's details of a refusal: one word.
pub(crate) fn denied_by(policy: Option<&str>) -> String {
    let name = policy.filter(|name| !name.is_empty()).unwrap_or("none");
    let word = name.replace(|c: char| c.is_ascii_whitespace(), "_");
    format!("rbac_access_denied_matched_policy[{word}]")
}
