//! CONNECT (or POST) requests that end here: their bodies are carried to an endpoint that speaks TCP (`connect_config`).
//!
//! Holds: the client is told 200 once the endpoint is connected and not before; the end of one direction is the end of that direction
//! only; idle limits are those of any stream, the route's timeout does not count, as the response has begun.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode, Version};
use remora_model::balance::Bringing;
use remora_model::cluster::{Cluster, PickFacts, RequestPriority};
use remora_model::proxy_protocol;
use remora_model::route::{ConnectEnd, Forward, Rare};
use tokio::io::AsyncWriteExt;

use super::deadlines::Deadlines;
use super::forward::{Cut, within};
use super::request::Exchange;
use super::target::Chosen;
use super::tunnel::{Broken, End, Inside, Side, Watch, relay};
use super::{mutation, response_head, target};
use crate::exchange::StreamError;
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::failure::{ConnectFailure, Failure, Limit, Timer};
use crate::observe::{ClusterCells, UpstreamRecord};
use crate::upstream::{Connected, OpenConnection, Places, Wish, connect};

impl<D: Downstream> Exchange<'_, D> {
    /// Connects, answers 200, and carries both bodies.
    ///
    /// # Errors
    /// No endpoint, no connection, or a side that broke off.
    pub(super) async fn end_connect(
        &mut self,
        (cluster, cells, hash): (&Arc<Cluster>, &Arc<ClusterCells>, Option<u64>),
        end: &ConnectEnd,
        (chosen, forward): (&Chosen, &Forward),
        (head, deadlines): (&RequestHead, &Deadlines),
    ) -> Result<(), Cut> {
        self.record.attempts = 1;
        let member = target::member_of(&self.context.worker, cluster)?;
        let of_member = member
            .as_ref()
            .map(|(member, _)| self.context.worker.counters.cluster(&member.config));
        let cells = of_member.as_ref().unwrap_or(cells);
        let cluster = member.as_ref().map_or(cluster, |(member, _)| member);
        let facts = PickFacts {
            hash,
            labels: chosen.labels(forward),
            level: member.as_ref().map(|(_, level)| *level),
            ..PickFacts::default()
        };
        let (mut connected, open) = self
            .reach((cluster, cells), (end, forward.priority), &facts, deadlines)
            .await?;
        self.accept(chosen, head)?;
        let life = deadlines.stream.map(|(at, _)| at);
        let watch = Watch::new(self.context.handle(), deadlines.idle.map(|idle| idle.limit), life);
        let (moved, end) = relay(&mut connected.io, self.downstream, Inside::Downstream, watch).await;
        drop(open);
        self.record.received = moved.up;
        self.record.sent = moved.down;
        cells.traffic.upstream_cx_tx_bytes_total.add(moved.up);
        cells.traffic.upstream_cx_rx_bytes_total.add(moved.down);
        let failure = match end {
            End::Closed => return Ok(()),
            End::Broken(Broken {
                side: Side::Upstream, ..
            }) => Failure::UpstreamCut(StreamError::Truncated),
            End::Broken(Broken {
                side: Side::Client, ..
            }) => {
                connected.io.reset_on_close();
                Failure::ClientGone(StreamError::Truncated)
            }
            End::Idle | End::TooOld => match timer_of(end, deadlines) {
                Some(timer) => Failure::Timeout(timer),
                None => return Ok(()),
            },
            End::Drained => Failure::Draining,
        };
        Err(Cut {
            failure,
            head_sent: true,
        })
    }

    /// A connection to an endpoint, with the PROXY header that the route wants in front.
    async fn reach(
        &mut self,
        (cluster, cells): (&Arc<Cluster>, &Arc<ClusterCells>),
        (end, priority): (&ConnectEnd, RequestPriority),
        facts: &PickFacts<'_>,
        deadlines: &Deadlines,
    ) -> Result<(Connected, OpenConnection), Failure> {
        let worker = Rc::clone(&self.context.worker);
        let bringing = Bringing {
            metadata: self.record.metadata.as_deref(),
            ..Bringing::default()
        };
        let endpoint = target::endpoint_of(
            &worker,
            cluster,
            facts,
            self.context.record.original_destination(),
            &bringing,
        )
        .inspect_err(|_| cells.traffic.upstream_cx_none_healthy.one())?;
        let open = OpenConnection::begin(cluster, priority, &endpoint, cells, &Places::alone());
        let open = open.ok_or(Failure::Overflow(Limit::Connections))?;
        let config = &cluster.config;
        let socket = config.transport.choose(&endpoint.spec.details().transport_labels);
        let announced = self.context.record.announced();
        let wish = Wish {
            announced: Some(&announced),
            ..Wish::default()
        };
        let connecting = async {
            let mut connected = connect(worker.world(), cells, config, &endpoint, socket, wish).await?;
            if let Some(header) = &end.header {
                let bytes = proxy_protocol::write(header, Some(&announced));
                let written = connected.io.write_all(&bytes).await;
                written.map_err(|error| ConnectFailure::Refused(error.to_string()))?;
            }
            Ok(connected)
        };
        let outcome = within(self.downstream, deadlines, self.timer, std::pin::pin!(connecting)).await?;
        self.record.upstream = Some(UpstreamRecord {
            local: outcome.as_ref().ok().and_then(|connected| connected.local),
            tls: outcome.as_ref().ok().and_then(|connected| connected.tls.clone()),
            endpoint,
            reused: false,
        });
        outcome
            .map(|connected| (connected, open))
            .map_err(|failure: ConnectFailure| {
                cells.traffic.upstream_cx_connect_fail.one();
                self.record.transport_failure = Some(failure.reason().into_owned());
                Failure::Connect(failure)
            })
    }

    /// Tells the client that the tunnel stands.
    fn accept(&mut self, chosen: &Chosen, head: &RequestHead) -> Result<(), Failure> {
        let mut response = ResponseHead {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: BodyLength::Unknown,
            version: Version::HTTP_11,
        };
        self.record.response_started = Some(self.record.started.elapsed());
        response_head::from_upstream(&mut response, &mut self.record, None);
        mutation::response(&mut response.headers, chosen, &self.record, Some(&head.headers));
        response_head::finish(&mut response.headers, self.manager, self.request_id.as_ref());
        self.downstream.send_head(response).map_err(Failure::ClientGone)
    }
}

/// The limit that ran out.
fn timer_of(end: End, deadlines: &Deadlines) -> Option<Timer> {
    match end {
        End::Idle => deadlines.idle.map(Timer::StreamIdle),
        _ => deadlines.stream.map(|(_, limit)| Timer::StreamDuration(limit)),
    }
}

/// How this request ends here, if it does.
pub(super) fn of<'r>(rare: &'r Rare, head: &RequestHead) -> Option<&'r ConnectEnd> {
    let end = rare.connect.as_ref()?;
    let ends = head.method == Method::CONNECT || end.post && head.method == Method::POST;
    (ends && head.upgrade.is_none()).then_some(end)
}
