//! Answers: a status, a type, and a body that is written piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, SERVER};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// A body of texts that are made when the connection has room for them.
pub(super) enum Pieces {
    /// Made here.
    Here(Box<dyn Iterator<Item = String>>),
    /// Made on another thread, which waits until they are taken.
    Elsewhere(mpsc::Receiver<String>),
    /// Messages and trailers of gRPC.
    Frames(mpsc::Receiver<Frame<Bytes>>),
}

/// An answer.
pub(super) type Answer = Response<Pieces>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Here(pieces) => pieces.find(|piece| !piece.is_empty()),
            Self::Elsewhere(pieces) => ready!(pieces.poll_recv(cx)),
            Self::Frames(frames) => return frames.poll_recv(cx).map(|frame| frame.map(Ok)),
        };
        Poll::Ready(next.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}

fn answer(
    status: StatusCode,
    content_type: HeaderValue,
    pieces: impl Iterator<Item = String> + 'static,
) -> Answer {
    with_pieces(status, content_type, Pieces::Here(Box::new(pieces)))
}

fn with_pieces(status: StatusCode, content_type: HeaderValue, pieces: Pieces) -> Answer {
    let mut answer = Response::new(pieces);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(SERVER, HeaderValue::from_static("remora"));
    answer
}

/// A text.
pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    answer(status, TEXT, std::iter::once(text.into()))
}

/// A text in pieces.
pub(super) fn text_pieces(pieces: impl Iterator<Item = String> + 'static) -> Answer {
    answer(StatusCode::OK, TEXT, pieces)
}

/// A page.
pub(super) fn html(text: String) -> Answer {
    answer(StatusCode::OK, HTML, std::iter::once(text))
}

/// JSON in pieces.
pub(super) fn json_pieces(pieces: impl Iterator<Item = String> + 'static) -> Answer {
    answer(StatusCode::OK, JSON, pieces)
}

/// JSON in pieces that another thread makes.
pub(super) fn json_from(pieces: mpsc::Receiver<String>) -> Answer {
    with_pieces(StatusCode::OK, JSON, Pieces::Elsewhere(pieces))
}

/// An answer whose frames come one by one.
pub(super) fn frames(content_type: HeaderValue, frames: mpsc::Receiver<Frame<Bytes>>) -> Answer {
    with_pieces(StatusCode::OK, content_type, Pieces::Frames(frames))
}

/// A JSON value, indented.
pub(super) fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, JSON, std::iter::once(format!("{value:#}\n")))
}
