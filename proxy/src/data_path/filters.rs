//! Runs the HTTP filters of a chain: on a request in order, on its response in reverse.
//!
//! Holds: what a filter decides is decided by the model; here its verdicts are carried out (wait, answer, mutate). A
//! chain without filters costs one look at an empty list.

mod access;
mod asked;
mod buffer;
mod cache;
mod compression;
mod ext_authz;
mod global_rate_limit;
mod grpc;
mod health_check;
mod mutation_filter;
mod quota;
mod session;
mod set_filter_state;
mod slow;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use remora_model::cluster::ClusterConfig;
use remora_model::filter::{
    AbortKind, ChainedFilter, CorsPolicy, CorsVerdict, CountedConnection, Fault, FaultPlan, GrpcWeb,
    HeaderOperation, HealthCheck, HttpFilter, Preflight, RouteFilter, TokenBucket, apply_operations, settled,
};
use remora_model::route::{Action, Decision};

pub(super) use access::denied_by;
pub use grpc::GrpcCall;
pub use session::session;

use super::body::Stages;
use super::deadlines::Deadlines;
use super::fallback::LastGood;
use super::forward::{Cut, within};
use super::local_reply::{Reader, Reply};
use super::mutation::Printer;
use super::request::{Exchange, facts};
use super::{rate_limit, target};
use crate::exchange::{Downstream, RequestHead, ResponseHead};
use crate::failure::{Denial, Failure};
use crate::observe::ExchangeRecord;

/// What a filter does to the response of the request that it saw.
#[derive(Debug)]
pub enum OnResponse {
    /// Sets these headers.
    Set(Vec<(HeaderName, HeaderValue)>),
    /// Adds these headers.
    Append(Vec<(HeaderName, HeaderValue)>),
    /// Carries these out.
    Mutate(Arc<[HeaderOperation]>),
    /// Carries these out on its trailers.
    MutateTrailers(Arc<[HeaderOperation]>),
    /// Lets it through at so many KiB a second.
    Slow(slow::Slow),
    /// Tells of a rate limit.
    Tell(Arc<TokenBucket>),
    /// Keeps the application's answer to a health check.
    Remember(Arc<HealthCheck>),
    /// Counts the end and the messages of a gRPC call.
    GrpcCall(Rc<GrpcCall>),
    /// Answers a browser.
    GrpcWeb(GrpcWeb),
    /// Tells when another try may pass it.
    TellWhen(Arc<TokenBucket>),
    /// Keeps it, or gives what is kept in its place.
    Keep(Box<cache::Keeping>),
    /// Forgets what is kept.
    Forget(Box<cache::Forget>),
    /// Keeps it for worse times.
    LastGood(Box<LastGood>),
    /// Counts the request until it ends; the response is left alone.
    Hold {
        /// Its place.
        _place: CountedConnection,
    },
    /// Compresses it, if the client wants that.
    Compress(Box<compression::Offered>),
    /// Tells of its session's endpoint.
    Session(Rc<session::Session>),
    /// Decompresses it.
    Decompress(Box<compression::Undoing>),
}

/// A response on its way to the client.
pub struct Responding<'a> {
    /// Its head.
    pub head: &'a mut ResponseHead,
    /// Its body, if the response is our own.
    pub body: Option<&'a mut Bytes>,
    /// What filters put in the way of its body.
    pub stages: &'a mut Option<Box<Stages>>,
}

impl<'a> Responding<'a> {
    /// A response of the upstream.
    pub fn of(head: &'a mut ResponseHead, stages: &'a mut Option<Box<Stages>>) -> Self {
        Self {
            head,
            body: None,
            stages,
        }
    }
}

/// Lets the filters at the response's headers, the last filter first.
pub fn respond(
    filters: &[OnResponse],
    response: Responding<'_>,
    record: &ExchangeRecord,
    request: Option<&HeaderMap>,
) {
    if filters.is_empty() {
        return;
    }
    let Responding {
        head,
        mut body,
        stages,
    } = response;
    // The operators see the headers as they were.
    let before = head.headers.clone();
    let printer = Printer {
        record,
        request,
        response: Some(&before),
    };
    for filter in filters.iter().rev() {
        let headers = &mut head.headers;
        match filter {
            OnResponse::Set(fields) => {
                for (name, value) in fields {
                    headers.insert(name, value.clone());
                }
            }
            OnResponse::Append(fields) => {
                for (name, value) in fields {
                    headers.append(name, value.clone());
                }
            }
            OnResponse::MutateTrailers(operations) => {
                mutation_filter::at_trailers(settled(operations, &printer), head, stages);
            }
            OnResponse::Slow(slow) => slow.respond(head, body.is_some(), stages),
            OnResponse::Mutate(operations) => apply_operations(operations, headers, &printer),
            OnResponse::Session(session) => session::tell(session, headers, record),
            OnResponse::Tell(bucket) => rate_limit::tell(bucket, headers),
            OnResponse::Remember(check) => health_check::remember(check, head),
            OnResponse::GrpcCall(call) => grpc::called(call, head, stages),
            OnResponse::Compress(offered) => {
                compression::compress(offered, filters, head, body.is_some(), stages);
            }
            OnResponse::Keep(keeping) => keeping.respond(head, body.is_some(), stages),
            OnResponse::Forget(forget) => forget.respond(head, body.is_some()),
            OnResponse::LastGood(good) => good.respond(head, body.is_some(), stages),
            OnResponse::Decompress(undoing) => compression::undo(undoing, head, stages),
            OnResponse::GrpcWeb(web) => grpc::to_browser(*web, head, body.as_deref_mut(), stages),
            OnResponse::TellWhen(bucket) => rate_limit::tell_when(bucket, headers),
            OnResponse::Hold { .. } => {}
        }
    }
}

