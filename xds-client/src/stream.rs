//! Moves the bytes of a session over one gRPC stream at a time, and opens the next one when it ends.
//!
//! What holds: every attempt has its own connection; a failed attempt goes on to the next server, an ended stream
//! that had a response stays; waits follow the [`BackOff`], reset by a response. Nothing is decoded here, and the
//! size of a message is the session's business.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, TryFutureExt};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};

use crate::back_off::BackOff;
use crate::connector::{ConnectTo, Connector, Target};
use crate::handle::{Attendant, Handle, now};
use crate::rate_limit::{Bucket, RateLimit};
use crate::resource_type::{aggregated_path, own_path};
use crate::session::{Session, Settings, Variant};
use crate::status::StreamEnd;
use crate::update::Event;

/// Requests between the session and the connection; more wait in the session, merged.
const REQUEST_QUEUE: usize = 4;

/// The stream's receive window, bytes: a push of tens of megabytes should not crawl in steps of HTTP/2's 64 KiB.
const WINDOW: u32 = 4 << 20;

/// A Go server with default settings allows a ping every five minutes.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(310);

/// One control plane.
#[derive(Clone, Debug)]
pub struct Server {
    /// For events and logs: the cluster's name or the target URI.
    pub name: Arc<str>,
    /// Where it listens.
    pub target: Target,
    /// The `:authority` of the stream, `host` or `host:port`.
    pub authority: String,
    /// The `:scheme`: is the connection that the connector opens encrypted?
    pub scheme: http::uri::Scheme,
    /// Sent with the stream (`GrpcService.initial_metadata`).
    pub initial_metadata: Vec<(String, String)>,
}

/// Which stream.
#[derive(Clone, Debug)]
pub enum Scope {
    /// One stream for all types (ADS).
    Aggregated,
    /// The stream of this type's own service.
    Only(Arc<str>),
}

/// A client of one control plane, or of several of which one is used at a time.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How the servers speak.
    pub variant: Variant,
    /// Which stream is used.
    pub scope: Scope,
    /// Tried in this order, over and over; at least one.
    pub servers: Vec<Server>,
    /// An encoded `envoy.config.core.v3.Node`, sent verbatim.
    pub node: Bytes,
    /// Waits between attempts.
    pub back_off: BackOff,
    /// Until a connection stands, TLS and the HTTP/2 preface included.
    pub connect_timeout: Duration,
    /// Silence before an HTTP/2 ping, so that a half-open stream is found out. A server that finds it too often says so
    /// (a Go server with default settings wants five minutes), and from then on it is twice as long (gRFC A8).
    pub keepalive_interval: Option<Duration>,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
    /// How many requests may leave (`rate_limit_settings`); no limit if unset.
    pub rate_limit: Option<RateLimit>,
    /// See [`Settings::max_response_size`].
    pub max_response_size: usize,
    /// See [`Settings::fetch_timeout`].
    pub fetch_timeout: Option<Duration>,
}

impl ClientConfig {
    /// Envoy's defaults, and a ping after 30 seconds of silence that must be answered within 10.
    #[must_use]
    pub fn new(variant: Variant, scope: Scope, servers: Vec<Server>, node: Bytes) -> Self {
        Self {
            variant,
            scope,
            servers,
            node,
            back_off: BackOff::default(),
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Duration::from_secs(10),
            rate_limit: None,
            max_response_size: usize::MAX,
            fetch_timeout: Some(Duration::from_secs(15)),
        }
    }
}

/// Why a client cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Nobody to ask.
    #[error("expected at least one server, found none")]
    NoServer,
    /// The type has no service in this variant.
    #[error("expected a type with a service of its own in this variant, found '{0}'")]
    NoService(Arc<str>),
    /// Not a URI authority.
    #[error("server '{server}': expected an authority like 'host:port', found '{found}'")]
    Authority {
        /// Its name.
        server: Arc<str>,
        /// What was configured.
        found: String,
    },
    /// Not a header.
    #[error(
        "server '{server}': expected a header name and an ASCII value in initial_metadata, found '{key}'"
    )]
    Metadata {
        /// Its name.
        server: Arc<str>,
        /// The offending key; values may be secret.
        key: String,
    },
}

