//! The life of a request, step by step: make its head canonical, choose its route, carry out a redirect or a direct
//! response, or choose an endpoint, take a connection, forward, and try once more if it is proven that nothing was
//! processed. At its end one record says everything.
//!
//! Holds: the world is pinned only while decisions are made; no feature logic stands here.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use remora_model::listener::{HttpManager, Routes};
use remora_model::retry::NO_RETRY;
use remora_model::route::{Action, Asked, DirectResponse, Forward, Outcome, RequestFacts, RouteTable};

use super::body::Stages;
use super::deadlines::LazyTimer;
use super::filters::OnResponse;
use super::forward::Cut;
use super::http::HttpContext;
use super::local_reply::{OVERLOADED, Reader, Reply, is_grpc};
use super::redirects::Redirects;
use super::request_head::Prepared;
use super::target::{self, Chosen};
use super::{announce, mutation, own_reply, request_head, response_head};
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::failure::Failure;
use crate::observe::ExchangeRecord;
use crate::worker::World;

/// One request on a connection.
pub struct Exchange<'a, D> {
    pub(super) context: &'a Rc<HttpContext>,
    pub(super) manager: &'a HttpManager,
    pub(super) downstream: &'a mut D,
    pub(super) timer: &'a mut LazyTimer,
    pub(super) record: ExchangeRecord,
    pub(super) request_id: Option<HeaderValue>,
    /// The route, once there is one: its mutations hold for our own replies too.
    pub(super) chosen: Option<Rc<Chosen>>,
    /// What filters do to the response.
    pub(super) on_response: Vec<OnResponse>,
    /// What they do to the request's body.
    pub(super) request_stages: Option<Box<Stages>>,
    /// The redirects that it follows, if it does.
    pub(super) redirects: Option<Box<Redirects>>,
    /// The route as it was chosen again, if a filter wanted that.
    pub(super) chosen_again: Option<Found>,
}

/// What the route table says of a request.
#[derive(Debug)]
pub enum Found {
    /// This route.
    Route(Rc<Chosen>),
    /// The virtual host wants TLS.
    UseTls,
    /// No virtual host, or no route.
    Nothing,
}

/// What a matcher may look at.
pub fn facts<'h>(head: &'h RequestHead, record: &'h ExchangeRecord) -> RequestFacts<'h> {
    let connect = head.method == Method::CONNECT && head.upgrade.is_none();
    RequestFacts {
        method: &head.method,
        scheme: head.scheme.as_ref().map_or("http", |scheme| scheme.as_str()),
        authority: head.authority.as_ref().map_or("", |authority| authority.as_str()),
        path_and_query: if connect { "" } else { head.path.as_str() },
        headers: &head.headers,
        certificate: record.connection.certificate(),
        internal: record.internal,
        metadata: record.metadata.as_deref(),
    }
}

impl<'a, D: Downstream> Exchange<'a, D> {
    /// A request whose head has just arrived.
    pub fn new(
        context: &'a Rc<HttpContext>,
        manager: &'a HttpManager,
        downstream: &'a mut D,
        timer: &'a mut LazyTimer,
    ) -> Self {
        let mut record = ExchangeRecord::new(Rc::clone(&context.record), Instant::now());
        record.quiet = manager
            .rare
            .as_ref()
            .is_some_and(|rare| rare.suppress_envoy_headers);
        Self {
            context,
            manager,
            downstream,
            timer,
            record,
            request_id: None,
            chosen: None,
            on_response: Vec::new(),
            request_stages: None,
            redirects: None,
            chosen_again: None,
        }
    }

    /// Serves it to its end.
    pub async fn serve(mut self, mut head: RequestHead) {
        let _active = self.context.request_begins(&head);
        let grpc = is_grpc(&head.headers);
        let mut outcome = self.steps(&mut head).await;
        while let Some(next) = self.next_redirect() {
            outcome = self.follow(next, &mut head).await;
        }
        if let Err(cut) = outcome {
            self.fail(&cut, &head, grpc).await;
        }
        self.flush().await;
        self.record.ended = Some(self.record.started.elapsed());
        if self.context.keeps_headers(self.manager) {
            self.record
                .note_sent(head.scheme.take(), head.authority.take(), &head.path);
            self.record.request_headers = Some(std::mem::take(&mut head.headers));
        }
        self.context.request_ended(self.manager, &self.record);
    }

