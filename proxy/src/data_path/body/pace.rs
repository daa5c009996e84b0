//! Lets a body through at a pace.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use remora_model::filter::{ActiveFault, Pace};
use tokio::time::Sleep;

use super::{Given, Stage};
use crate::exchange::Frame;

/// A body that waits for its pace.
#[derive(Debug)]
pub struct Paced {
    pace: Pace,
    data: Bytes,
    end: Option<Frame>,
    wait: Option<Pin<Box<Sleep>>>,
    /// It is a fault as long as it goes on.
    _active: ActiveFault,
}

impl Paced {
    /// From now on.
    pub fn new(kib_per_second: u64, active: ActiveFault) -> Self {
        Self {
            pace: Pace::new(kib_per_second, Instant::now()),
            data: Bytes::new(),
            end: None,
            wait: None,
            _active: active,
        }
    }
}

impl Stage for Paced {
    fn take(&mut self, frame: Option<Frame>) {
        match frame {
            Some(Frame::Data(data)) => self.data = data,
            end => self.end = end,
        }
    }

    fn poll_give(&mut self, cx: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        if self.data.is_empty() {
            let end = self.end.take();
            return Poll::Ready(Ok(end.map_or(Given::Nothing, Given::Frame)));
        }
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self
                .pace
                .take(self.data.len() as u64, tokio::time::Instant::now().into_std())
            {
                Ok(count) => {
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    let some = self.data.split_to(count.min(self.data.len()));
                    return Poll::Ready(Ok(Given::Frame(Frame::Data(some))));
                }
                Err(until) => self.wait = Some(Box::pin(tokio::time::sleep_until(until.into()))),
            }
        }
    }
}
