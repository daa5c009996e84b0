//! Waits for the whole body of a request before anything goes on (`envoy.filters.http.buffer`).

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Instant;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, StatusCode};
use remora_model::filter::BufferFilter;
use remora_model::route::TimeLimits;

use crate::data_path::body::{Collected, Through};
use crate::data_path::deadlines::Deadlines;
use crate::data_path::forward::Cut;
use crate::data_path::request::Exchange;
use crate::exchange::{BodyLength, Downstream, RequestHead, StreamError};
use crate::failure::{Denial, Failure};

impl<D: Downstream> Exchange<'_, D> {
    /// Collects the body within the connection manager's time limits; it has a known length then.
    ///
    /// # Errors
    /// It is longer than the filter allows, or the client went away.
    pub(super) async fn collect(&mut self, own: &BufferFilter, head: &mut RequestHead) -> Result<(), Cut> {
        if head.body == BodyLength::None || head.upgrade.is_some() || head.method == http::Method::CONNECT {
            return Ok(());
        }
        self.answer_expectation(head)?;
        let limits = TimeLimits::of_manager(&self.manager.timeouts);
        let mut deadlines = Deadlines::new(&limits, self.record.started);
        let mut collected = Collected::within(u64::from(own.max_request_bytes));
        let (downstream, timer, context) = (&mut *self.downstream, &mut *self.timer, self.context);
        let stages = self.request_stages.get_or_insert_default();
        let mut before = None;
        let whole = poll_fn(|cx| {
            let mut client = Through {
                sender: &mut *downstream,
                stages: Some(&mut *stages),
            };
            // The word that the client may send waits for this.
            let _ = client.sender.poll_flush(cx);
            let polled = collected.poll(&mut client, cx);
            if before.replace(collected.size()) != Some(collected.size()) {
                deadlines.progress = Some(Instant::now());
            }
            if let Poll::Ready(whole) = polled {
                return Poll::Ready(whole.map_err(client_failed));
            }
            if context.poll_closing(cx).is_ready() {
                return Poll::Ready(Err(Failure::Draining));
            }
            let ran_out = ready!(deadlines.poll(timer, cx));
            Poll::Ready(Err(Failure::Timeout(ran_out)))
        })
        .await?;
        if !whole {
            self.context.cells.http.downstream_rq_too_large.one();
            self.downstream.set_close();
            return Err(too_large().into());
        }
        head.body = BodyLength::Exact(collected.size());
        if !head.headers.contains_key(CONTENT_LENGTH) {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(collected.size()));
        }
        self.record.received = stages.taken();
        stages.hold(collected.into_frames());
        Ok(())
    }
}

/// What became of a client in the middle of its body.
fn client_failed(error: StreamError) -> Failure {
    match error {
        StreamError::Protocol(details) => Failure::ClientProtocol(details),
        error => Failure::ClientGone(error),
    }
}

fn too_large() -> Failure {
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    Denial::new(status, "request_payload_too_large", "Payload Too Large").into()
}
