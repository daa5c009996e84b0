//! The way of a request to an endpoint and of its response back, as often as it takes: choose an endpoint, take a
//! connection, forward; again while it is proven that nothing was processed, or while the retry policy says so.
//!
//! Holds: once the client has seen the head of a response, there is no other attempt.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use remora_model::balance::Bringing;
use remora_model::cluster::{Cluster, PickFacts};
use remora_model::endpoint::Endpoint;
use remora_model::health::{Outcome, Permit};
use remora_model::retry::Ended;
use remora_model::route::{Forward, Origin, TimeLimit};

use super::aggregate::Aggregate;
use super::attempts::{Attempts, reset_of};
use super::deadlines::{Deadlines, starting};
use super::filters::{self, Responding};
use super::forward::{Cut, Done, Kept, Transfer, within};
use super::hedge::{self, Beside};
use super::redirects::Asked;
use super::replay::Replay;
use super::request::{Exchange, facts};
use super::target::{self, Chosen};
use super::verdict::{Verdict, Wanted};
use super::{announce, connect_end, mirror, mutation, response_head};
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::failure::Failure;
use crate::observe::{ClusterCells, ExchangeRecord};
use crate::upstream::{Acquire, InFlight, Lease, Protocol, UpstreamExchange, health, load};

/// How often a request may be sent again because a reused connection had died before anything was processed.
const REUSE_RETRIES: u32 = 3;

/// What a request needs on its way.
pub(super) struct Journey<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) cells: &'a ClusterCells,
    /// When the attempt began.
    pub(super) begun: Instant,
    pub(super) forward: &'a Forward,
    pub(super) chosen: &'a Chosen,
    pub(super) hash: Option<u64>,
    pub(super) protocol: Protocol,
    pub(super) cookie: Option<HeaderValue>,
    pub(super) deadlines: Deadlines,
    pub(super) response_limit: Option<TimeLimit>,
    pub(super) attempts: Attempts,
    pub(super) replay: Replay,
    /// Where the route hedges: the attempts that go on.
    pub(super) beside: Option<Box<Beside>>,
    /// A new connection, not a reused one.
    pub(super) fresh: bool,
    /// What the cluster's circuit breaker wants to hear of this attempt.
    pub(super) permit: Option<Permit>,
    /// Whose member the cluster is, in this attempt.
    pub(super) of: Option<&'a Aggregate<'a>>,
}

/// What follows an attempt.
pub(super) enum Next {
    /// The response is with the client.
    Done,
    /// Another attempt, after a wait.
    Again(Duration),
    /// The request goes to another place.
    Redirected,
    /// Another attempt at once: nothing of this one was processed.
    Unprocessed(Cut),
    /// An answer of the attempts that go on; without any this.
    Await(Cut),
}

impl<'a> Journey<'a> {
    /// What is left of the route's timeout.
    fn remaining(&self) -> Option<Duration> {
        let left = self
            .deadlines
            .response
            .map(|(at, _)| at.saturating_duration_since(Instant::now()));
        left.or(self.response_limit.map(|limit| limit.limit))
    }

    /// Whether attempts go on beside the one that is made.
    pub(super) fn goes_on(&self) -> bool {
        self.beside.as_deref().is_some_and(Beside::is_running)
    }

    /// Whose limit of retries holds, and where they are counted.
    pub(super) fn retrying(&self) -> (&'a Arc<Cluster>, &'a ClusterCells) {
        self.of
            .map_or((self.cluster, self.cells), |of| (of.cluster, of.cells))
    }
}

