//! Writes one message body in the framing that its head announced.
//!
//! Holds: a body of announced length is never exceeded, and never ends short without an error.

use bytes::Bytes;
use http::HeaderMap;

use super::grammar::{Framing, details, encode};
use super::wire::Wire;
use crate::exchange::StreamError;

/// Where we are in the message that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// No message is being sent.
    Idle,
    /// The head was not sent yet.
    Head,
    /// So many bytes are still owed.
    Counted(u64),
    /// Chunks, until the last one.
    Chunked,
    /// Bytes as they are; the end of our direction is the end of the body.
    Raw,
    /// The message cannot have a body: bytes are dropped until its end is told.
    Bodiless,
    /// Everything was given to the wire.
    Done,
    /// The message stays unfinished.
    Broken,
}

impl Sending {
    /// The state after a head. `ends` when no call for the body follows.
    pub(super) fn after_head(framing: Framing, ends: Ends) -> Self {
        match framing {
            Framing::Length(0) => Self::Done,
            Framing::None if ends == Ends::WithHead => Self::Done,
            Framing::None => Self::Bodiless,
            Framing::Length(left) => Self::Counted(left),
            Framing::Chunked => Self::Chunked,
            Framing::UntilClose => Self::Raw,
        }
    }

    /// Sends bytes; see [`crate::exchange::Transmit::send_data`].
    pub(super) fn data(&mut self, wire: &mut Wire, data: Bytes, ends: Ends) -> Result<(), StreamError> {
        match self {
            Self::Counted(left) => {
                let Some(rest) = left.checked_sub(data.len() as u64) else {
                    *self = Self::Broken;
                    return Err(StreamError::Protocol(details::BODY_DISALLOWED));
                };
                *left = rest;
                wire.push(data);
            }
            Self::Chunked if !data.is_empty() => {
                encode::chunk_start(data.len(), wire.tail());
                wire.push(data);
                wire.tail().extend_from_slice(encode::CHUNK_END);
            }
            Self::Raw => wire.push(data),
            Self::Chunked | Self::Bodiless => {}
            Self::Done | Self::Idle if data.is_empty() => return Ok(()),
            Self::Done | Self::Idle | Self::Head => {
                return Err(StreamError::Protocol(details::BODY_DISALLOWED));
            }
            Self::Broken => return Err(StreamError::Reset(h2::Reason::CANCEL)),
        }
        if ends == Ends::Here {
            self.end(wire)
        } else {
            Ok(())
        }
    }

    /// Ends the body with trailers where the framing can carry them.
    pub(super) fn trailers(&mut self, wire: &mut Wire, trailers: &HeaderMap) -> Result<(), StreamError> {
        if *self != Self::Chunked {
            return self.data(wire, Bytes::new(), Ends::Here);
        }
        encode::trailers(trailers, wire.tail());
        *self = Self::Done;
        Ok(())
    }

    fn end(&mut self, wire: &mut Wire) -> Result<(), StreamError> {
        match self {
            Self::Counted(1..) => {
                *self = Self::Broken;
                return Err(StreamError::Truncated);
            }
            Self::Chunked => wire.tail().extend_from_slice(encode::LAST_CHUNK),
            Self::Raw => wire.end(),
            _ => {}
        }
        *self = Self::Done;
        Ok(())
    }
}

/// Where a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// With its head.
    WithHead,
    /// With these bytes.
    Here,
    /// Later.
    Later,
}

impl Ends {
    /// From the flag of [`crate::exchange::Transmit::send_data`].
    pub(super) fn from_flag(end: bool) -> Self {
        if end { Self::Here } else { Self::Later }
    }
}
