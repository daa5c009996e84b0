//! Carries out allowances of ours: waits, refuses, counts a request to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, header};
use remora_model::filter::{Quota, QuotaVerdict, RouteFilter};
use remora_model::limit::{RateLimits, VirtualHostLimits};
use remora_model::route::Decision;

use super::OnResponse;
use crate::data_path::deadlines::Deadlines;
use crate::data_path::forward::{Cut, within};
use crate::data_path::request::Exchange;
use crate::exchange::{Downstream, RequestHead};
use crate::failure::{Denial, Failure, LOCAL_RATE_LIMITED};

impl<D: Downstream> Exchange<'_, D> {
    /// The allowance of the most specific level that names one, else the filter's own; it never answers by itself.
    ///
    /// # Errors
    /// When the request is refused, or the client went away while it waited.
    pub(super) async fn allow(
        &mut self,
        own: &Arc<Quota>,
        name: &str,
        decision: Option<&Decision<'_>>,
        head: &RequestHead,
    ) -> Result<bool, Cut> {
        let said = super::said(decision, name).find_map(|said| match said {
            RouteFilter::Quota(quota) => Some(quota),
            _ => None,
        });
        let quota = said.unwrap_or(own);
        let settings = &quota.settings;
        let cells = self.context.worker.counters.limit(&settings.stat_prefix);
        cells.http.enabled.one();
        let key = match (&settings.by_descriptor, decision) {
            (Some(by), Some(decision)) => {
                let route = decision.route.filters.rate_limits();
                let host = decision.virtual_host.filters.rate_limits();
                let rules = RateLimits::applicable(route, host, VirtualHostLimits::Override);
                let rules = rules.filter(|rule| rule.stage == by.stage);
                self.described(rules, Some(decision), head).into_iter().next()
            }
            _ => None,
        };
        let key = key.as_ref().map(|descriptor| descriptor.entries.as_slice());
        match quota.take(key, Instant::now()) {
            QuotaVerdict::Pass { wait, held } => {
                cells.http.ok.one();
                if let Some(held) = held {
                    self.on_response.push(OnResponse::Hold { _place: held });
                }
                if !wait.is_zero() {
                    let turn = std::pin::pin!(tokio::time::sleep(wait));
                    within(self.downstream, &Deadlines::default(), self.timer, turn).await?;
                }
                Ok(false)
            }
            QuotaVerdict::Refused(again) => {
                cells.http.rate_limited.one();
                cells.http.enforced.one();
                Err(refusal(settings.status, again).into())
            }
        }
    }
}

fn refusal(status: http::StatusCode, again: Duration) -> Failure {
    let seconds = again.as_millis().div_ceil(1000).max(1) as u64;
    let denial = Denial {
        flag: "RL",
        headers: vec![(header::RETRY_AFTER, HeaderValue::from(seconds))],
        ..Denial::new(status, LOCAL_RATE_LIMITED, LOCAL_RATE_LIMITED)
    };
    denial.into()
}
