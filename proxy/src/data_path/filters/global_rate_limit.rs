//! Asks a rate limit service (`envoy.filters.http.ratelimit`), and does what it says.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};
use remora_model::cluster::ClusterConfig;
use remora_model::filter::{GlobalRateLimit, RouteFilter, RouteRateLimit};
use remora_model::limit::{Descriptor, LimitAnswer};
use remora_model::route::{Action, Decision};

use super::OnResponse;
use crate::data_path::ask::{Unanswered, Unary};
use crate::data_path::forward::Cut;
use crate::data_path::mutation::Printer;
use crate::data_path::rate_limit::RESOURCE_EXHAUSTED;
use crate::data_path::request::Exchange;
use crate::exchange::{Downstream, RequestHead};
use crate::failure::{Denial, Failure};
use crate::services;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
/// The object of the filter state that says how many hits a request is.
const HITS: &str = "envoy.ratelimit.hits_addend";
const FLAG: &str = "RL";
const LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

impl<D: Downstream> Exchange<'_, D> {
    /// Asks whether the request is within its limits.
    ///
    /// # Errors
    /// It is not, or nobody can say and that is a reason to refuse it.
    pub(super) async fn ask_limit(
        &mut self,
        own: &Arc<GlobalRateLimit>,
        name: &str,
        decision: Option<&Decision<'_>>,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        let internal = head.headers.get(INTERNAL).is_some_and(|value| value == "true");
        if !self.context.worker.with_rng(|rng| own.is_enabled(internal, rng)) {
            return Ok(());
        }
        let said = super::said(decision, name).find_map(|said| match said {
            RouteFilter::GlobalRateLimit(said) => Some(&**said),
            _ => None,
        });
        let Some(cluster) = self.cluster_config(head) else {
            return Ok(());
        };
        let descriptors = self.counted_as(own, said, decision, head);
        if descriptors.is_empty() {
            return Ok(());
        }
        let domain = said
            .and_then(|said| said.domain.as_deref())
            .unwrap_or(&own.domain);
        let message = services::limit_request(domain, &descriptors, self.hits());
        let wanted = Unary {
            service: &own.service,
            path: services::SHOULD_RATE_LIMIT,
            message,
            limit: own.timeout,
        };
        let answer = self.asked(wanted, head, services::limit_answer).await?;
        self.judge(own, &cluster, answer, head)
    }

    /// How many hits the request is for the service; 0: what the service takes a request for.
    fn hits(&self) -> u32 {
        let noted = self.record.metadata.as_deref();
        let said = noted.and_then(|noted| noted.object(HITS)?.number());
        said.unwrap_or(0)
    }

    /// What the request counts as.
    fn counted_as(
        &self,
        own: &GlobalRateLimit,
        said: Option<&RouteRateLimit>,
        decision: Option<&Decision<'_>>,
        head: &RequestHead,
    ) -> Vec<Descriptor> {
        let Some(decision) = decision.filter(|decision| matches!(decision.route.action, Action::Forward(_)))
        else {
            return Vec::new();
        };
        let route = decision.route.filters.rate_limits();
        let host = decision.virtual_host.filters.rate_limits();
        self.described(own.rules(said, route, host), Some(decision), head)
    }

    /// Carries out the answer.
    fn judge(
        &mut self,
        own: &GlobalRateLimit,
        cluster: &ClusterConfig,
        answer: Result<LimitAnswer, Unanswered>,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        let worker = &self.context.worker;
        let cells = worker
            .counters
            .service(&cluster.stat_name, "ratelimit", &own.stat_prefix);
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                cells.limit.error.one();
                tracing::debug!(%why, domain = %own.domain, "the rate limit service gave no answer");
                if !worker.with_rng(|rng| own.denies_unanswered(rng)) {
                    cells.limit.failure_mode_allowed.one();
                    return Ok(());
                }
                let denial = Denial {
                    flag: "RLSE",
                    because: Some(why.to_string()),
                    ..Denial::new(own.status_on_error, "rate_limiter_error", "")
                };
                return Err(Failure::from(denial).into());
            }
        };
        if answer.over {
            cells.limit.over_limit.one();
        } else {
            cells.limit.ok.one();
        }
        if !answer.metadata.is_empty() {
            self.record.note(&own.namespace, answer.metadata.clone());
        }
        let enforced = answer.over && worker.with_rng(|rng| own.is_enforced(rng));
        let told = told(own, &answer, enforced);
        if enforced {
            return Err(self.over_limit(own, answer, told, head).into());
        }
        if !told.is_empty() {
            self.on_response.push(OnResponse::Append(told));
        }
        for (name, value) in answer.request_headers {
            head.headers.append(name, value);
        }
        Ok(())
    }

    /// The refusal.
    fn over_limit(
        &mut self,
        own: &GlobalRateLimit,
        answer: LimitAnswer,
        mut told: Vec<(HeaderName, HeaderValue)>,
        head: &RequestHead,
    ) -> Failure {
        let mut headers = http::HeaderMap::new();
        // Its headers may show the flag that it raises.
        self.record.flags.push(FLAG);
        let printer = Printer {
            record: &self.record,
            request: Some(&head.headers),
            response: None,
        };
        own.response_headers.apply(&mut headers, &printer);
        self.record.flags.pop();
        for (name, value) in &headers {
            told.push((name.clone(), value.clone()));
        }
        let denial = Denial {
            grpc: own.resource_exhausted.then_some(RESOURCE_EXHAUSTED),
            flag: FLAG,
            headers: told,
            raw: Some(answer.body),
            ..Denial::new(own.status, "request_rate_limited", "")
        };
        denial.into()
    }
}

/// What the client hears of its limits.
fn told(own: &GlobalRateLimit, answer: &LimitAnswer, enforced: bool) -> Vec<(HeaderName, HeaderValue)> {
    let mut told = answer.response_headers.clone();
    if answer.over && own.tells_limited {
        told.retain(|(name, _)| name != LIMITED);
        told.push((LIMITED, HeaderValue::from_static("true")));
    }
    if own.tells_clients {
        told.extend(answer.draft03().into_iter().flatten());
    }
    let already = told.iter().any(|(name, _)| name == header::RETRY_AFTER);
    if own.tells_when
        && enforced
        && own.status == StatusCode::TOO_MANY_REQUESTS
        && !already
        && let Some(seconds) = answer.retry_after()
    {
        told.push((header::RETRY_AFTER, HeaderValue::from(seconds)));
    }
    told
}
