//! gRPC on the admin port: the client status discovery service, by which the state of an xDS client is asked for
//! (gRFC A40). Envoy's own admin port has none.
//!
//! Holds: messages are bounded ([`MAX_REQUEST`]) and not compressed; an answer is made off the main thread and waits for
//! its reader before the next request of the stream is read. A failure is a gRPC status, never a broken stream.

use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use remora_translate::client_status::{ClientView, StatusError, client_status};
use tokio::sync::mpsc;

use super::body::{Answer, frames};
use super::{AdminContext, ResourceKind};

/// Bytes of one request; those of this service are small.
const MAX_REQUEST: usize = 64 << 10;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// gRPC status codes.
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const INTERNAL: u32 = 13;
    pub(super) const UNAVAILABLE: u32 = 14;
}

/// How an exchange ends: a code and words.
struct Ended(u32, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// One request, one answer.
    Fetch,
    /// An answer for each request.
    Stream,
}

/// Whether somebody speaks gRPC to us.
pub(super) fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(GRPC.as_bytes()))
}

/// Answers one exchange.
pub(super) fn answer<B>(context: Rc<AdminContext>, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    let (frames_to, answer) = mpsc::channel(1);
    let method = match request.uri().path() {
        "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus" => Method::Fetch,
        "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus" => Method::Stream,
        path => {
            let ended = Ended(code::UNIMPLEMENTED, format!("unknown method {path}"));
            // The channel has room for it.
            let _ = frames_to.try_send(Frame::trailers(trailers(&ended)));
            return frames(GRPC, answer);
        }
    };
    tracing::debug!(?method, "admin gRPC request");
    tokio::task::spawn_local(async move {
        let mut requests = Requests {
            body: request.into_body(),
            read: BytesMut::new(),
        };
        let ended = match serve(&context, method, &mut requests, &frames_to).await {
            Ok(()) => Ended(code::OK, String::new()),
            Err(ended) => ended,
        };
        // A reader that went away needs no status.
        let _ = frames_to.send(Frame::trailers(trailers(&ended))).await;
    });
    frames(GRPC, answer)
}

async fn serve<B: Body<Data = Bytes> + Unpin>(
    context: &AdminContext,
    method: Method,
    requests: &mut Requests<B>,
    answers: &mpsc::Sender<Frame<Bytes>>,
) -> Result<(), Ended> {
    let mut answered = 0;
    while let Some(request) = requests.next().await? {
        if method == Method::Fetch && answered > 0 {
            return Err(Ended(code::INTERNAL, "expected one request, found more".into()));
        }
        let answer = one(context, request).await?;
        if answers.send(Frame::data(answer)).await.is_err() {
            return Ok(());
        }
        answered += 1;
    }
    if method == Method::Fetch && answered == 0 {
        return Err(Ended(code::INTERNAL, "expected one request, found none".into()));
    }
    Ok(())
}

/// One answer with its length before it.
async fn one(context: &AdminContext, request: Bytes) -> Result<Bytes, Ended> {
    let operator = &*context.operator;
    let client = ClientView {
        node: operator.encoded_node(),
        resources: ResourceKind::ALL
            .into_iter()
            .flat_map(|kind| operator.resources(kind))
            .collect(),
    };
    let made = tokio::task::spawn_blocking(move || client_status(&request, &client)).await;
    let message = match made {
        Ok(Ok(message)) => message,
        Ok(Err(error @ StatusError::Request(_))) => {
            return Err(Ended(code::INVALID_ARGUMENT, error.to_string()));
        }
        Ok(Err(error)) => return Err(Ended(code::INTERNAL, error.to_string())),
        Err(_) => return Err(Ended(code::INTERNAL, "the answer was given up".into())),
    };
    let length = u32::try_from(message.len())
        .map_err(|_| Ended(code::RESOURCE_EXHAUSTED, "the answer is larger than 4 GiB".into()))?;
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.extend_from_slice(&[0]);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&message);
    Ok(framed.freeze())
}

/// The messages of a request's body.
struct Requests<B> {
    body: B,
    read: BytesMut,
}

impl<B: Body<Data = Bytes> + Unpin> Requests<B> {
    /// The next message; nothing at the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, Ended> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.read.extend(frame.into_data().ok()),
                Some(Err(_)) => return Err(Ended(code::UNAVAILABLE, "the request broke off".into())),
                None if self.read.is_empty() => return Ok(None),
                None => {
                    return Err(Ended(
                        code::INTERNAL,
                        "the request ends inside of a message".into(),
                    ));
                }
            }
        }
    }

    /// A message that was read whole.
    fn take(&mut self) -> Result<Option<Bytes>, Ended> {
        let Some((&[compressed, a, b, c, d], rest)) = self.read.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if compressed != 0 {
            let words = "compressed messages are not supported".into();
            return Err(Ended(code::UNIMPLEMENTED, words));
        }
        if length > MAX_REQUEST {
            let words = format!("a request may have {MAX_REQUEST} bytes, this one has {length}");
            return Err(Ended(code::RESOURCE_EXHAUSTED, words));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.read.advance(5);
        Ok(Some(self.read.split_to(length).freeze()))
    }
}

fn trailers(ended: &Ended) -> HeaderMap {
    let Ended(code, words) = ended;
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(*code));
    // Percent-encoded, as gRPC over HTTP/2 wants it ("Status-Message").
    let encoded: String = words
        .bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    if let (false, Ok(message)) = (encoded.is_empty(), HeaderValue::try_from(encoded)) {
        trailers.insert(MESSAGE, message);
    }
    trailers
}
