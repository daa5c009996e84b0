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
        let (counter, stat, prefixed) = match (part, verdict.allowed) {
            (Part::Enforced, true) => (&cells.allowed, "allowed", &own.enforced_words.stats),
            (Part::Enforced, false) => (&cells.denied, "denied", &own.enforced_words.stats),
            (Part::Shadow, true) => (&cells.shadow_allowed, "shadow_allowed", &own.shadow_words.stats),
            (Part::Shadow, false) => (&cells.shadow_denied, "shadow_denied", &own.shadow_words.stats),
        };
        let counters = &self.context.worker.counters;
        let tally = |stat: &str| {
            counters
                .http_tally(&self.manager.stat_prefix, stat)
                .tally
                .count
                .one();
        };
        match prefixed {
            None => counter.one(),
            Some([allowed, _]) if verdict.allowed => tally(allowed),
            Some([_, denied]) => tally(denied),
        }
        if control.by_policy
            && let Some(policy) = verdict.policy
        {
            tally(&format!("rbac.policy.{policy}.{stat}"));
        }
        let words = match part {
            Part::Enforced => &control.enforced_words,
            Part::Shadow => &control.shadow_words,
        };
        self.record.note(NAMESPACE, words.noted(verdict));
        if let (Part::Enforced, Some(matched)) = (part, verdict.log) {
            let hint = ("access_log_hint".into(), LabelValue::Bool(matched));
            self.record.note("envoy.common", Labels::new(vec![hint]));
        }
    }
}

/// Envoy's details of a refusal: one word.
pub(crate) fn denied_by(policy: Option<&str>) -> String {
    let name = policy.filter(|name| !name.is_empty()).unwrap_or("none");
    let word = name.replace(|c: char| c.is_ascii_whitespace(), "_");
    format!("rbac_access_denied_matched_policy[{word}]")
}