    /// All steps; what they answer is sent, what fails is returned.
    async fn steps(&mut self, head: &mut RequestHead) -> Result<(), Cut> {
        let worker = &self.context.worker;
        let prepared = worker.with_rng(|rng| {
            request_head::prepare(head, self.manager, &self.context.record, &mut self.record, rng)
        })?;
        self.request_id = head.headers.get(request_head::X_REQUEST_ID).cloned();
        if prepared == Prepared::Redirect {
            let location = head.path.as_str().to_owned();
            self.redirect(StatusCode::TEMPORARY_REDIRECT, location, head)?;
            self.record.details = "path_normalization_failed".into();
            return Ok(());
        }
        if let Some(rare) = &self.manager.rare {
            announce::to_upstream(head, self.manager, rare, &self.record, &worker.shared);
        }
        let mut world = worker.world();
        self.record.generation = world.generation;
        let table = self.table(&world)?;
        if let Some(rare) = &table.rare {
            rare.strip(&mut head.headers, self.record.internal);
        }
        let mut found = self.choose(&table, head);
        if !self.manager.filters.is_empty() {
            // Filters may wait; the world may not.
            drop(world);
            if self.filter(head).await? {
                return Ok(());
            }
            world = worker.world();
            found = self.chosen_again.take().unwrap_or(found);
        }
        let chosen = match found {
            Found::Route(chosen) => chosen,
            Found::UseTls => return self.redirect_to_tls(head),
            Found::Nothing => {
                self.context.cells.http.no_route.one();
                return Err(Failure::NoRoute.into());
            }
        };
        self.act(&chosen, world, head).await
    }

    /// What the route does: a redirect, an answer, or a cluster of the world.
    pub(super) async fn act(
        &mut self,
        chosen: &Rc<Chosen>,
        world: Rc<World>,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        let route = Arc::clone(&chosen.route);
        let forward = match &route.action {
            Action::Forward(forward) => forward,
            Action::Redirect(redirect) => {
                let facts = facts(head, &self.record);
                let asked = Asked {
                    scheme: facts.scheme,
                    authority: facts.authority,
                    path_and_query: facts.path_and_query,
                };
                let printer = mutation::printer(head, &self.record);
                let location = redirect.location(&route.criteria.path, &asked, &printer);
                return self.redirect(redirect.status, location, head);
            }
            Action::Respond(answer) => {
                self.record.details = "direct_response".into();
                self.context.cells.http.rq_direct_response.one();
                return self.respond(answer, head);
            }
        };
        self.context.cells.http.rq_total.one();
        let cluster = target::cluster_of(&forward.cluster, chosen.weighted(), &head.headers, &world);
        drop(world);
        let cluster = cluster.ok_or_else(|| {
            self.context.cells.http.no_cluster.one();
            target::cluster_missing(forward)
        })?;
        self.record.cluster = Some(Arc::clone(&cluster.config));
        match forward.rare.as_deref().and_then(|rare| rare.fallback.as_deref()) {
            None => self.forward(&cluster, forward, chosen, head).await,
            Some(fallback) => {
                let to = (&cluster, &**forward, &**chosen);
                Box::pin(self.forward_or_fall_back(fallback, to, head)).await
            }
        }
    }

    /// The routes of this listener.
    fn table(&self, world: &World) -> Result<Arc<RouteTable>, Failure> {
        match &self.manager.routes {
            Routes::Inline(table) => Ok(Arc::clone(table)),
            Routes::Dynamic(id) => {
                let table = world.route_table(*id).cloned();
                let table = table.or_else(|| self.context.last_routes());
                table.ok_or(Failure::RoutesNotReady)
            }
        }
    }

    /// Looks for the route once more, by what a filter changed or noted (`clear_route_cache`).
    ///
    /// # Errors
    /// There are no routes any more.
    pub(super) fn choose_again(&mut self, head: &RequestHead) -> Result<(), Failure> {
        let table = match self.chosen.take() {
            Some(chosen) => Arc::clone(&chosen.table),
            None => self.table(&self.context.worker.world())?,
        };
        (self.record.route, self.record.virtual_host) = (None, None);
        self.chosen_again = Some(self.choose(&table, head));
        Ok(())
    }