/// Starts a client on the current runtime. It ends when the receiver of its events is dropped.
///
/// # Errors
/// The configuration can never work.
pub fn spawn(
    config: ClientConfig,
    connector: Connector,
) -> Result<(Handle, mpsc::Receiver<Event>), ConfigError> {
    let (path, only_type) = match &config.scope {
        Scope::Aggregated => (aggregated_path(config.variant), None),
        Scope::Only(type_url) => {
            let path =
                own_path(type_url, config.variant).ok_or_else(|| ConfigError::NoService(type_url.clone()))?;
            (path, Some(type_url.clone()))
        }
    };
    let servers = config
        .servers
        .iter()
        .map(Peer::new)
        .collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() {
        return Err(ConfigError::NoServer);
    }
    let settings = Settings {
        variant: config.variant,
        node: config.node.clone(),
        only_type,
        max_response_size: config.max_response_size,
        fetch_timeout: config.fetch_timeout,
    };
    let (attendant, events) = Attendant::new(Session::new(settings));
    let handle = attendant.handle.clone();
    tokio::spawn(
        Driver {
            config,
            path,
            servers,
            connector,
            attendant,
        }
        .run(),
    );
    Ok((handle, events))
}

/// A server as tonic wants it.
#[derive(Debug)]
struct Peer {
    name: Arc<str>,
    target: Target,
    origin: Uri,
    metadata: MetadataMap,
}

impl Peer {
    fn new(server: &Server) -> Result<Self, ConfigError> {
        let Server {
            name,
            target,
            authority,
            scheme,
            initial_metadata,
        } = server;
        let origin = Uri::builder()
            .scheme(scheme.clone())
            .authority(authority.as_str())
            .path_and_query("/")
            .build();
        let origin = origin.map_err(|_| ConfigError::Authority {
            server: name.clone(),
            found: authority.clone(),
        })?;
        let mut headers = HeaderMap::new();
        for (key, value) in initial_metadata {
            let (Ok(header), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) else {
                return Err(ConfigError::Metadata {
                    server: name.clone(),
                    key: key.clone(),
                });
            };
            headers.append(header, value);
        }
        let metadata = MetadataMap::from_headers(headers);
        Ok(Self {
            name: name.clone(),
            target: target.clone(),
            origin,
            metadata,
        })
    }
}

#[derive(Debug)]
struct Driver {
    config: ClientConfig,
    path: &'static str,
    servers: Vec<Peer>,
    connector: Connector,
    attendant: Attendant,
}

/// How an attempt ended.
struct End {
    reason: String,
    had_response: bool,
}

