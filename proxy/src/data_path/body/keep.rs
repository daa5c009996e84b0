//! Keeps a body that goes by, for the response cache.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use remora_model::filter::Stored;

use super::{Given, Stage};
use crate::exchange::Frame;
use crate::worker::Shared;

/// Lets everything through; at the end of a body that was short enough the answer is kept.
pub struct Keep {
    shared: Arc<Shared>,
    key: String,
    /// The answer without its body; `None` once it is not kept.
    stored: Option<Stored>,
    limit: u64,
    body: BytesMut,
    frame: Option<Frame>,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Keep {
    /// Under `key`, if the body is at most `limit` bytes long.
    pub fn new(shared: Arc<Shared>, key: String, stored: Stored, limit: u64) -> Self {
        Self {
            shared,
            key,
            stored: Some(stored),
            limit,
            body: BytesMut::new(),
            frame: None,
        }
    }

    fn add(&mut self, data: &Bytes) {
        if (self.body.len() + data.len()) as u64 > self.limit {
            self.stored = None;
            self.body = BytesMut::new();
        }
        if self.stored.is_some() {
            self.body.extend_from_slice(data);
        }
    }
}

impl Stage for Keep {
    fn take(&mut self, frame: Option<Frame>) {
        match &frame {
            Some(Frame::Data(data)) => self.add(data),
            // Trailers are not kept, so neither is what has them.
            Some(Frame::Trailers(_)) => self.stored = None,
            None => {
                if let Some(mut stored) = self.stored.take() {
                    stored.body = std::mem::take(&mut self.body).freeze();
                    self.shared.responses.keep(&self.key, stored);
                }
            }
        }
        self.frame = frame;
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        Poll::Ready(Ok(self.frame.take().map_or(Given::Nothing, Given::Frame)))
    }
}
