//! A body that is collected before anything of it goes further.

use std::task::{Context, Poll, ready};

use crate::exchange::{Frame, Receive, StreamError};

/// Frames of a body so far, within a bound.
#[derive(Debug)]
pub struct Collected {
    limit: u64,
    size: u64,
    frames: Vec<Frame>,
}

impl Collected {
    /// Nothing yet, and at most `limit` bytes.
    pub fn within(limit: u64) -> Self {
        Self {
            limit,
            size: 0,
            frames: Vec::new(),
        }
    }

    /// Ready when the body is complete, or above the bound: then it is `false` and the rest stays where it is.
    ///
    /// # Errors
    /// Those of the sender.
    pub fn poll<R: Receive + ?Sized>(
        &mut self,
        sender: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, StreamError>> {
        loop {
            match ready!(sender.poll_frame(cx)) {
                None => return Poll::Ready(Ok(true)),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(Frame::Data(data))) => {
                    self.size += data.len() as u64;
                    if self.size > self.limit {
                        return Poll::Ready(Ok(false));
                    }
                    self.frames.push(Frame::Data(data));
                    if sender.is_end() {
                        return Poll::Ready(Ok(true));
                    }
                }
                Some(Ok(trailers)) => {
                    self.frames.push(trailers);
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What was collected.
    pub fn into_frames(self) -> Vec<Frame> {
        self.frames
    }
}
