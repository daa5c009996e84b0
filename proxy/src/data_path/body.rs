//! What do filters do to a body on its way?
//!
//! Stages stand between the side that sends a body and the side that takes it, the first filter's stage nearest to the
//! sender. Holds: frames are pulled, never pushed: a stage is given a frame only when it has nothing more to give, so
//! what is held is one frame for each stage beside what a stage keeps by a bound of its own, and a slow receiver slows
//! the sender. An exchange without such filters has no stages and pays one look at an `Option`.
//! Does not decide which stages there are: filters do, when they see a head.

mod buffer;
pub mod codec;
pub mod grpc;
pub mod grpc_web;
pub mod keep;
pub mod pace;
pub mod trailers;

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

pub use buffer::Collected;

use crate::exchange::{BodyLength, Frame, Receive, StreamError};

/// What a stage has to say when it is asked for a frame.
#[derive(Debug)]
pub enum Given {
    /// A frame.
    Frame(Frame),
    /// Nothing before it is given the next frame; nothing at all if it was told of the end.
    Nothing,
}

/// One filter's place on the way of a body.
pub trait Stage: std::fmt::Debug {
    /// Takes a frame, or the end, which trailers are too. Called only after [`Stage::poll_give`] gave nothing.
    fn take(&mut self, frame: Option<Frame>);

    /// The next frame of what was taken.
    ///
    /// # Errors
    /// The body cannot be understood: Envoy's `response_code_details`, or our own where it has none.
    fn poll_give(&mut self, cx: &mut Context<'_>) -> Poll<Result<Given, &'static str>>;
}

#[derive(Debug)]
struct Place {
    stage: Box<dyn Stage>,
    /// It was told of the end.
    ended: bool,
}

/// All stages of one direction of one exchange.
#[derive(Debug, Default)]
pub struct Stages {
    /// What was taken from the sender before it was asked for: comes first.
    held: VecDeque<Frame>,
    /// The sender has no more.
    complete: bool,
    places: Vec<Place>,
    /// Body bytes taken from the sender.
    taken: u64,
}

impl Stages {
    /// Adds a stage next to the receiver.
    pub fn push(&mut self, stage: Box<dyn Stage>) {
        self.places.push(Place { stage, ended: false });
    }

    /// A body that is here as a whole.
    pub fn hold(&mut self, whole: impl IntoIterator<Item = Frame>) {
        self.held = whole.into_iter().collect();
        self.complete = true;
        self.places.clear();
    }

    /// What is held, as a whole.
    pub fn held(&self) -> Bytes {
        let mut pieces = self.held.iter().filter_map(|frame| match frame {
            Frame::Data(data) => Some(data),
            Frame::Trailers(_) => None,
        });
        match (pieces.next(), pieces.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.clone(),
            (Some(first), Some(second)) => {
                let mut all = BytesMut::from(&first[..]);
                all.extend_from_slice(second);
                pieces.for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }

    /// Body bytes taken from the sender.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The next frame that comes out at the receiver's end.
    pub fn poll_frame<R: Receive + ?Sized>(
        &mut self,
        sender: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, StreamError>>> {
        let mut source = Source {
            held: &mut self.held,
            complete: &mut self.complete,
            taken: &mut self.taken,
            sender,
        };
        poll_places(&mut self.places, &mut source, cx)
    }

    /// Whether it is known that nothing follows.
    pub fn is_end(&self) -> bool {
        self.complete && self.held.is_empty() && self.places.is_empty()
    }

    /// Sends a body that is complete through all stages. What a stage would give later it gives at once.
    ///
    /// # Errors
    /// As [`Stage::poll_give`].
    pub fn pass(&mut self, body: Bytes) -> Result<(Bytes, Option<HeaderMap>), StreamError> {
        self.held = VecDeque::from([Frame::Data(body)]);
        self.complete = true;
        let mut cx = Context::from_waker(Waker::noop());
        let (mut out, mut trailers) = (BytesMut::new(), None);
        while let Poll::Ready(Some(frame)) = self.poll_frame(&mut Nobody, &mut cx) {
            match frame? {
                Frame::Data(data) => out.extend_from_slice(&data),
                Frame::Trailers(fields) => trailers = Some(fields),
            }
        }
        Ok((out.freeze(), trailers))
    }
}

/// A sender behind its stages, if there are any.
pub struct Through<'a, R: ?Sized> {
    /// The sender.
    pub sender: &'a mut R,
    /// What stands between.
    pub stages: Option<&'a mut Stages>,
}

impl<R: Receive + ?Sized> Receive for Through<'_, R> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        match &mut self.stages {
            None => self.sender.poll_frame(cx),
            Some(stages) => stages.poll_frame(self.sender, cx),
        }
    }

    fn is_end(&self) -> bool {
        match &self.stages {
            None => self.sender.is_end(),
            Some(stages) => stages.is_end(),
        }
    }
}

/// The length of a body after a filter that may change it, and its head's word for it.
pub fn of_unknown_length(length: &mut BodyLength, headers: &mut HeaderMap) {
    if *length != BodyLength::None {
        *length = BodyLength::Unknown;
        headers.remove(http::header::CONTENT_LENGTH);
    }
}

/// Where the first stage takes from.
struct Source<'a, R: ?Sized> {
    held: &'a mut VecDeque<Frame>,
    complete: &'a mut bool,
    taken: &'a mut u64,
    sender: &'a mut R,
}

impl<R: Receive + ?Sized> Source<'_, R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        if let Some(frame) = self.held.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if *self.complete {
            return Poll::Ready(None);
        }
        let frame = ready!(self.sender.poll_frame(cx));
        match &frame {
            Some(Ok(Frame::Data(data))) => *self.taken += data.len() as u64,
            Some(Ok(Frame::Trailers(_))) | None => *self.complete = true,
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }
}

/// What the last of `places` gives, which asks those before it.
fn poll_places<R: Receive + ?Sized>(
    places: &mut [Place],
    source: &mut Source<'_, R>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame, StreamError>>> {
    let Some((last, before)) = places.split_last_mut() else {
        return source.poll_next(cx);
    };
    loop {
        match ready!(last.stage.poll_give(cx)) {
            Ok(Given::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
            Ok(Given::Nothing) if last.ended => return Poll::Ready(None),
            Ok(Given::Nothing) => {}
            Err(details) => return Poll::Ready(Some(Err(StreamError::Protocol(details)))),
        }
        match ready!(poll_places(before, source, cx)) {
            Some(Ok(frame)) => {
                last.ended = matches!(frame, Frame::Trailers(_));
                last.stage.take(Some(frame));
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                last.ended = true;
                last.stage.take(None);
            }
        }
    }
}

/// The sender of a body that is complete.
struct Nobody;

impl Receive for Nobody {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, StreamError>>> {
        Poll::Ready(None)
    }

    fn is_end(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