/// Whether a filter of the chain runs, by its own word and by that of the most specific level that speaks of it.
fn runs(filter: &ChainedFilter, said: Option<&RouteFilter>) -> bool {
    match said {
        Some(RouteFilter::Disabled) => false,
        Some(_) => true,
        None => !filter.disabled,
    }
}

impl<D: Downstream> Exchange<'_, D> {
    /// Runs all filters; whether one of them answered.
    ///
    /// # Errors
    /// When a filter refuses the request, or the client went away.
    pub(super) async fn filter(&mut self, head: &mut RequestHead) -> Result<bool, Cut> {
        let manager = self.manager;
        for filter in &manager.filters {
            let chosen = self.chosen.clone();
            let decision = chosen.as_ref().map(|chosen| chosen.decision());
            let said = |decision: &Decision<'_>| decision.filter_settings(&filter.name).next().cloned();
            let said = decision.as_ref().and_then(said);
            if !runs(filter, said.as_ref()) {
                continue;
            }
            let answered = match &filter.filter {
                // These act where the head is made canonical, and where the endpoint is chosen.
                HttpFilter::StripPeerMetadata | HttpFilter::UpstreamAlpn(_) => false,
                HttpFilter::Fault(own) => {
                    let fault = match &said {
                        Some(RouteFilter::Fault(fault)) => fault,
                        _ => own,
                    };
                    self.suffer(fault, head).await?;
                    false
                }
                HttpFilter::Cors => self.cors(&filter.name, decision.as_ref(), head)?,
                HttpFilter::Access(own) => self.permit(own, said.as_ref(), head)?,
                asks @ (HttpFilter::ExternalAuthorization(_)
                | HttpFilter::GlobalRateLimit(_)
                | HttpFilter::HeaderMutation(_)
                | HttpFilter::StatefulSession(_)
                | HttpFilter::SetFilterState(_)) => {
                    self.ask(asks, &filter.name, decision.as_ref(), head).await?
                }
                HttpFilter::Quota(own) => self.allow(own, &filter.name, decision.as_ref(), head).await?,
                HttpFilter::LocalRateLimit(own) => {
                    self.limit(own, &filter.name, decision.as_ref(), head)?;
                    false
                }
                HttpFilter::Cache(own) => {
                    let cache = match &said {
                        Some(RouteFilter::Cache(cache)) => cache,
                        _ => own,
                    };
                    self.answer_kept(cache, head)?
                }
                HttpFilter::HealthCheck(check) => self.check_health(check, head)?,
                of_body @ (HttpFilter::Buffer(_)
                | HttpFilter::GrpcStats(_)
                | HttpFilter::GrpcWeb
                | HttpFilter::Compressor(_)
                | HttpFilter::Decompressor(_)) => {
                    self.at_body(of_body, said.as_ref(), head).await?;
                    false
                }
                HttpFilter::Unsupported(kind) => return Err(unsupported(&filter.name, kind).into()),
            };
            if answered {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Filters that ask a service, note what others act by, or change the head; whether one answered in the upstream's place.
    async fn ask(
        &mut self,
        filter: &HttpFilter,
        name: &str,
        decision: Option<&Decision<'_>>,
        head: &mut RequestHead,
    ) -> Result<bool, Cut> {
        match filter {
            HttpFilter::ExternalAuthorization(own) => {
                self.ask_authorization(own, name, decision, head).await?;
            }
            HttpFilter::GlobalRateLimit(own) => self.ask_limit(own, name, decision, head).await?,
            HttpFilter::HeaderMutation(own) => self.mutate(own, name, decision, head),
            HttpFilter::SetFilterState(own) => self.set_state(own, name, decision, head)?,
            HttpFilter::StatefulSession(own) => {
                let said = said(decision, name).next();
                self.join_session(own, said, head);
            }
            _ => {}
        }
        Ok(false)
    }

    /// Filters that look at bodies.
    async fn at_body(
        &mut self,
        filter: &HttpFilter,
        said: Option<&RouteFilter>,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        match filter {
            HttpFilter::Buffer(own) => {
                let buffer = match said {
                    Some(RouteFilter::Buffer(buffer)) => buffer,
                    _ => own,
                };
                self.collect(buffer, head).await?;
            }
            HttpFilter::GrpcStats(stats) => self.count_call(stats, head),
            HttpFilter::GrpcWeb => self.translate_browser(head),
            HttpFilter::Compressor(own) => self.offer(own, said, head),
            HttpFilter::Decompressor(own) => self.undo(own, head),
            _ => {}
        }
        Ok(())
    }

    /// Fault injection: waits, then aborts.
    async fn suffer(&mut self, fault: &Arc<Fault>, head: &RequestHead) -> Result<(), Cut> {
        if fault.is_idle() {
            return Ok(());
        }
        let cluster = fault
            .upstream_cluster
            .as_ref()
            .and_then(|_| self.cluster_config(head));
        let plan = {
            let facts = facts(head, &self.record);
            let cluster = cluster.as_ref().map_or("", |cluster| &cluster.name);
            self.context
                .worker
                .with_rng(|rng| fault.plan(&facts, cluster, rng))
        };
        if plan == FaultPlan::default() {
            return Ok(());
        }
        let cells = Arc::clone(&self.context.cells);
        if let Some(limit) = plan.response_limit
            && let Some(active) = fault.begin()
        {
            cells.fault.response_rl_injected.one();
            self.on_response
                .push(OnResponse::Slow(slow::Slow::new(limit, active)));
        }
        if plan.delay.is_none() && plan.abort.is_none() {
            return Ok(());
        }
        let Some(_active) = fault.begin() else {
            cells.fault.faults_overflow.one();
            return Ok(());
        };
        if let Some(delay) = plan.delay {
            self.record.flags.push("DI");
            cells.fault.delays_injected.one();
            let wait = tokio::time::sleep(delay);
            within(self.downstream, &Deadlines::default(), self.timer, pin!(wait)).await?;
        }
        let Some(abort) = plan.abort else {
            return Ok(());
        };
        cells.fault.aborts_injected.one();
        let (status, grpc) = match abort {
            AbortKind::Http(status) => (status, None),
            // A client of plain HTTP reads a 200, as from Envoy.
            AbortKind::Grpc(status) => (StatusCode::OK, Some(status)),
        };
        let denial = Denial {
            grpc,
            flag: "FI",
            ..Denial::new(status, "fault_filter_abort", "fault filter abort")
        };
        Err(Failure::from(denial).into())
    }

    /// The cluster that the route would go to.
    pub(super) fn cluster_config(&self, head: &RequestHead) -> Option<Arc<ClusterConfig>> {
        let chosen = self.chosen.as_ref()?;
        let Action::Forward(forward) = &chosen.route.action else {
            return None;
        };
        let world = self.context.worker.world();
        let cluster = target::cluster_of(&forward.cluster, chosen.weighted(), &head.headers, &world)?;
        Some(Arc::clone(&cluster.config))
    }

    /// Cross-origin resource sharing; whether a preflight was answered.
    fn cors(&mut self, name: &str, decision: Option<&Decision<'_>>, head: &RequestHead) -> Result<bool, Cut> {
        let Some(origin) = head.headers.get(header::ORIGIN) else {
            return Ok(false);
        };
        let levels: Vec<Arc<CorsPolicy>> = said(decision, name)
            .filter_map(|said| match said {
                RouteFilter::Cors(policy) => Some(Arc::clone(policy)),
                _ => None,
            })
            .collect();
        let asks_method = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let request = Preflight {
            origin: Some(origin),
            is_preflight: head.method == Method::OPTIONS
                && asks_method.is_some_and(|method| !method.is_empty()),
            private_network: head
                .headers
                .get("access-control-request-private-network")
                .is_some_and(|value| value == "true"),
        };
        let verdict = self
            .context
            .worker
            .with_rng(|rng| CorsPolicy::judge(&levels, &request, rng));
        let cells = &self.context.cells.cors;
        match &verdict {
            CorsVerdict::Pass => {}
            CorsVerdict::Forbidden
            | CorsVerdict::Shadow { allowed: false }
            | CorsVerdict::Preflight { allowed: false, .. } => cells.origin_invalid.one(),
            _ => cells.origin_valid.one(),
        }
        let headers = match verdict {
            CorsVerdict::Allowed(headers) => {
                self.on_response.push(OnResponse::Set(headers));
                return Ok(false);
            }
            CorsVerdict::Preflight { headers, .. } => headers,
            CorsVerdict::Pass | CorsVerdict::Shadow { .. } | CorsVerdict::Forbidden => return Ok(false),
        };
        self.record.details = "cors_response".into();
        let reply = Reply {
            status: StatusCode::OK,
            headers: headers.into_iter().collect(),
            body: Default::default(),
            reader: Reader::Http,
        };
        self.answer(reply, head)?;
        Ok(true)
    }
}

/// What the levels of the route say of the filter `name`, the most specific first; nothing without a route.
pub(super) fn said<'t>(decision: Option<&Decision<'t>>, name: &str) -> impl Iterator<Item = &'t RouteFilter> {
    let levels = decision.map(|decision| decision.filter_settings(name));
    levels.into_iter().flatten()
}

/// A route enables a filter that we do not have: what it would have decided is not known, so nothing passes.
fn unsupported(name: &str, kind: &str) -> Failure {
    let details = format!("unsupported_filter{{{name}|{kind}}}");
    Denial::new(StatusCode::INTERNAL_SERVER_ERROR, details, "").into()
}