    /// Looks for the route.
    fn choose(&mut self, table: &Arc<RouteTable>, head: &RequestHead) -> Found {
        let facts = facts(head, &self.record);
        match self.context.worker.with_rng(|rng| table.decide(&facts, rng)) {
            Outcome::Taken(decision) => {
                let chosen = Rc::new(Chosen::new(table, &decision));
                self.record.route = Some(Arc::clone(&chosen.route));
                self.record.virtual_host = Some(Arc::clone(&chosen.virtual_host));
                self.chosen = Some(Rc::clone(&chosen));
                Found::Route(chosen)
            }
            Outcome::RedirectToTls(_) => Found::UseTls,
            Outcome::NoVirtualHost | Outcome::NoRoute(_) => Found::Nothing,
        }
    }

    fn redirect_to_tls(&mut self, head: &RequestHead) -> Result<(), Cut> {
        let facts = facts(head, &self.record);
        let host = facts
            .authority
            .rsplit_once(':')
            .map_or(facts.authority, |(host, _)| host);
        let location = format!("https://{host}{}", facts.path_and_query);
        self.redirect(StatusCode::MOVED_PERMANENTLY, location, head)
    }

    fn redirect(&mut self, status: StatusCode, location: String, head: &RequestHead) -> Result<(), Cut> {
        self.record.details = "direct_response".into();
        self.context.cells.http.rq_redirect.one();
        let mut reply = Reply {
            status,
            headers: Default::default(),
            body: Default::default(),
            reader: Reader::Http,
        };
        if let Ok(location) = HeaderValue::try_from(location) {
            reply.headers.insert(LOCATION, location);
        }
        self.reply(reply, head)
    }

    /// Answers as the route says.
    fn respond(&mut self, answer: &DirectResponse, head: &RequestHead) -> Result<(), Cut> {
        let mut reply = Reply {
            status: answer.status,
            headers: Default::default(),
            body: answer.body.clone(),
            reader: Reader::of(&head.headers),
        };
        if answer.status == StatusCode::CREATED || answer.status.is_redirection() {
            let facts = facts(head, &self.record);
            let here = format!("{}://{}{}", facts.scheme, facts.authority, facts.path_and_query);
            if let Ok(here) = HeaderValue::try_from(here) {
                reply.headers.insert(LOCATION, here);
            }
        }
        if let Some(format) = &answer.format {
            reply.body = own_reply::direct(format, &answer.body, &self.record, &head.headers);
            reply.headers.insert(CONTENT_TYPE, format.content_type.clone());
        }
        self.reply(reply, head)
    }

    /// Sends a reply of our own.
    pub(super) fn reply(&mut self, mut reply: Reply, head: &RequestHead) -> Result<(), Cut> {
        if self.record.cluster.is_none() {
            // A filter answers: the cluster is that of the route all the same.
            self.record.cluster = self.cluster_config(head);
        }
        if let Some(chosen) = &self.chosen {
            mutation::response(&mut reply.headers, chosen, &self.record, Some(&head.headers));
        }
        let rare = self.manager.rare.as_ref();
        if let Some(said) = rare.and_then(|rare| rare.local_replies.as_ref()) {
            own_reply::rewrite(&mut reply, said, &mut self.record, &head.headers);
        }
        self.answer(reply.for_reader(), head)
    }

    /// Sends the reply of a filter, which a route does not mutate.
    pub(super) fn answer(&mut self, mut reply: Reply, head: &RequestHead) -> Result<(), Cut> {
        self.record.status = Some(reply.status.as_u16());
        reply.complete(head.version == http::Version::HTTP_2);
        self.answer_as_is(reply, head)
    }

