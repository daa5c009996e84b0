//! Follows an upstream's redirect in the client's place (`internal_redirect_policy`).
//!
//! Holds: only a request that was received whole is sent to another place, with the body that was kept; what the policy
//! does not allow goes to the client as it is, counted by its reason. A redirect runs the filters again, as in Envoy.

use std::rc::Rc;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use remora_model::route::{
    ClientCertificate, Forward, InternalRedirect, NotFollowed, Outcome, RedirectTarget, RequestFacts, Trail,
};

use super::forward::Cut;
use super::replay::Replay;
use super::request::{Exchange, Found};
use super::target::Chosen;
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::failure::Failure;
use crate::observe::{ClusterCells, ExchangeRecord, HttpCells};
use crate::worker::Worker;

const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-envoy-original-url");

/// The redirects of one request.
#[derive(Debug, Default)]
pub struct Redirects {
    trail: Trail,
    /// Where it goes next.
    next: Option<Followed>,
    /// Its body, kept for that.
    pub replay: Option<Replay>,
}

/// A redirect that is followed.
#[derive(Debug)]
pub struct Followed {
    head: RequestHead,
    chosen: Rc<Chosen>,
}

/// What is known when a response may be a redirect.
pub struct Asked<'a> {
    policy: &'a InternalRedirect,
    redirects: Option<&'a Redirects>,
    chosen: &'a Chosen,
    tls: bool,
    certificate: ClientCertificate,
    internal: bool,
}

impl<'a> Asked<'a> {
    /// Where the route follows redirects.
    pub fn of(
        forward: &'a Forward,
        chosen: &'a Chosen,
        redirects: Option<&'a Redirects>,
        record: &ExchangeRecord,
    ) -> Option<Self> {
        let policy = forward.rare.as_deref()?.internal_redirect.as_ref()?;
        Some(Self {
            policy,
            redirects,
            chosen,
            tls: record.connection.tls.is_some(),
            certificate: record.connection.certificate(),
            internal: record.internal,
        })
    }

    /// Where the request goes, if the response is a redirect that is followed; `whole` says that all of the request was
    /// received and kept.
    pub fn follow(
        &self,
        response: &ResponseHead,
        head: &RequestHead,
        whole: bool,
        worker: &Worker,
        (http, cells): (&HttpCells, &ClusterCells),
    ) -> Option<Followed> {
        if !self.policy.concerns(response.status) {
            return None;
        }
        let decided = whole.then(|| self.decide(response, head, worker));
        let Some(Ok(followed)) = decided else {
            if let Some(Err(why)) = decided {
                let http = &http.http;
                match why {
                    NotFollowed::BadLocation => http.passthrough_internal_redirect_bad_location.one(),
                    NotFollowed::UnsafeScheme => http.passthrough_internal_redirect_unsafe_scheme.one(),
                    NotFollowed::TooMany => http.passthrough_internal_redirect_too_many_redirects.one(),
                    NotFollowed::NoRoute => http.passthrough_internal_redirect_no_route.one(),
                    NotFollowed::Predicate => http.passthrough_internal_redirect_predicate.one(),
                }
            }
            cells.traffic.upstream_internal_redirect_failed_total.one();
            return None;
        };
        cells.traffic.upstream_internal_redirect_succeeded_total.one();
        Some(followed)
    }

    fn decide(
        &self,
        response: &ResponseHead,
        head: &RequestHead,
        worker: &Worker,
    ) -> Result<Followed, NotFollowed> {
        let none = Trail::default();
        let trail = self.redirects.map_or(&none, |redirects| &redirects.trail);
        let https = head.scheme == Some(Scheme::HTTPS) && self.tls;
        let location = response.headers.get(header::LOCATION).map(HeaderValue::as_bytes);
        let target = self.policy.target(location, https, trail)?;
        let to_https = target.scheme == Scheme::HTTPS;
        let head = self.head(response, head, target, https);
        let facts = RequestFacts {
            method: &head.method,
            scheme: head.scheme.as_ref().map_or("http", Scheme::as_str),
            authority: head.authority.as_ref().map_or("", |authority| authority.as_str()),
            path_and_query: head.path.as_str(),
            headers: &head.headers,
            certificate: self.certificate,
            internal: self.internal,
            metadata: None,
        };
        let table = &self.chosen.table;
        let Outcome::Taken(decision) = worker.with_rng(|rng| table.decide(&facts, rng)) else {
            return Err(NotFollowed::NoRoute);
        };
        let names = (&self.chosen.route.name, &decision.route.name);
        if !self.policy.accepts(trail, names, (https, to_https)) {
            return Err(NotFollowed::Predicate);
        }
        let chosen = Rc::new(Chosen::new(table, &decision));
        Ok(Followed { head, chosen })
    }

    /// The request as it goes to the target.
    fn head(
        &self,
        response: &ResponseHead,
        head: &RequestHead,
        target: RedirectTarget,
        https: bool,
    ) -> RequestHead {
        let mut next = head.clone();
        for name in &self.policy.copied {
            next.headers.remove(name);
            for value in response.headers.get_all(name) {
                next.headers.append(name, value.clone());
            }
        }
        let scheme = if https { "https" } else { "http" };
        let authority = head.authority.as_ref().map_or("", |authority| authority.as_str());
        let original = format!("{scheme}://{authority}{}", head.path);
        if let Ok(original) = HeaderValue::try_from(original) {
            next.headers.insert(ORIGINAL_URL, original);
        }
        (next.scheme, next.authority, next.path) = (Some(target.scheme), Some(target.authority), target.path);
        // RFC 9110 section 15.4.4.
        if response.status == StatusCode::SEE_OTHER && !matches!(head.method, Method::GET | Method::HEAD) {
            next.method = Method::GET;
            next.headers.remove(header::CONTENT_LENGTH);
            next.body = BodyLength::None;
        }
        next
    }
}

impl<D: Downstream> Exchange<'_, D> {
    /// The request goes where a redirect said, once this attempt is cleaned up; its body goes with it.
    pub(super) fn goes_on(&mut self, followed: Followed) {
        let redirects = self.redirects.get_or_insert_default();
        let from = self.chosen.as_ref().map(|chosen| chosen.route.name.clone());
        let to = followed.chosen.route.name.clone();
        redirects.trail.count += 1;
        redirects.trail.seen.extend(from.map(|from| (from, to)));
        redirects.next = Some(followed);
    }

    /// Where it goes next, if it does.
    pub(super) fn next_redirect(&mut self) -> Option<Followed> {
        self.redirects.as_mut()?.next.take()
    }

    /// Sends it there: filters, route and cluster as for a new request.
    pub(super) async fn follow(&mut self, followed: Followed, head: &mut RequestHead) -> Result<(), Cut> {
        let Followed { head: next, chosen } = followed;
        *head = next;
        self.on_response.clear();
        self.request_stages = None;
        self.record.attempts = 0;
        self.record.metadata = None;
        self.record.cluster = None;
        self.record.route = Some(chosen.route.clone());
        self.record.virtual_host = Some(chosen.virtual_host.clone());
        self.chosen = Some(Rc::clone(&chosen));
        if !self.manager.filters.is_empty() && self.filter(head).await? {
            return Ok(());
        }
        let chosen = match self.chosen_again.take() {
            None => chosen,
            Some(Found::Route(again)) => again,
            Some(Found::UseTls | Found::Nothing) => return Err(Failure::NoRoute.into()),
        };
        let world = self.context.worker.world();
        self.act(&chosen, world, head).await
    }
}
