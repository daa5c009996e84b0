//! Is the response of an attempt the client's, or is the request sent once more, here or to another place?
//!
//! Asked once for each final head, before the client sees any of it. Endpoints learn here how they answered.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use remora_model::cluster::Cluster;
use remora_model::endpoint::Endpoint;
use remora_model::health::Permit;
use remora_model::retry::Ended;

use super::attempts::Attempts;
use super::forward::Kept;
use super::hedge::Beside;
use super::local_reply::is_grpc;
use super::redirects::{Asked, Followed};
use crate::exchange::{RequestHead, ResponseHead};
use crate::observe::{ClusterCells, HttpCells};
use crate::upstream::{health, load};
use crate::worker::Worker;

/// What is wanted instead of a response, and the status that it had.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Another attempt, after this wait.
    pub again: Option<(Duration, u16)>,
    /// Another place.
    pub followed: Option<(Followed, u16)>,
    /// The answer of another attempt, which goes on.
    pub others: Option<u16>,
}

/// What is asked, and what came of it.
pub struct Verdict<'a> {
    /// The worker.
    pub worker: &'a Worker,
    /// The cluster that answers.
    pub cluster: &'a Arc<Cluster>,
    /// Its counters.
    pub cells: &'a ClusterCells,
    /// Whose limit of retries holds, and where they are counted.
    pub retrying: (&'a Arc<Cluster>, &'a ClusterCells),
    /// The endpoint, where somebody watches how it answers.
    pub watched: Option<Arc<Endpoint>>,
    /// The request.
    pub head: &'a RequestHead,
    /// Its attempts.
    pub attempts: &'a mut Attempts,
    /// Where redirects are followed.
    pub redirect: Option<Asked<'a>>,
    /// What came of it.
    pub wanted: Wanted,
    /// Counters of the connection manager.
    pub http: &'a HttpCells,
    /// Why there is no other attempt, as a response flag.
    pub flag: &'a Cell<Option<&'static str>>,
    /// The attempts that go on, where the route hedges.
    pub beside: Option<&'a Beside>,
    /// What was seen of the endpoint's load.
    pub load: load::Seen,
    /// The place that a breaker gave.
    pub permit: &'a mut Option<Permit>,
}

impl Verdict<'_> {
    /// What came of it. The response ended with these trailers: a report of the endpoint's load may stand there.
    pub fn ended(self, trailers: Option<&HeaderMap>) -> Wanted {
        if let (Some(endpoint), Some(trailers)) = (&self.watched, trailers)
            && !self.load.reported
        {
            let now = self.worker.shared.started.elapsed();
            load::reported(self.cluster, endpoint, trailers, now);
        }
        self.wanted
    }

    /// Whether the response is not for the client.
    pub fn declines(&mut self, response: &ResponseHead, kept: Kept) -> bool {
        if let Some(endpoint) = &self.watched {
            let grpc = || is_grpc(&self.head.headers);
            let permit = &mut *self.permit;
            let load = (permit, Some(self.load.begun.elapsed()));
            self.load.reported = health::answered(self.worker, self.cluster, endpoint, response, grpc, load);
        }
        let ended = Ended::Answered(response.status, &response.headers);
        let (attempts, (cluster, cells)) = (&mut *self.attempts, self.retrying);
        let wait = self
            .worker
            .with_rng(|rng| attempts.again(&ended, kept.possible, cluster, cells, rng));
        self.wanted.again = wait.map(|wait| (wait, response.status.as_u16()));
        self.flag.set(self.attempts.flag());
        if self.wanted.again.is_none()
            && let Some(redirect) = &self.redirect
        {
            let whole = kept.possible && kept.whole;
            let followed = redirect.follow(response, self.head, whole, self.worker, (self.http, self.cells));
            self.wanted.followed = followed.map(|followed| (followed, response.status.as_u16()));
        }
        if self.wanted.again.is_none()
            && self.wanted.followed.is_none()
            && self.beside.is_some_and(Beside::has_others)
            && self.attempts.covers(&ended)
        {
            self.wanted.others = Some(response.status.as_u16());
        }
        let Wanted {
            again,
            followed,
            others,
        } = &self.wanted;
        again.is_some() || followed.is_some() || others.is_some()
    }
}