impl<D: Downstream> Exchange<'_, D> {
    /// Brings the request to the cluster and its response to the client.
    ///
    /// # Errors
    /// Why there is no response.
    pub(super) async fn forward(
        &mut self,
        cluster: &Arc<Cluster>,
        forward: &Forward,
        chosen: &Chosen,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        self.check_upgrade(forward, head)?;
        self.answer_expectation(head)?;
        let counted = (&**cluster, self.record.started);
        let attempts = Attempts::new(forward, &facts(head, &self.record), self.record.internal, counted);
        let limits = forward.time_limits(&self.manager.timeouts, &head.headers, self.record.internal);
        let deadlines = Deadlines::new(&limits, self.record.started);
        let (hash, cookie) = self
            .context
            .worker
            .with_rng(|rng| mutation::hash(&cluster.config, forward, head, &self.record, rng));
        // Where the route hedges, an attempt may take longer than its limit says.
        let per_try = attempts
            .limits()
            .0
            .filter(|_| !forward.hedges(head.upgrade.is_some()));
        let told = shorter(limits.response, per_try);
        let by_router = mutation::request(head, forward, chosen, told, &self.record);
        // A redirect that is followed says our own limit already.
        self.record.by_router |= by_router && self.redirects.is_none();
        let first_use = if cluster.endpoints.endpoints.is_empty() {
            let asked = target::with_endpoints(&self.context.worker, cluster);
            within(self.downstream, &deadlines, self.timer, pin!(asked)).await??
        } else {
            None
        };
        let cluster = first_use.as_ref().unwrap_or(cluster);
        let cells = self.context.worker.counters.cluster(&cluster.config);
        let http2 = head.version == http::Version::HTTP_2;
        let replay = if head.body == BodyLength::None && forward.rare.is_none() {
            Replay::default()
        } else {
            self.kept_body(forward, head, &attempts, limits.response)
        };
        if let Some(end) = forward
            .rare
            .as_deref()
            .and_then(|rare| connect_end::of(rare, head))
        {
            let to = (cluster, &cells, hash);
            return Box::pin(self.end_connect(to, end, (chosen, forward), (head, &deadlines))).await;
        }
        let journey = Journey {
            cluster,
            cells: &cells,
            forward,
            chosen,
            hash,
            protocol: Protocol::towards(cluster.config.http.protocol, http2),
            cookie,
            deadlines,
            response_limit: limits.response,
            attempts,
            replay,
            beside: forward.hedges(head.upgrade.is_some()).then(Box::default),
            fresh: false,
            begun: self.record.started,
            permit: None,
            of: None,
        };
        self.travel(journey, head).await
    }

    /// What of the request's body is kept for another attempt or place, and copied.
    fn kept_body(
        &mut self,
        forward: &Forward,
        head: &RequestHead,
        attempts: &Attempts,
        timeout: Option<TimeLimit>,
    ) -> Replay {
        let rare = forward.rare.as_deref();
        let follows = rare.is_some_and(|rare| rare.internal_redirect.is_some());
        let kept = self
            .redirects
            .as_mut()
            .and_then(|redirects| redirects.replay.take());
        let buffer = forward.buffer_limit.unwrap_or(self.manager.buffer_limit.into());
        let mut replay = if let Some(kept) = kept.filter(|_| head.body != BodyLength::None) {
            kept
        } else if (attempts.may_retry() || follows) && head.body != BodyLength::None && head.upgrade.is_none()
        {
            Replay::keeping(buffer)
        } else {
            Replay::default()
        };
        if let Some(rare) = rare.filter(|rare| !rare.mirrors.is_empty()) {
            let source = mirror::Source {
                context: self.context,
                record: &self.record,
                head,
                manager: self.manager,
                timeout,
                buffer,
            };
            replay.copy_to(mirror::start(&rare.mirrors, &source));
        }
        replay
    }

    /// Attempt after attempt.
    async fn travel(&mut self, mut journey: Journey<'_>, head: &mut RequestHead) -> Result<(), Cut> {
        let (mut races, mut wait) = (0, Duration::ZERO);
        loop {
            self.record.attempts += 1;
            let retried = self.record.attempts > 1;
            if retried {
                journey.replay.rewind();
                let per_try = journey.attempts.limits().0.filter(|_| journey.beside.is_none());
                let per_try = per_try.map(|limit| limit.limit);
                let told = journey.remaining().into_iter().chain(per_try).min();
                let timed_out = journey.attempts.timed_out;
                let told = told.filter(|_| !self.record.quiet);
                mutation::attempt(head, journey.chosen, self.record.attempts, timed_out, told);
            }
            let next = match journey.beside {
                None => self.attempt(&mut journey, head).await?,
                Some(_) => Box::pin(self.hedged(&mut journey, head, wait)).await?,
            };
            match next {
                Next::Await(cut) => return Err(cut),
                Next::Done => {
                    if retried {
                        journey.cells.traffic.upstream_rq_retry_success.one();
                    }
                    return Ok(());
                }
                Next::Redirected => {
                    journey.replay.rewind();
                    if let Some(redirects) = &mut self.redirects {
                        redirects.replay = Some(journey.replay).filter(|_| head.body != BodyLength::None);
                    }
                    return Ok(());
                }
                Next::Unprocessed(cut) if races == REUSE_RETRIES => return Err(cut),
                Next::Unprocessed(_) => {
                    races += 1;
                    journey.cells.traffic.upstream_rq_retry.one();
                    journey.cells.traffic.upstream_rq_reuse_race_retried.one();
                }
                Next::Again(later) => {
                    wait = later;
                    journey.deadlines.attempt = None;
                    journey.deadlines.attempt_idle = None;
                    journey.deadlines.upstream = None;
                    if journey.goes_on() {
                        continue;
                    }
                    within(
                        self.downstream,
                        &journey.deadlines,
                        self.timer,
                        pin!(tokio::time::sleep(wait)),
                    )
                    .await?;
                }
            }
        }
    }

    /// One attempt and what follows it.
    pub(super) async fn attempt(
        &mut self,
        journey: &mut Journey<'_>,
        head: &mut RequestHead,
    ) -> Result<Next, Cut> {
        if journey.cluster.stands_for().is_some() {
            return Box::pin(self.attempt_at_member(journey, head)).await;
        }
        let now = Instant::now();
        journey.begun = now;
        let (per_try, idle) = journey.attempts.limits();
        let complete = head.body == BodyLength::None || journey.replay.is_complete();
        journey.deadlines.attempt = starting(now, per_try.filter(|_| complete));
        journey.deadlines.attempt_idle = idle;
        let duration = journey.cluster.config.http.stream_duration;
        journey.deadlines.upstream = starting(now, Origin::ClusterDuration.sets(duration));
        if idle.is_some() {
            journey.deadlines.progress = Some(now);
        }
        if journey.cluster.config.health.is_some() {
            journey.permit = health::admitted(&self.context.worker, journey.cluster)?;
        }
        let (lease, in_flight) = match self.lease(journey, head).await {
            Ok(lease) => lease,
            Err(failure) => {
                health::broke(&self.context.worker, &mut journey.permit, &failure);
                return self.after(journey, failure.into());
            }
        };
        let reused = lease.record().reused;
        journey.attempts.tries(&lease.record().endpoint);
        self.record.upstream = Some(lease.record().clone());
        let worker = &self.context.worker;
        let upstream = match UpstreamExchange::begin(worker, journey.cluster, (lease, in_flight), head) {
            Ok(upstream) => upstream,
            Err((error, true)) => return Ok(Next::Unprocessed(Failure::UpstreamReset(error).into())),
            Err((error, false)) => return self.after(journey, Failure::UpstreamReset(error).into()),
        };
        self.transfer(journey, head, (upstream, head.body), reused).await
    }

    /// Moves the request, with so much of a body, up and the response down.
    pub(super) async fn transfer(
        &mut self,
        journey: &mut Journey<'_>,
        head: &mut RequestHead,
        (mut upstream, body): (UpstreamExchange, BodyLength),
        reused: bool,
    ) -> Result<Next, Cut> {
        let (manager, request_id) = (self.manager, self.request_id.as_ref());
        let (chosen, cookie, cells) = (journey.chosen, &journey.cookie, journey.cells);
        let (keep, worker) = (self.context.keeps_headers(manager), &self.context.worker);
        let (cluster, retrying, beside) = (journey.cluster, journey.retrying(), journey.beside.as_deref());
        let (flag, attempt_limit) = (Cell::new(None), journey.attempts.limits().0);
        let mut verdict = Verdict {
            worker,
            cluster,
            cells,
            watched: upstream.watched(cluster),
            load: load::Seen::since(journey.begun),
            permit: &mut journey.permit,
            retrying,
            beside,
            head,
            redirect: Asked::of(journey.forward, chosen, self.redirects.as_deref(), &self.record),
            attempts: &mut journey.attempts,
            wanted: Wanted::default(),
            flag: &flag,
            http: &self.context.cells,
        };
        let transfer = Transfer {
            downstream: &mut *self.downstream,
            upstream: &mut upstream,
            deadlines: &mut journey.deadlines,
            timer: &mut *self.timer,
            context: self.context,
            record: &mut self.record,
            replay: &mut journey.replay,
            response_limit: journey.response_limit,
            attempt_limit,
            keep_trailers: keep || load::wants_reports(cluster),
            trailers: target::trailers(manager, cluster, head.version, journey.protocol),
            up: self.request_stages.as_deref_mut(),
            down: None,
        };
        let outcome = transfer
            .run(
                body,
                head.upgrade.is_some(),
                |response: &ResponseHead, kept: Kept| verdict.declines(response, kept),
                |response, record, stages| {
                    begins(record, flag.get(), beside);
                    response_head::from_upstream(response, record, head.upgrade.as_deref());
                    mutation::response(&mut response.headers, chosen, record, Some(&head.headers));
                    mutation::attempts_made(&mut response.headers, chosen, record.attempts);
                    mutation::set_cookie(&mut response.headers, cookie);
                    let responding = Responding::of(response, stages);
                    filters::respond(&self.on_response, responding, record, Some(&head.headers));
                    announce::finish(response, manager, request_id, record, &self.context.worker.shared);
                    if keep {
                        record.response_headers = Some(response.headers.clone());
                    }
                },
            )
            .await;
        let wanted = verdict.ended(self.record.response_trailers.as_ref());
        self.settle(journey, upstream, outcome, wanted, (reused, head))
    }

    /// What becomes of an attempt's connection, and what follows.
    fn settle(
        &mut self,
        journey: &mut Journey<'_>,
        upstream: UpstreamExchange,
        outcome: Result<Done, Cut>,
        wanted: Wanted,
        (reused, head): (bool, &RequestHead),
    ) -> Result<Next, Cut> {
        match outcome {
            Ok(Done::Complete) => {
                let now = journey.deadlines.progress.unwrap_or(self.record.started);
                upstream.finish(&self.record, now);
                Ok(Next::Done)
            }
            Ok(Done::Declined) => {
                if let Some((followed, status)) = wanted.followed {
                    self.goes_on(followed);
                    upstream.discard(status);
                    return Ok(Next::Redirected);
                }
                if let Some(status) = wanted.others {
                    upstream.discard(status);
                    return Ok(Next::Await(Failure::NoHealthyUpstream.into()));
                }
                let (wait, status) = wanted.again.unwrap_or_default();
                upstream.discard(status);
                Ok(Next::Again(wait))
            }
            Err(cut) => {
                let unprocessed = upstream.proves_unprocessed(&cut.failure, reused, &head.method);
                if !unprocessed {
                    let worker = &self.context.worker;
                    health::failed(worker, journey.cluster, upstream.endpoint(), &cut.failure);
                    health::broke(worker, &mut journey.permit, &cut.failure);
                }
                if hedge::outlives(journey, &cut, head.body) {
                    return Ok(self.hedge(journey, upstream, cut));
                }
                upstream.fail(&cut.failure, &self.record);
                // The next attempt does not take a connection that may have died too.
                journey.fresh |= unprocessed;
                let by_policy =
                    reset_of(&cut.failure).is_some_and(|reset| journey.attempts.covers(&Ended::Reset(reset)));
                if unprocessed && !by_policy && !cut.head_sent && journey.replay.possible() {
                    return Ok(Next::Unprocessed(cut));
                }

                self.after(journey, cut)
            }
        }
    }

    /// Whether an attempt that failed is made again.
    fn after(&mut self, journey: &mut Journey<'_>, cut: Cut) -> Result<Next, Cut> {
        let reset = if cut.head_sent {
            None
        } else {
            reset_of(&cut.failure)
        };
        let Some(reset) = reset else { return Err(cut) };
        let possible = journey.replay.possible();
        let (cluster, cells) = journey.retrying();
        let again = self.context.worker.with_rng(|rng| {
            let ended = Ended::Reset(reset);
            journey.attempts.again(&ended, possible, cluster, cells, rng)
        });
        self.note_exhausted(journey);
        again.map(Next::Again).ok_or(cut)
    }

    pub(super) fn note_exhausted(&mut self, journey: &Journey<'_>) {
        self.record.gave_up(journey.attempts.flag());
    }

    /// Endpoint and connection.
    async fn lease(
        &mut self,
        journey: &Journey<'_>,
        head: &mut RequestHead,
    ) -> Result<(Lease, InFlight), Failure> {
        let worker = &self.context.worker;
        let cluster = journey.cluster;
        let endpoint = self.choose_endpoint(journey, head).inspect_err(|_| {
            journey.cells.traffic.upstream_cx_none_healthy.one();
        })?;
        mutation::endpoint_host(head, journey.forward, &endpoint, &self.record);
        let protocol = journey.protocol;
        let server_name = cluster.config.server_name(head.authority.as_ref(), &head.headers);
        let alpn = target::upstream_alpn(self.manager, protocol);
        let wanted = Acquire {
            cluster,
            endpoint: &endpoint,
            priority: journey.forward.priority,
            protocol,
            server_name,
            alpn,
            caller: Some(&self.context.record),
            fresh: journey.fresh,
        };
        let acquire = worker.pools.acquire(worker, wanted);
        let outcome = within(self.downstream, &journey.deadlines, self.timer, pin!(acquire)).await;
        let outcome = outcome.and_then(|lease| lease);
        if cluster.config.health.is_some() {
            match &outcome {
                Ok(_) => health::report(worker, cluster, &endpoint, Outcome::Connected),
                Err(failure) => health::failed(worker, cluster, &endpoint, failure),
            }
        }
        outcome.inspect_err(|failure| {
            if let Failure::Connect(failure) = failure {
                self.record.transport_failure = Some(failure.reason().into_owned());
            }
        })
    }

    /// An endpoint; one that was tried is left for another as often as the policy says.
    fn choose_endpoint(&self, journey: &Journey<'_>, head: &RequestHead) -> Result<Arc<Endpoint>, Failure> {
        let worker: &Rc<_> = &self.context.worker;
        let destination = self.context.record.original_destination();
        let facts = PickFacts {
            hash: journey.hash,
            labels: journey.chosen.labels(journey.forward),
            level: journey.of.map(|of| of.level),
            ..PickFacts::default()
        };
        let bringing = Bringing {
            headers: Some(&head.headers),
            metadata: self.record.metadata.as_deref(),
            attempts: self.record.attempts.saturating_sub(1),
        };
        let choose = || target::endpoint_of(worker, journey.cluster, &facts, destination, &bringing);
        let session = filters::session(&self.on_response).filter(|_| self.record.attempts == 1);
        if let Some(endpoint) = session.and_then(|session| session.chosen(journey.cluster).transpose()) {
            return endpoint;
        }
        let mut endpoint = choose()?;
        for _ in 0..journey.attempts.other_choices() {
            if !journey.attempts.was_tried(&endpoint) {
                break;
            }
            endpoint = choose()?;
        }
        Ok(endpoint)
    }
}

/// The client sees a response now.
fn begins(record: &mut ExchangeRecord, flag: Option<&'static str>, beside: Option<&Beside>) {
    record.gave_up(flag);
    if let Some(beside) = beside {
        beside.commit();
    }
}

/// The shorter of two limits.
fn shorter(one: Option<TimeLimit>, other: Option<TimeLimit>) -> Option<Duration> {
    let both = [one, other].into_iter().flatten();
    both.map(|limit| limit.limit).min()
}
