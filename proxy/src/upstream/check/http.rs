//! Checks by HTTP and by `grpc.health.v1.Health`.

use std::future::poll_fn;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use remora_model::health::check::{GrpcCheck, HttpCheck, says_serving};

use super::{Checking, Found, Session, Unanswered, head};
use crate::exchange::{Frame, RequestHead, ResponseEvent, ResponseHead, StreamError, Upstream};
use crate::http1::{self, ClientConnection};
use crate::http2;
use crate::worker::spawn;

/// The most that is kept of a body that is searched whole, bytes.
const MOST: usize = 1 << 20;
/// The most that is read of an answer by gRPC, bytes.
const MOST_GRPC: usize = 64 << 10;
/// What stands before a message of gRPC: a flag and its length.
const GRPC_HEAD: usize = 5;

/// A connection that speaks HTTP.
#[derive(Debug)]
pub(super) enum HttpSession {
    Http1(Box<ClientConnection>),
    Http2(Box<http2::Sender>),
}

/// A whole answer, as far as it was kept.
struct Answer {
    head: ResponseHead,
    body: BytesMut,
    trailers: Option<HeaderMap>,
}

impl From<StreamError> for Unanswered {
    fn from(error: StreamError) -> Self {
        Self(format!("{error:?}"))
    }
}

impl Checking {
    pub(super) async fn http(&mut self, check: &HttpCheck) -> Result<Found, Unanswered> {
        let head = head::http(&self.ask, check);
        let kept = check.kept(MOST);
        let answer = self
            .exchange(check.http2, &head, check.body.clone(), kept, |_| false)
            .await?;
        let judged = check.judge(answer.head.status.as_u16(), &answer.head.headers, &answer.body);
        let status = answer.head.status.as_u16();
        Ok(Found {
            finding: judged.finding,
            leaves: judged.leaves,
            verified: judged.verified,
            why: format!("status_code={status} reason={}", judged.why),
            ..self.passed()
        })
    }

    pub(super) async fn grpc(&mut self, check: &GrpcCheck) -> Result<Found, Unanswered> {
        let mut message = BytesMut::with_capacity(GRPC_HEAD + check.request.len());
        message.put_u8(0);
        message.put_u32(u32::try_from(check.request.len()).unwrap_or(u32::MAX));
        message.put_slice(&check.request);
        let head = head::grpc(&self.ask, check, message.len());
        let kept = MOST_GRPC + 1;
        let answer = self
            .exchange(true, &head, message.freeze(), kept, is_no_grpc)
            .await?;
        if is_no_grpc(&answer.head) {
            return Ok(self.wrong(format!("not an answer of gRPC: status {}", answer.head.status)));
        }
        // Without a body the head holds what trailers would.
        let end = answer.trailers.as_ref().unwrap_or(&answer.head.headers);
        if end.get("grpc-status").is_none_or(|status| status != "0") {
            let status = end.get("grpc-status").and_then(|status| status.to_str().ok());
            return Ok(self.wrong(format!("grpc-status {}", status.unwrap_or("missing"))));
        }
        Ok(match message_of(&answer.body).and_then(says_serving) {
            Some(true) => self.passed(),
            Some(false) => self.wrong("not serving"),
            None => self.wrong("invalid grpc.health.v1 RPC payload"),
        })
    }

    /// Sends a request and reads its answer, up to `kept` bytes of its body. Where `is_enough` says so of the head, the
    /// rest is not waited for.
    async fn exchange(
        &mut self,
        http2: bool,
        head: &RequestHead,
        body: Bytes,
        kept: usize,
        is_enough: fn(&ResponseHead) -> bool,
    ) -> Result<Answer, Unanswered> {
        let session = match std::mem::take(&mut self.session) {
            Session::Http(session) => session.alive().await,
            _ => None,
        };
        let session = match session {
            Some(session) => session,
            None => self.open(http2).await?,
        };
        match session {
            HttpSession::Http1(mut connection) => {
                connection.send_request(head)?;
                let answer = converse(&mut *connection, body, kept, is_enough).await?;
                if connection.reusable() {
                    self.session = Session::Http(HttpSession::Http1(connection));
                }
                Ok(answer)
            }
            HttpSession::Http2(mut sender) => {
                poll_fn(|cx| sender.poll_ready(cx)).await?;
                let mut stream = sender.send_request(head.clone())?;
                let answer = converse(&mut stream, body, kept, is_enough).await?;
                self.session = Session::Http(HttpSession::Http2(sender));
                Ok(answer)
            }
        }
    }

    async fn open(&self, http2: bool) -> Result<HttpSession, Unanswered> {
        let io = self.connect().await?.io;
        if !http2 {
            let connection = ClientConnection::new(io, http1::server::Options::default());
            return Ok(HttpSession::Http1(Box::new(connection)));
        }
        let options = http2::Options {
            http2: self.ask.config.http.http2.clone(),
            ..http2::Options::default()
        };
        let (sender, connection) = http2::client::handshake(io, &options).await?;
        // It ends when the last sender is gone.
        spawn(async {
            let _ = connection.await;
        });
        Ok(HttpSession::Http2(Box::new(sender)))
    }
}

impl HttpSession {
    /// The session, unless it was closed meanwhile.
    async fn alive(mut self) -> Option<Self> {
        let alive = match &mut self {
            Self::Http1(connection) => {
                poll_fn(|cx| std::task::Poll::Ready(connection.poll_idle(cx).is_pending())).await
            }
            Self::Http2(sender) => sender.is_open(),
        };
        alive.then_some(self)
    }
}

async fn converse(
    io: &mut impl Upstream,
    body: Bytes,
    kept: usize,
    is_enough: fn(&ResponseHead) -> bool,
) -> Result<Answer, StreamError> {
    if !body.is_empty() {
        poll_fn(|cx| io.poll_ready(cx)).await?;
        io.send_data(body, true)?;
    }
    poll_fn(|cx| io.poll_flush(cx)).await?;
    let head = loop {
        if let ResponseEvent::Head(head) = poll_fn(|cx| io.poll_response(cx)).await? {
            break head;
        }
    };
    let mut answer = Answer {
        head,
        body: BytesMut::new(),
        trailers: None,
    };
    if is_enough(&answer.head) {
        return Ok(answer);
    }
    while let Some(frame) = poll_fn(|cx| io.poll_frame(cx)).await {
        match frame? {
            Frame::Data(data) => {
                let room = kept.saturating_sub(answer.body.len());
                answer.body.extend_from_slice(&data[..data.len().min(room)]);
            }
            Frame::Trailers(trailers) => answer.trailers = Some(trailers),
        }
    }
    Ok(answer)
}

/// Whether the head of an answer is not that of gRPC.
fn is_no_grpc(head: &ResponseHead) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    head.status != StatusCode::OK || !(is_grpc || head.headers.contains_key("grpc-status"))
}

/// The one message of a body, not compressed.
fn message_of(body: &[u8]) -> Option<&[u8]> {
    let (head, rest) = body.split_first_chunk::<GRPC_HEAD>()?;
    let [flag, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (flag == 0 && rest.len() == length && body.len() <= MOST_GRPC).then_some(rest)
}
