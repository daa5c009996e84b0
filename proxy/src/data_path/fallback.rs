//! A request whose cluster cannot serve it is answered otherwise, where its route says how.
//!
//! Holds: each such answer says so (`x-remora-degraded`), is counted, and its line in the log has the flag and the reason
//! of the failure that it hides. What may be answered so is the model's to say.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use remora_model::cluster::Cluster;
use remora_model::filter::Stored;
use remora_model::route::{Fallback, FallbackResponse, Forward, Sent, Stale};

use super::body::Stages;
use super::body::keep::Keep;
use super::filters::OnResponse;
use super::forward::Cut;
use super::local_reply::{Reader, Reply};
use super::request::Exchange;
use super::target::Chosen;
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::observe::time_text::unix_seconds;
use crate::worker::Shared;

/// Of a response: it is no answer of the cluster that was asked, but what is given in its place.
pub const DEGRADED: HeaderName = HeaderName::from_static("x-remora-degraded");

/// A response that may be kept for worse times.
pub struct LastGood {
    shared: Arc<Shared>,
    key: String,
    stale: Stale,
    request: http::HeaderMap,
}

impl std::fmt::Debug for LastGood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastGood")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl LastGood {
    /// At the response of the upstream.
    pub fn respond(&self, head: &ResponseHead, own: bool, stages: &mut Option<Box<Stages>>) {
        if own || head.headers.contains_key(DEGRADED) {
            return;
        }
        let now = unix_seconds();
        let Some(stored) = self.stale.keeps(&self.request, head.status, &head.headers, now) else {
            return;
        };
        if head.body == BodyLength::None {
            self.shared.responses.keep(&self.key, stored);
            return;
        }
        let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
        let keep = Keep::new(shared, key, stored, self.stale.max_bytes);
        stages.get_or_insert_default().push(Box::new(keep));
    }
}

/// What a request was before it was forwarded.
struct Before {
    head: RequestHead,
    key: Option<String>,
}

impl<D: Downstream> Exchange<'_, D> {
    /// Brings the request to its cluster, or else to what its route falls back to.
    ///
    /// # Errors
    /// Why there is no response.
    pub(super) async fn forward_or_fall_back(
        &mut self,
        fallback: &Fallback,
        (cluster, forward, chosen): (&Arc<Cluster>, &Forward, &Chosen),
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        let before = Before {
            head: head.clone(),
            key: self.last_good(fallback, cluster, head),
        };
        let Err(cut) = self.forward(cluster, forward, chosen, head).await else {
            return Ok(());
        };
        let may = cut.failure.leaves_cluster_unable() && Fallback::may_answer(self.sent(), &head.method);
        if cut.head_sent || !may || head.upgrade.is_some() {
            return Err(cut);
        }
        self.answer_otherwise(fallback, (cluster, forward, chosen), (head, before), cut)
            .await
    }

    /// Sees to it that a good answer is kept; under which name.
    fn last_good(&mut self, fallback: &Fallback, cluster: &Cluster, head: &RequestHead) -> Option<String> {
        let stale = fallback
            .stale
            .filter(|_| Stale::concerns(&head.method, &head.headers))?;
        let authority = head.authority.as_ref().map_or("", |authority| authority.as_str());
        let key = format!("last good {} {authority} {}", cluster.config.name, head.path);
        self.on_response.push(OnResponse::LastGood(Box::new(LastGood {
            shared: Arc::clone(&self.context.worker.shared),
            key: key.clone(),
            stale,
            request: head.headers.clone(),
        })));
        Some(key)
    }

    async fn answer_otherwise(
        &mut self,
        fallback: &Fallback,
        (cluster, forward, chosen): (&Arc<Cluster>, &Forward, &Chosen),
        (head, before): (&mut RequestHead, Before),
        mut cut: Cut,
    ) -> Result<(), Cut> {
        // What of a body was taken is gone.
        let whole = before.head.body == BodyLength::None || self.record.received == 0;
        let spare = fallback.cluster.filter(|_| whole);
        let spare = spare.and_then(|id| self.context.worker.world().cluster(id).map(Arc::clone));
        let key = before.key;
        if let Some(spare) = spare {
            let expects = head.expects_continue;
            *head = before.head;
            head.expects_continue = expects;
            self.record.degraded = Some("cluster");
            self.record.cluster = Some(Arc::clone(&spare.config));
            self.record.attempts = 0;
            match self.forward(&spare, forward, chosen, head).await {
                Ok(()) => {
                    let cells = self.context.worker.counters.cluster(&cluster.config);
                    cells.traffic.upstream_rq_degraded_cluster.one();
                    self.hide(&cut);
                    return Ok(());
                }
                Err(second) => {
                    let sent = self.sent();
                    let may =
                        second.failure.leaves_cluster_unable() && Fallback::may_answer(sent, &head.method);
                    if second.head_sent || !may {
                        return Err(second);
                    }
                    cut = second;
                }
            }
            self.record.cluster = Some(Arc::clone(&cluster.config));
        }
        self.answer_from_here(fallback, (cluster, key), head, cut)
    }

    /// The last good answer, or the one that is written down.
    fn answer_from_here(
        &mut self,
        fallback: &Fallback,
        (cluster, key): (&Cluster, Option<String>),
        head: &RequestHead,
        cut: Cut,
    ) -> Result<(), Cut> {
        let shared = &self.context.worker.shared;
        let found = key.and_then(|key| shared.responses.find(&key, &head.headers));
        let kept = found.and_then(|stored: Arc<Stored>| {
            let headers = fallback.stale?.gives(&stored, unix_seconds())?;
            Some((stored.status, headers, stored.body.clone()))
        });
        let (kind, (status, headers, body)) = match (kept, &fallback.response) {
            (Some(kept), _) => ("stale", kept),
            (None, None) => return Err(cut),
            (None, Some(response)) => {
                let FallbackResponse {
                    status,
                    headers,
                    body,
                } = response.clone();
                ("response", (status, headers, body))
            }
        };
        let cells = self.context.worker.counters.cluster(&cluster.config);
        match kind {
            "stale" => cells.traffic.upstream_rq_degraded_stale.one(),
            _ => cells.traffic.upstream_rq_degraded_response.one(),
        }
        self.record.degraded = Some(kind);
        self.record.details = format!("degraded_{kind}{{{}}}", cut.failure.said().details).into();
        self.hide(&cut);
        let mut reply = Reply {
            status,
            headers,
            body,
            reader: Reader::Http,
        };
        reply.headers.insert(DEGRADED, HeaderValue::from_static(kind));
        self.answer(reply, head)
    }

    /// Whether an endpoint may have seen something of the request.
    fn sent(&self) -> Sent {
        match self.record.upstream {
            None => Sent::Nothing,
            Some(_) => Sent::Something,
        }
    }

    /// Enters into the record what the client does not see.
    fn hide(&mut self, cut: &Cut) {
        self.record.flags.push(cut.failure.said().flag);
        self.record.failure = Some(cut.failure.sentence());
    }
}
