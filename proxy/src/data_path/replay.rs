//! What was taken of a request's body, kept so that it can be sent again.
//!
//! Holds: nothing is kept unless a retry policy asks for it; what is kept is bounded, and beyond the bound the request
//! is sent once only. Bytes are shared with what was sent, not copied.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use super::mirror::Copies;
use crate::exchange::{Frame, Receive, StreamError};

/// The body of one request over all of its attempts.
#[derive(Debug, Default)]
pub struct Replay {
    /// How many bytes may be kept; 0: none.
    limit: u64,
    size: u64,
    frames: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// The client's body is complete.
    ended: bool,
    /// Something was taken that is not kept.
    lost: bool,
    /// How many of `frames` this attempt has had.
    given: usize,
    trailers_given: bool,
    /// What the client sends goes there too.
    copies: Option<Copies>,
}

impl Replay {
    /// Keeps up to `limit` bytes.
    pub fn keeping(limit: u64) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// What is taken from the client goes to these too.
    pub fn copy_to(&mut self, copies: Option<Copies>) {
        self.copies = copies;
    }

    /// Whether the request can be sent from its beginning.
    pub fn possible(&self) -> bool {
        !self.lost
    }

    /// The next attempt begins at the beginning.
    pub fn rewind(&mut self) {
        self.given = 0;
        self.trailers_given = false;
    }

    /// The next frame for this attempt: what was kept, then what the client sends.
    pub fn poll_frame<R: Receive>(
        &mut self,
        client: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, StreamError>>> {
        if let Some(frame) = self.frames.get(self.given) {
            self.given += 1;
            return Poll::Ready(Some(Ok(Frame::Data(frame.clone()))));
        }
        if self.ended {
            if !self.trailers_given
                && let Some(trailers) = &self.trailers
            {
                self.trailers_given = true;
                return Poll::Ready(Some(Ok(Frame::Trailers(trailers.clone()))));
            }
            return Poll::Ready(None);
        }
        let polled = client.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                self.keep(data);
                if let Some(copies) = &mut self.copies {
                    copies.data(data);
                }
                self.ended = client.is_end();
            }
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                if self.limit > 0 {
                    self.trailers = Some(trailers.clone());
                    self.trailers_given = true;
                } else {
                    self.lost = true;
                }
                if let Some(copies) = &mut self.copies {
                    copies.trailers(trailers);
                }
                self.ended = true;
            }
            Poll::Ready(None) => self.ended = true,
            Poll::Pending | Poll::Ready(Some(Err(_))) => {}
        }
        if self.ended
            && let Some(mut copies) = self.copies.take()
        {
            copies.end();
        }
        polled
    }

    /// Whether nothing follows what this attempt has had.
    pub fn is_end<R: Receive>(&self, client: &R) -> bool {
        if self.given < self.frames.len() {
            return false;
        }
        if self.ended {
            return self.trailers.is_none() || self.trailers_given;
        }
        client.is_end()
    }

    /// Whether this attempt has had everything and the client's request is complete.
    pub fn is_complete(&self) -> bool {
        self.ended
    }

    /// Body bytes taken from the client, over all attempts.
    pub fn taken(&self) -> u64 {
        self.size
    }

    fn keep(&mut self, data: &Bytes) {
        self.size += data.len() as u64;
        if self.lost || self.size > self.limit {
            self.lost = true;
            self.frames = Vec::new();
            self.given = 0;
            return;
        }
        self.frames.push(data.clone());
        self.given = self.frames.len();
    }
}
