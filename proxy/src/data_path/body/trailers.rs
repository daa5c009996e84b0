//! Changes trailers as they go by.

use std::task::{Context, Poll};

use http::HeaderValue;
use remora_model::filter::{HeaderOperation, apply_operations};
use remora_model::log::Format;
use remora_model::route::Render;

use super::{Given, Stage};
use crate::exchange::Frame;

/// Carries operations out on the trailers of a body, if it has any.
#[derive(Debug)]
pub struct ChangeTrailers {
    operations: Vec<HeaderOperation>,
    frame: Option<Frame>,
}

impl ChangeTrailers {
    /// Operations whose values are printed already.
    pub fn new(operations: Vec<HeaderOperation>) -> Self {
        Self {
            operations,
            frame: None,
        }
    }
}

/// Everything is printed.
struct Printed;

impl Render for Printed {
    fn render(&self, _: &Format) -> Option<HeaderValue> {
        None
    }
}

impl Stage for ChangeTrailers {
    fn take(&mut self, mut frame: Option<Frame>) {
        if let Some(Frame::Trailers(fields)) = &mut frame {
            apply_operations(&self.operations, fields, &Printed);
        }
        self.frame = frame;
    }

    fn poll_give(&mut self, _: &mut Context<'_>) -> Poll<Result<Given, &'static str>> {
        Poll::Ready(Ok(self.frame.take().map_or(Given::Nothing, Given::Frame)))
    }
}
