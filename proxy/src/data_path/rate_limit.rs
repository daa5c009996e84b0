//! Carries out local rate limits: takes tokens, refuses, tells clients and the upstream.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};
use remora_model::filter::{LocalRateLimit, RouteFilter, TokenBucket};
use remora_model::limit::{Descriptor, LimitFacts, RateLimits, Rule, TellClients};
use remora_model::route::{Action, Decision};

use super::forward::Cut;
use super::mutation::Printer;
use super::request::{Exchange, facts};
use crate::data_path::filters::OnResponse;
use crate::exchange::{Downstream, RequestHead};
use crate::failure::{Denial, Failure, LOCAL_RATE_LIMITED};

/// gRPC's `RESOURCE_EXHAUSTED`.
pub const RESOURCE_EXHAUSTED: u16 = 8;

/// The headers of `enable_x_ratelimit_headers` (draft 03 of `RateLimit Fields for HTTP`, with Envoy's `x-`).
pub fn tell(bucket: &TokenBucket, headers: &mut HeaderMap) {
    let now = Instant::now();
    let wait = bucket.next_token(now);
    let fields = [
        ("x-ratelimit-limit", u64::from(bucket.fill().max_tokens)),
        ("x-ratelimit-remaining", u64::from(bucket.remaining(now))),
        ("x-ratelimit-reset", wait.as_millis().div_ceil(1000) as u64),
    ];
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

/// `retry-after` of `enable_retry_after_header`: whole seconds.
pub fn tell_when(bucket: &TokenBucket, headers: &mut HeaderMap) {
    let fill = bucket.fill();
    let wait = match fill.max_tokens {
        // There will be none; Envoy names the time in which one would flow in.
        0 => fill.interval / fill.tokens_per_fill.max(1),
        _ => bucket.next_token(Instant::now()),
    };
    let wait = wait.as_millis().div_ceil(1000) as u64;
    headers.append(http::header::RETRY_AFTER, HeaderValue::from(wait));
}

impl<D: Downstream> Exchange<'_, D> {
    /// The limit of the most specific level that names one, else the filter's own.
    ///
    /// # Errors
    /// When the request is above the limit.
    pub(super) fn limit(
        &mut self,
        own: &Arc<LocalRateLimit>,
        name: &str,
        decision: Option<&Decision<'_>>,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        let said = super::filters::said(decision, name).find_map(|said| match said {
            RouteFilter::LocalRateLimit(limit) => Some(limit),
            _ => None,
        });
        let limit = said.unwrap_or(own);
        let worker = &self.context.worker;
        if !worker.with_rng(|rng| limit.is_enabled(rng)) {
            return Ok(());
        }
        let cells = worker.counters.limit(&limit.stat_prefix);
        cells.http.enabled.one();
        let buckets = if limit.per_connection {
            self.context.own_buckets(&limit.buckets)
        } else {
            &limit.buckets
        };
        let descriptors = if buckets.has_descriptors() {
            self.descriptors(limit, decision, head)
        } else {
            Vec::new()
        };
        let verdict = buckets.take(&descriptors, Instant::now());
        let tells = match verdict.tell {
            TellClients::AsFilter => limit.tells_clients,
            TellClients::Never => false,
            TellClients::Draft03 => true,
        };
        if let Some(bucket) = verdict.bucket {
            if limit.tells_when && !verdict.allowed {
                self.on_response.push(OnResponse::TellWhen(Arc::clone(&bucket)));
            }
            if tells {
                self.on_response.push(OnResponse::Tell(bucket));
            }
        }
        if verdict.shadowed {
            cells.http.shadow_mode.one();
        }
        if verdict.allowed {
            cells.http.ok.one();
            return Ok(());
        }
        cells.http.rate_limited.one();
        if !worker.with_rng(|rng| limit.is_enforced(rng)) {
            self.mark(limit, head);
            return Ok(());
        }
        cells.http.enforced.one();
        Err(self.above(limit, head).into())
    }

    /// What the request counts as: by the filter's own rules, else by those of its route and virtual host.
    fn descriptors(
        &self,
        limit: &LocalRateLimit,
        decision: Option<&Decision<'_>>,
        head: &RequestHead,
    ) -> Vec<Descriptor> {
        if !limit.rules.is_empty() {
            return self.described(limit.rules.iter(), decision, head);
        }
        let Some(decision) = decision.filter(|decision| matches!(decision.route.action, Action::Forward(_)))
        else {
            return Vec::new();
        };
        let route = decision.route.filters.rate_limits();
        let host = decision.virtual_host.filters.rate_limits();
        let rules = RateLimits::applicable(route, host, limit.virtual_host);
        let rules = rules.filter(|rule| rule.stage == limit.stage && !rule.has_disable_key);
        self.described(rules, decision.into(), head)
    }

    /// The descriptors that rules give the request.
    pub(super) fn described<'r>(
        &self,
        rules: impl Iterator<Item = &'r Rule>,
        decision: Option<&Decision<'_>>,
        head: &RequestHead,
    ) -> Vec<Descriptor> {
        let mut rules = rules.peekable();
        if rules.peek().is_none() {
            return Vec::new();
        }
        let cluster = self.cluster_config(head);
        let metadata = decision.and_then(|decision| decision.route.filters.rate_limits());
        let facts = LimitFacts {
            request: facts(head, &self.record),
            client: Some(self.record.client.ip()).filter(|ip| !ip.is_unspecified()),
            source_cluster: self.context.worker.shared.service_cluster(),
            destination_cluster: cluster.as_deref().map(|cluster| &*cluster.name),
            route_metadata: metadata.map_or(&[], |limits| &limits.metadata),
        };
        let printer = Printer {
            record: &self.record,
            request: Some(&head.headers),
            response: None,
        };
        rules
            .filter_map(|rule| rule.descriptor(&facts, &printer))
            .collect()
    }

    /// `request_headers_to_add_when_not_enforced`.
    fn mark(&self, limit: &LocalRateLimit, head: &mut RequestHead) {
        if limit.request_headers.is_empty() {
            return;
        }
        let before = head.headers.clone();
        let printer = Printer {
            record: &self.record,
            request: Some(&before),
            response: None,
        };
        limit.request_headers.apply(&mut head.headers, &printer);
    }

    /// The refusal.
    fn above(&self, limit: &LocalRateLimit, head: &RequestHead) -> Failure {
        let mut headers = HeaderMap::new();
        let printer = Printer {
            record: &self.record,
            request: Some(&head.headers),
            response: None,
        };
        limit.response_headers.apply(&mut headers, &printer);
        let mut named = Vec::with_capacity(headers.len());
        for (name, value) in &headers {
            named.push((name.clone(), value.clone()));
        }
        let denial = Denial {
            grpc: limit.resource_exhausted.then_some(RESOURCE_EXHAUSTED),
            flag: "RL",
            headers: named,
            ..Denial::new(limit.status, LOCAL_RATE_LIMITED, LOCAL_RATE_LIMITED)
        };
        denial.into()
    }
}
