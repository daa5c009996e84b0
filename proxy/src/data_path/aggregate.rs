//! An attempt at an aggregate cluster is one at the member that can serve it now.

use std::sync::Arc;

use remora_model::cluster::{Cluster, Level};

use super::forward::Cut;
use super::journey::{Journey, Next};
use super::request::Exchange;
use super::{mutation, target};
use crate::exchange::{Downstream, RequestHead};
use crate::failure::Failure;
use crate::observe::ClusterCells;
use crate::upstream::Protocol;

/// The aggregate cluster whose member serves an attempt.
pub struct Aggregate<'a> {
    /// The cluster.
    pub cluster: &'a Arc<Cluster>,
    /// Its counters.
    pub cells: &'a ClusterCells,
    /// Which of its members is asked.
    pub level: Level,
}

impl<D: Downstream> Exchange<'_, D> {
    /// One attempt at a member of an aggregate cluster: all but the retries is the member's.
    pub(super) async fn attempt_at_member(
        &mut self,
        journey: &mut Journey<'_>,
        head: &mut RequestHead,
    ) -> Result<Next, Cut> {
        let worker = &self.context.worker;
        let chosen = target::member_of(worker, journey.cluster).inspect_err(|_| {
            journey.cells.traffic.upstream_cx_none_healthy.one();
        })?;
        let Some((member, level)) = chosen else {
            return Err(Failure::NoHealthyUpstream.into());
        };
        let cells = worker.counters.cluster(&member.config);
        let of = Aggregate {
            cluster: journey.cluster,
            cells: journey.cells,
            level,
        };
        let http2 = head.version == http::Version::HTTP_2;
        let own = member.config.rare.is_some().then(|| {
            let hash =
                |rng: &mut _| mutation::hash(&member.config, journey.forward, head, &self.record, rng).0;
            worker.with_rng(hash)
        });
        let mut inside = Journey {
            cluster: &member,
            hash: own.flatten().or(journey.hash),
            cells: &cells,
            protocol: Protocol::towards(member.config.http.protocol, http2),
            cookie: journey.cookie.clone(),
            deadlines: std::mem::take(&mut journey.deadlines),
            attempts: std::mem::take(&mut journey.attempts),
            replay: std::mem::take(&mut journey.replay),
            beside: journey.beside.take(),
            permit: None,
            of: Some(&of),
            ..*journey
        };
        let next = self.attempt(&mut inside, head).await;
        let Journey {
            deadlines,
            attempts,
            replay,
            beside,
            fresh,
            ..
        } = inside;
        (journey.deadlines, journey.attempts) = (deadlines, attempts);
        (journey.replay, journey.fresh) = (replay, fresh);
        journey.beside = beside;
        next
    }
}