impl Driver {
    async fn run(mut self) {
        let mut turn = 0;
        loop {
            let server = &self.servers[turn % self.servers.len()];
            let Some(End { reason, had_response }) = self.attendant.attend(self.attempt(server)).await else {
                return;
            };
            self.config.keepalive_interval = self
                .config
                .keepalive_interval
                .map(|interval| after_complaints(interval, &reason));
            if had_response {
                self.config.back_off.reset();
            } else {
                turn += 1;
            }
            let retry_in = self.config.back_off.next_wait();
            tracing::debug!(
                server = &*server.name,
                reason,
                had_response,
                ?retry_in,
                "xDS stream ended"
            );
            {
                let mut session = self.attendant.handle.session();
                let end = StreamEnd {
                    server: server.name.clone(),
                    reason,
                    had_response,
                    at: now(),
                };
                session.disconnected(end, retry_in);
            }
            if self
                .attendant
                .attend(tokio::time::sleep(retry_in))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn attempt(&self, server: &Peer) -> End {
        let connecting = tokio::time::timeout(self.config.connect_timeout, self.connect(server));
        let failed = |reason| End {
            reason,
            had_response: false,
        };
        match connecting.await {
            Ok(Ok(grpc)) => self.converse(grpc, server).await,
            Ok(Err(error)) => failed(format!("cannot connect: {}", words(&error))),
            Err(_) => failed(format!(
                "cannot connect: no connection within {:?}",
                self.config.connect_timeout
            )),
        }
    }

    async fn connect(&self, server: &Peer) -> Result<Grpc<Channel>, tonic::transport::Error> {
        // The URI would be dialled by tonic's own connector; ours knows its target, and the origin names the server.
        let mut endpoint = Endpoint::from_static("http://xds.invalid")
            .origin(server.origin.clone())
            .user_agent(concat!("remora/", env!("CARGO_PKG_VERSION")))?
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        if let Some(interval) = self.config.keepalive_interval {
            endpoint = endpoint
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(self.config.keepalive_timeout)
                .keep_alive_while_idle(true);
        }
        let connector = ConnectTo {
            connector: self.connector.clone(),
            target: server.target.clone(),
        };
        let channel = endpoint.connect_with_connector(connector).await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await?;
        Ok(grpc)
    }

    async fn converse(&self, mut grpc: Grpc<Channel>, server: &Peer) -> End {
        let handle = &self.attendant.handle;
        let (requests, outbound) = mpsc::channel::<Bytes>(REQUEST_QUEUE);
        handle.session().connected(server.name.clone(), now());
        handle.may_have_events();
        let outbound = ReceiverStream::new(outbound);
        let request =
            tonic::Request::from_parts(server.metadata.clone(), tonic::Extensions::default(), outbound);
        // A server may send its headers with the first response only: requests must flow while they are awaited.
        let path = http::uri::PathAndQuery::from_static(self.path);
        let opening = grpc
            .streaming(request, path, AsIs)
            .map_ok(tonic::Response::into_inner);
        let mut inbound = pin!(opening.try_flatten_stream());
        let mut had_response = false;
        let mut bucket = self.config.rate_limit.map(Bucket::new);
        let reason = loop {
            let (has_request, wants_messages) = {
                let session = handle.session();
                (session.has_request(), session.wants_messages())
            };
            let ready_at = bucket.as_ref().and_then(|bucket| bucket.ready_at(now()));
            tokio::select! {
                permit = requests.reserve(), if has_request && ready_at.is_none() => {
                    // Without a receiver the connection is gone, and the other direction will say why.
                    let request = handle.session().poll_request(now());
                    if let (Ok(permit), Some(request)) = (permit, request) {
                        permit.send(request.message);
                        bucket.iter_mut().for_each(|bucket| bucket.take(now()));
                    }
                }
                () = until(ready_at), if has_request && ready_at.is_some() => continue,
                message = inbound.next(), if wants_messages => match message {
                    Some(Ok(message)) => {
                        had_response = true;
                        if let Err(malformed) = handle.session().on_message(message, now()) {
                            break malformed.to_string();
                        }
                    }
                    Some(Err(status)) => break describe(&status),
                    None => break "the server ended the stream".to_owned(),
                },
                () = handle.may_have_requests() => continue,
            }
            handle.may_have_events();
        };
        End { reason, had_response }
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// How long to be silent before a ping, after a server ended a stream for this reason (gRFC A8: twice as long). Never
/// longer than what the strictest Go server allows.
fn after_complaints(interval: Duration, reason: &str) -> Duration {
    let too_often = reason.contains("too_many_pings") || reason.contains("ENHANCE_YOUR_CALM");
    let limit = LONGEST_KEEPALIVE.max(interval);
    if too_often {
        (interval * 2).min(limit)
    } else {
        interval
    }
}

fn describe(status: &tonic::Status) -> String {
    let words = format!("gRPC status {:?}: {}", status.code(), status.message());
    with_causes(words, status.source())
}

/// An error with its causes.
fn words(error: &dyn Error) -> String {
    with_causes(error.to_string(), error.source())
}

fn with_causes(mut words: String, mut source: Option<&(dyn Error + 'static)>) -> String {
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    words
}

/// Messages as the bytes that they are; the session reads and writes them.
#[derive(Clone, Copy, Debug)]
struct AsIs;

impl Codec for AsIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests;
