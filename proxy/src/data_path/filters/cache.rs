//! Answers requests from what is kept, and keeps answers (`envoy.filters.http.cache`).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, AGE, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use remora_model::filter::{CacheFilter, Part, RequestControl, Stored, Use, part};

use super::OnResponse;
use crate::data_path::body::Stages;
use crate::data_path::body::keep::Keep;
use crate::data_path::forward::Cut;
use crate::data_path::local_reply::{Reader, Reply};
use crate::data_path::request::{Exchange, facts};
use crate::exchange::{BodyLength, Downstream, Frame, RequestHead, ResponseHead};
use crate::failure::{Denial, Failure};
use crate::observe::time_text::unix_seconds;
use crate::worker::Shared;

/// A response that may be kept, or may say that what is kept still holds.
pub struct Keeping {
    shared: Arc<Shared>,
    filter: Arc<CacheFilter>,
    key: String,
    asked: RequestControl,
    /// The request's, as the filter saw them.
    request: HeaderMap,
    method: Method,
    /// What the upstream was asked about.
    stored: Option<Arc<Stored>>,
}

/// An answer to a request that changes something: what is kept of the same address is forgotten.
pub struct Forget {
    shared: Arc<Shared>,
    key: String,
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Forget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forget")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl<D: Downstream> Exchange<'_, D> {
    /// Whether the request was answered from what is kept.
    pub(super) fn answer_kept(
        &mut self,
        filter: &Arc<CacheFilter>,
        head: &mut RequestHead,
    ) -> Result<bool, Cut> {
        if head.upgrade.is_some() {
            return Ok(false);
        }
        let Some(cluster) = self.cluster_config(head) else {
            return Ok(false);
        };
        let shared = &self.context.worker.shared;
        let key = filter.key(&facts(head, &self.record), &cluster.name);
        if !filter.concerns(&head.method, &head.headers) {
            if !head.method.is_safe() {
                let shared = Arc::clone(shared);
                self.on_response
                    .push(OnResponse::Forget(Box::new(Forget { shared, key })));
            }
            return Ok(false);
        }
        let asked = filter.asked(&head.headers);
        let found = shared.responses.find(&key, &head.headers);
        if let Some(stored) = &found
            && let Use::Answer(age) = stored.answers(&asked, unix_seconds())
        {
            self.record.details = "response_from_cache_filter".into();
            self.record.flags.push("RFCF");
            let (status, mut headers, body) = parts(stored, head.headers.get(RANGE));
            headers.insert(AGE, HeaderValue::from(age));
            let reply = Reply {
                status,
                headers,
                body,
                reader: Reader::Http,
            };
            self.answer_as_is(reply, head)?;
            return Ok(true);
        }
        if asked.only_kept {
            return Err(nothing_kept().into());
        }
        let request = head.headers.clone();
        let stored = found.filter(|stored| stored.ask(&mut head.headers));
        if stored.is_some() {
            // A part is cut from what is kept.
            head.headers.remove(RANGE);
        }
        self.on_response.push(OnResponse::Keep(Box::new(Keeping {
            shared: Arc::clone(shared),
            filter: Arc::clone(filter),
            key,
            asked,
            request,
            method: head.method.clone(),
            stored,
        })));
        Ok(false)
    }
}

impl Keeping {
    /// At the response of the upstream.
    pub(super) fn respond(&self, head: &mut ResponseHead, own: bool, stages: &mut Option<Box<Stages>>) {
        if own {
            return;
        }
        if let Some(stored) = self
            .stored
            .as_ref()
            .filter(|_| head.status == StatusCode::NOT_MODIFIED)
        {
            let fresh = stored.refreshed(&head.headers, unix_seconds());
            let (status, headers, body) = parts(&fresh, self.request.get(RANGE));
            (head.status, head.headers) = (status, headers);
            if self.method != Method::HEAD && !body.is_empty() {
                head.body = BodyLength::Exact(body.len() as u64);
                let mut kept = Box::<Stages>::default();
                kept.hold([Frame::Data(body)]);
                *stages = Some(kept);
            }
            self.shared.responses.keep(&self.key, fresh);
            return;
        }
        if self.method != Method::GET {
            return;
        }
        let kept = self.filter.keeps(
            &self.asked,
            &self.request,
            head.status,
            &head.headers,
            unix_seconds(),
        );
        let Some(stored) = kept else { return };
        if head.body == BodyLength::None {
            self.shared.responses.keep(&self.key, stored);
            return;
        }
        let keep = Keep::new(
            Arc::clone(&self.shared),
            self.key.clone(),
            stored,
            self.filter.max_body,
        );
        stages.get_or_insert_default().push(Box::new(keep));
    }
}

impl Forget {
    /// At the response of the upstream (RFC 9111 section 4.4).
    pub(super) fn respond(&self, head: &ResponseHead, own: bool) {
        if !own && head.status.as_u16() < 400 {
            self.shared.responses.forget(&self.key);
        }
    }
}

/// Status, headers and body of an answer, or of the part of it that is asked for.
fn parts(stored: &Stored, range: Option<&HeaderValue>) -> (StatusCode, HeaderMap, Bytes) {
    let (mut headers, length) = (stored.headers.clone(), stored.body.len() as u64);
    let range = range
        .and_then(|range| range.to_str().ok())
        .filter(|_| stored.status == StatusCode::OK);
    let (status, body, said) = match range.map_or(Part::Whole, |range| part(range, length)) {
        Part::Whole => (stored.status, stored.body.clone(), None),
        Part::Octets(first, last) => {
            let body = stored.body.slice(first as usize..=last as usize);
            let said = format!("bytes {first}-{last}/{length}");
            (StatusCode::PARTIAL_CONTENT, body, Some(said))
        }
        Part::Unsatisfiable => {
            let said = format!("bytes */{length}");
            (StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new(), Some(said))
        }
    };
    if let Some(said) = said.and_then(|said| HeaderValue::try_from(said).ok()) {
        headers.insert(CONTENT_RANGE, said);
        headers.remove(ACCEPT_RANGES);
    }
    if !body.is_empty() || headers.contains_key(CONTENT_LENGTH) || status == StatusCode::RANGE_NOT_SATISFIABLE
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    (status, headers, body)
}

/// `only-if-cached`, and nothing is (RFC 9111 section 5.2.1.7).
fn nothing_kept() -> Failure {
    Denial::new(StatusCode::GATEWAY_TIMEOUT, "cache_only_if_cached", "").into()
}