    /// Sends a reply whose head is complete.
    pub(super) fn answer_as_is(&mut self, reply: Reply, head: &RequestHead) -> Result<(), Cut> {
        self.record.status = Some(reply.status.as_u16());
        let mut reply = reply
            .filtered(&self.on_response, &self.record, &head.headers)
            .map_err(Failure::UpstreamCut)?;
        response_head::finish(&mut reply.headers, self.manager, self.request_id.as_ref());
        let head_of = (&mut reply.headers, &mut reply.status);
        announce::to_client(head_of, self.manager, &self.record, &self.context.worker.shared);
        if self.context.keeps_headers(self.manager) {
            self.record.response_headers = Some(reply.headers.clone());
        }
        reply
            .send(self.downstream, &head.method, &mut self.record)
            .map_err(|gone| Failure::ClientGone(gone).into())
    }

    /// Tells a client that waits for it to send its body, unless that is the upstream's business
    /// (`proxy_100_continue`).
    pub(super) fn answer_expectation(&mut self, head: &mut RequestHead) -> Result<(), Failure> {
        if !head.expects_continue || self.manager.proxy_100_continue {
            return Ok(());
        }
        head.expects_continue = false;
        head.headers.remove(http::header::EXPECT);
        let go_on = ResponseHead {
            status: StatusCode::CONTINUE,
            headers: Default::default(),
            body: BodyLength::None,
            version: http::Version::HTTP_11,
        };
        self.downstream
            .send_informational(go_on)
            .map_err(Failure::ClientGone)
    }

    /// Refuses an upgrade that neither the route nor the connection manager enables.
    pub(super) fn check_upgrade(&self, forward: &Forward, head: &RequestHead) -> Result<(), Failure> {
        let wanted = match &head.upgrade {
            Some(token) => token.as_ref(),
            None if head.method == Method::CONNECT => "connect",
            None => return Ok(()),
        };
        let said = |upgrades: &[(Box<str>, bool)]| {
            upgrades
                .iter()
                .find(|(token, _)| token.eq_ignore_ascii_case(wanted))
                .map(|(_, enabled)| *enabled)
        };
        let allowed = said(&forward.upgrades)
            .or_else(|| said(&self.manager.upgrades))
            .unwrap_or(false);
        if !allowed {
            return Err(Failure::UpgradeRefused);
        }
        self.context.cells.http.downstream_cx_upgrades_total.one();
        Ok(())
    }

    /// Answers a failure, or cuts a response that was already begun.
    async fn fail(&mut self, cut: &Cut, head: &RequestHead, grpc: bool) {
        let said = cut.failure.said();
        if !cut.failure.raises_flag_late() {
            self.record.flags.push(said.flag);
        }
        self.record.details = said.details;
        self.record.failure = Some(cut.failure.sentence());
        self.context.count_failure(&cut.failure);
        if cut.head_sent || matches!(cut.failure, Failure::ClientGone(_)) {
            if self.context.record.multiplexed {
                // What was given leaves first: a reset takes back what the connection has not written.
                tokio::task::yield_now().await;
            }
            self.downstream.reset(h2::Reason::INTERNAL_ERROR);
            return;
        }
        if cut.failure.closes_connection() || head.method == Method::CONNECT {
            self.downstream.set_close();
        }
        let mut reply = Reply::to_failure(&cut.failure, grpc, self.record.attempts > 1);
        if self.record.quiet {
            reply.headers.remove(OVERLOADED);
        }
        if let Some(chosen) = self.chosen.as_ref().filter(|_| self.record.attempts > 0) {
            mutation::attempts_made(&mut reply.headers, chosen, self.record.attempts);
        }
        if self.record.is_in_vain(true) {
            reply.headers.insert(NO_RETRY, HeaderValue::from_static("1"));
        }
        // A client that is gone by now hears no answer.
        let _ = self.reply(reply, head);
        if cut.failure.raises_flag_late() {
            self.record.flags.push(said.flag);
        }
    }

    /// What was answered leaves, as long as the client takes it.
    async fn flush(&mut self) {
        let limit = self
            .manager
            .timeouts
            .stream_idle
            .unwrap_or(Duration::from_secs(300));
        let flushed = poll_fn(|cx| self.downstream.poll_flush(cx));
        // A client that takes nothing loses its connection afterwards.
        let _ = tokio::time::timeout(limit, flushed).await;
    }
}
