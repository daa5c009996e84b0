//! Counts the messages of a gRPC call as they go by.

use std::rc::Rc;
use std::task::{Context, Poll};

use remora_model::filter::GrpcMessages;

use super::{Given, Stage};
use crate::data_path::filters::GrpcCall;
use crate::exchange::Frame;

/// Which way the messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the upstream.
    Request,
    /// To the client.
    Response,
}

/// Lets everything through and counts it.
#[derive(Debug)]
pub struct CountMessages {
    call: Rc<GrpcCall>,
    direction: Direction,
    messages: GrpcMessages,
    frame: Option<Frame>,
}

impl CountMessages {
    /// Counts into the series of `call`.
    pub fn new(call: Rc<GrpcCall>, direction: Direction) -> Self {
        Self {
            call,
            direction,
            messages: GrpcMessages::default(),
            frame: None,
        }
    }
}

impl Stage for CountMessages {
    fn take(&mut self, frame: Option<Frame>) {
        match &frame {
            Some(Frame::Data(data)) if self.call.messages => {
                let calls = &self.call.cells.calls;
                let counter = match self.direction {
                    Direction::Request => &calls.request_message_count,
                    Direction::Response => &calls.response_message_count,
                };
                counter.add(self.messages.count(data));
            }
            Some(Frame::Trailers(fields)) if self.direction == Direction::Response => self.call.ended(fields),
            Some(Frame::Trailers(_)) | None if self.direction == Direction::Request => self.call.complete(),
            Some(Frame::Data(_) | Frame::Trailers(_)) | None => {}
        }
        self.frame = frame;
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        Poll::Ready(Ok(self.frame.take().map_or(Given::Nothing, Given::Frame)))
    }
}
