//! What does an operator of the access log language say of this exchange?
//!
//! Holds: one exhaustive match over the operators, read from the record and from the headers that were kept; the same
//! values serve access logs and header formatters. An absent value is `-` in a text and `null` in JSON. A value that this
//! proxy does not measure (wire bytes of HTTP, ids of upstream connections) is absent, never invented.
//! Does not decide which exchanges are logged, and keeps no state.

mod metadata;
mod names;
mod tls;

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Version};
use remora_model::cluster::UpstreamProtocol;
use remora_model::endpoint::{EndpointAddress, LabelValue};
use remora_model::log::{Field, GrpcStatusForm, HeaderField, HeaderSource, Operator, Piece, TimePiece};

use super::ExchangeRecord;
use super::time_text::Moment;

/// What the operators may look at.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The exchange; may be incomplete where it is still going on.
    pub record: &'a ExchangeRecord,
    /// Headers of the request as sent upstream.
    pub request_headers: Option<&'a HeaderMap>,
    /// Headers of the response as sent downstream.
    pub response_headers: Option<&'a HeaderMap>,
    /// Its trailers.
    pub response_trailers: Option<&'a HeaderMap>,
    /// The body of a reply of our own, while it is made.
    pub local_body: Option<&'a Bytes>,
}

/// What an operator says.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Nothing.
    Absent,
    /// A text.
    Text(Cow<'a, str>),
    /// A number, which stays one in JSON.
    Number(u64),
    /// `address:port`.
    Address(SocketAddr),
    /// An address without port.
    Ip(IpAddr),
    /// When the exchange began.
    Time(Moment, &'a [TimePiece]),
}

impl<'a> Value<'a> {
    /// A text, absent if it is empty.
    fn text(text: &'a str) -> Self {
        if text.is_empty() {
            Self::Absent
        } else {
            Self::Text(Cow::Borrowed(text))
        }
    }

    fn maybe(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::text)
    }

    /// Appends it as text, a [`Value::Text`] cut to `cut` bytes (to whole characters). False: it is absent.
    pub fn write(&self, cut: Option<usize>, out: &mut String) -> bool {
        let _ = match self {
            Self::Absent => return false,
            Self::Text(text) => {
                let mut end = cut.unwrap_or(text.len()).min(text.len());
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                out.push_str(&text[..end]);
                Ok(())
            }
            Self::Number(number) => write!(out, "{number}"),
            Self::Address(address) => write!(out, "{address}"),
            Self::Ip(ip) => write!(out, "{ip}"),
            Self::Time(moment, pieces) => {
                moment.write(pieces, out);
                Ok(())
            }
        };
        true
    }
}

/// Renders pieces as text; `absent` stands for values that are not there (`-`, or nothing with `omit_empty_values`).
pub fn write_text(pieces: &[Piece], values: &Values<'_>, absent: &str, out: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.push_str(text),
            Piece::Value(operator, cut) => {
                if !values.value(operator).write(*cut, out) {
                    out.push_str(absent);
                }
            }
        }
    }
}

/// Renders pieces as the value of a header: absent values are empty there (as Envoy's header formatters leave them), or
/// `-` where what is empty is not omitted.
pub fn render_text(pieces: &[Piece], values: &Values<'_>, omit_empty: bool) -> String {
    let mut out = String::new();
    write_text(pieces, values, if omit_empty { "" } else { "-" }, &mut out);
    out
}

impl<'a> Values<'a> {
    /// All that the record itself kept.
    pub fn of(record: &'a ExchangeRecord) -> Self {
        Self {
            record,
            request_headers: record.request_headers.as_ref(),
            response_headers: record.response_headers.as_ref(),
            response_trailers: record.response_trailers.as_ref(),
            local_body: None,
        }
    }

    /// What `operator` says.
    pub fn value(&self, operator: &'a Operator) -> Value<'a> {
        match operator {
            Operator::Header {
                source,
                name,
                alternative,
            } => {
                let first = self.header(*source, name);
                match (first, alternative) {
                    (Value::Absent, Some(alternative)) => self.header(*source, alternative),
                    (first, _) => first,
                }
            }
            Operator::RequestWithoutQuery { name, alternative } => {
                let mut found = self.header(HeaderSource::Request, name);
                if let (Value::Absent, Some(alternative)) = (&found, alternative) {
                    found = self.header(HeaderSource::Request, alternative);
                }
                without_query(found)
            }
            Operator::StartTime(pieces) => Value::Time(self.started(), pieces),
            Operator::UpstreamMetadata(path) => self.upstream_metadata(path),
            Operator::DynamicMetadata(path) => metadata::dynamic(self.record, path),
            // Clusters keep no metadata.
            Operator::ClusterMetadata(_) => Value::Absent,
            Operator::FilterState { key, plain } => metadata::object(self.record, key, *plain),
            Operator::Environment(name) => match std::env::var(&**name) {
                Ok(value) => Value::Text(Cow::Owned(value)),
                Err(_) => Value::Text(Cow::Borrowed("-")),
            },
            Operator::GrpcStatus(form) => self.grpc_status(*form),
            Operator::ResponseFlags => self.flags(|flag| flag),
            Operator::ResponseFlagsLong => self.flags(names::long_flag),
            Operator::Plain(field) => self.plain(*field),
            Operator::Unsupported(_) => Value::Absent,
        }
    }

    /// Whether HTTP was spoken: a tunnel has no request.
    fn is_http(&self) -> bool {
        self.record.version.is_some()
    }

    /// When the exchange began, by the wall clock of now: a step of the clock between is not seen twice.
    fn started(&self) -> Moment {
        let age = Instant::now().saturating_duration_since(self.record.started);
        Moment::of(
            SystemTime::now()
                .checked_sub(age)
                .unwrap_or(SystemTime::UNIX_EPOCH),
        )
    }

    fn header(&self, source: HeaderSource, name: &'a HeaderField) -> Value<'a> {
        let headers = match source {
            HeaderSource::Request => self.request_headers,
            HeaderSource::Response => self.response_headers,
            HeaderSource::Trailer => self.response_trailers,
        };
        let record = self.record;
        match (name, source) {
            (HeaderField::Header(name), _) => match headers.and_then(|headers| headers.get(name)) {
                None => Value::Absent,
                Some(value) => Value::Text(String::from_utf8_lossy(value.as_bytes())),
            },
            (HeaderField::Status, HeaderSource::Response) => match record.status {
                Some(status) => Value::Text(Cow::Owned(status.to_string())),
                None => Value::Absent,
            },
            (_, HeaderSource::Response | HeaderSource::Trailer) => Value::Absent,
            (HeaderField::Method, _) if self.is_http() => Value::text(record.method.as_str()),
            (HeaderField::Path, _) => Value::maybe(
                record
                    .sent_path
                    .as_ref()
                    .or(record.path.as_ref())
                    .map(|path| path.as_str()),
            ),
            (HeaderField::Authority, _) => {
                let authority = record.sent_authority.as_ref().or(record.authority.as_ref());
                Value::maybe(authority.map(|authority| authority.as_str()))
            }
            (HeaderField::Scheme, _) => match &record.scheme {
                Some(scheme) => Value::text(scheme.as_str()),
                None if self.is_http() => Value::text(if record.connection.tls.is_some() {
                    "https"
                } else {
                    "http"
                }),
                None => Value::Absent,
            },
            (HeaderField::Method | HeaderField::Status | HeaderField::Protocol, _) => Value::Absent,
        }
    }

    fn upstream_metadata(&self, path: &'a [Box<str>]) -> Value<'a> {
        let (Some(upstream), [namespace, key]) = (&self.record.upstream, path) else {
            return Value::Absent;
        };
        let labels = match &**namespace {
            "envoy.lb" => &upstream.endpoint.spec.details().balance_labels,
            "envoy.transport_socket_match" => &upstream.endpoint.spec.details().transport_labels,
            _ => return Value::Absent,
        };
        match labels.at(key) {
            None | Some(LabelValue::Null | LabelValue::List(_) | LabelValue::Fields(_)) => Value::Absent,
            Some(LabelValue::Text(text)) => Value::Text(Cow::Borrowed(text)),
            Some(LabelValue::Number(number)) => Value::Text(Cow::Owned(number.to_string())),
            Some(LabelValue::Bool(value)) => Value::text(if *value { "true" } else { "false" }),
        }
    }

    fn grpc_status(&self, form: GrpcStatusForm) -> Value<'a> {
        let Some(status) = self.record.grpc_status else {
            return Value::Absent;
        };
        let known = match form {
            GrpcStatusForm::Number => return Value::Number(status.into()),
            GrpcStatusForm::Camel => names::grpc_camel(status),
            GrpcStatusForm::Snake => names::grpc_snake(status),
        };
        known.map_or_else(|| Value::Text(Cow::Owned(status.to_string())), Value::text)
    }

    fn flags(&self, name: impl Fn(&'static str) -> &'static str) -> Value<'a> {
        // In the order in which they came up, as in Envoy.
        let mut flags = self.record.flags.iter().copied().filter(|flag| *flag != "-");
        let Some(first) = flags.next() else {
            return Value::text("-");
        };
        let mut text = Cow::Borrowed(name(first));
        for flag in flags {
            let text = text.to_mut();
            text.push(',');
            text.push_str(name(flag));
        }
        Value::Text(text)
    }

    fn plain(&self, field: Field) -> Value<'a> {
        let record = self.record;
        let connection = &*record.connection;
        match field {
            Field::Protocol => Value::maybe(record.version.and_then(version_name)),
            Field::ResponseCode => Value::Number(record.status.unwrap_or(0).into()),
            Field::ResponseCodeDetails => Value::text(&record.details),
            // Set by filters that we do not have.
            Field::ConnectionTerminationDetails => Value::maybe(self.record.termination.as_deref()),
            Field::VirtualClusterName | Field::TraceId => Value::Absent,
            Field::BytesReceived => Value::Number(record.received),
            Field::BytesSent => Value::Number(record.sent),
            Field::DownstreamWireBytesReceived | Field::UpstreamWireBytesSent => self.wire(record.received),
            Field::DownstreamWireBytesSent | Field::UpstreamWireBytesReceived => self.wire(record.sent),
            Field::RouteName => Value::maybe(record.route.as_ref().map(|route| &*route.name)),
            Field::RequestedServerName => Value::maybe(connection.server_name.as_deref()),
            Field::FilterChainName => Value::text(&connection.chain),
            Field::ConnectionId => Value::Number(connection.id),
            Field::StreamId => self
                .request_headers
                .and_then(|headers| headers.get("x-request-id"))
                .map_or(Value::Absent, |value| {
                    Value::Text(String::from_utf8_lossy(value.as_bytes()))
                }),
            Field::Hostname => Value::text(host_name()),
            // Envoy's operator says something only inside of `local_reply_config`.
            Field::LocalReplyBody => Value::Text(
                self.local_body
                    .map_or(Cow::Borrowed(""), |body| String::from_utf8_lossy(body)),
            ),
            Field::GrpcStatusNumber => self.grpc_status(GrpcStatusForm::Number),
            Field::ConfigGeneration => Value::Number(record.generation),
            Field::AccessLogType => Value::Text(Cow::Borrowed(record.log_type.name())),
            Field::FailureReason => Value::maybe(record.failure.as_deref()),
            Field::Duration
            | Field::RequestDuration
            | Field::RequestTxDuration
            | Field::ResponseDuration
            | Field::ResponseTxDuration => self.duration(field),
            Field::DownstreamLocalAddress => Value::Address(connection.local),
            Field::DownstreamLocalAddressWithoutPort => Value::Ip(connection.local.ip()),
            Field::DownstreamLocalPort => Value::Number(connection.local.port().into()),
            Field::DownstreamRemoteAddress => Value::Address(record.client),
            Field::DownstreamRemoteAddressWithoutPort => Value::Ip(record.client.ip()),
            Field::DownstreamRemotePort => Value::Number(record.client.port().into()),
            Field::DownstreamDirectRemoteAddress => Value::Address(connection.peer),
            Field::DownstreamDirectRemoteAddressWithoutPort => Value::Ip(connection.peer.ip()),
            Field::DownstreamDirectRemotePort => Value::Number(connection.peer.port().into()),
            Field::DownstreamPeerUriSan
            | Field::DownstreamLocalUriSan
            | Field::DownstreamPeerDnsSan
            | Field::DownstreamPeerSubject
            | Field::DownstreamPeerIssuer
            | Field::DownstreamLocalSubject
            | Field::DownstreamPeerSerial
            | Field::DownstreamPeerFingerprint256
            | Field::DownstreamTlsVersion
            | Field::DownstreamTlsCipher
            | Field::DownstreamTlsSessionId
            | Field::DownstreamTransportFailureReason => tls::downstream(field, connection.tls.as_ref()),
            _ => self.upstream(field),
        }
    }

    /// Bytes on the wire: those of a tunnel are its bytes; those of HTTP are not counted.
    fn wire(&self, bytes: u64) -> Value<'a> {
        if self.is_http() {
            Value::Absent
        } else {
            Value::Number(bytes)
        }
    }

    fn duration(&self, field: Field) -> Value<'a> {
        let record = self.record;
        let ended = record.ended.unwrap_or_else(|| record.started.elapsed());
        let duration = match field {
            Field::Duration => Some(ended),
            Field::RequestDuration => record.request_received,
            // The last byte leaves as soon as it was received and a connection is there.
            Field::RequestTxDuration => record.request_received.filter(|_| self.connected().is_some()),
            Field::ResponseDuration => record.response_started,
            _ => record
                .response_started
                .map(|started| ended.saturating_sub(started)),
        };
        duration.map_or(Value::Absent, |duration: Duration| {
            Value::Number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
        })
    }

    /// Our address towards the endpoint: there is one once a connection was made.
    fn connected(&self) -> Option<SocketAddr> {
        self.record.upstream.as_ref()?.local
    }

    fn upstream(&self, field: Field) -> Value<'a> {
        let record = self.record;
        let endpoint = record.upstream.as_ref().map(|upstream| &*upstream.endpoint);
        let session = record
            .upstream
            .as_ref()
            .and_then(|upstream| upstream.tls.as_deref());
        let address =
            |value: fn(SocketAddr) -> Value<'static>| match endpoint.map(|endpoint| &endpoint.spec.address) {
                Some(EndpointAddress::Socket(address)) if self.connected().is_some() => value(*address),
                _ => Value::Absent,
            };
        match field {
            Field::UpstreamProtocol => self.upstream_protocol(),
            Field::UpstreamHost => endpoint.map_or(Value::Absent, |endpoint| host(&endpoint.spec.address)),
            Field::UpstreamHostName => endpoint.map_or(Value::Absent, |endpoint| {
                match &endpoint.spec.details().hostname {
                    Some(name) if !name.is_empty() => Value::Text(Cow::Borrowed(name)),
                    _ => host(&endpoint.spec.address),
                }
            }),
            Field::UpstreamCluster => {
                Value::maybe(record.cluster.as_ref().map(|cluster| &*cluster.stat_name))
            }
            Field::UpstreamClusterRaw => Value::maybe(record.cluster.as_ref().map(|cluster| &*cluster.name)),
            Field::UpstreamLocalAddress => self.connected().map_or(Value::Absent, Value::Address),
            Field::UpstreamLocalAddressWithoutPort => {
                self.connected().map_or(Value::Absent, |at| Value::Ip(at.ip()))
            }
            Field::UpstreamLocalPort => self
                .connected()
                .map_or(Value::Absent, |at| Value::Number(at.port().into())),
            Field::UpstreamRemoteAddress => address(Value::Address),
            Field::UpstreamRemoteAddressWithoutPort => address(|address| Value::Ip(address.ip())),
            Field::UpstreamRemotePort => address(|address| Value::Number(address.port().into())),
            Field::UpstreamTransportFailureReason => {
                record.transport_failure.as_ref().map_or(Value::Absent, |reason| {
                    if reason.contains(char::is_whitespace) {
                        Value::Text(Cow::Owned(reason.replace(char::is_whitespace, "_")))
                    } else {
                        Value::text(reason)
                    }
                })
            }
            Field::UpstreamRequestAttemptCount => Value::Number(record.attempts.into()),
            Field::UpstreamTlsVersion => Value::maybe(session.map(|session| session.version_name())),
            Field::UpstreamTlsCipher => Value::maybe(session.map(|session| session.cipher)),
            Field::UpstreamPeerSubject => {
                Value::maybe(session.and_then(|session| Some(session.peer.as_ref()?.subject())))
            }
            Field::UpstreamPeerUriSan => session
                .and_then(|session| session.peer.as_ref())
                .map_or(Value::Absent, |peer| tls::joined(peer.uri_sans())),
            // Upstream connections carry no number.
            _ => Value::Absent,
        }
    }

    fn upstream_protocol(&self) -> Value<'a> {
        let record = self.record;
        let (Some(cluster), Some(upstream), true) = (&record.cluster, &record.upstream, self.is_http())
        else {
            return Value::Absent;
        };
        if self.connected().is_none() {
            return Value::Absent;
        }
        let http2 = match cluster.http.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Downstream => record.version == Some(Version::HTTP_2),
            UpstreamProtocol::Alpn => upstream
                .tls
                .as_ref()
                .is_some_and(|session| session.alpn.as_deref() == Some(b"h2")),
        };
        Value::text(if http2 { "HTTP/2" } else { "HTTP/1.1" })
    }
}

fn without_query(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Text(Cow::Borrowed(text)) => {
            Value::Text(Cow::Borrowed(text.split_once('?').map_or(text, |(path, _)| path)))
        }
        Value::Text(Cow::Owned(mut text)) => {
            text.truncate(text.find('?').unwrap_or(text.len()));
            Value::Text(Cow::Owned(text))
        }
        other => other,
    }
}

fn version_name(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("HTTP/1.0"),
        Version::HTTP_11 => Some("HTTP/1.1"),
        Version::HTTP_2 => Some("HTTP/2"),
        _ => None,
    }
}

fn host(address: &EndpointAddress) -> Value<'_> {
    match address {
        EndpointAddress::Socket(address) => Value::Address(*address),
        EndpointAddress::Pipe(path) => Value::Text(Cow::Borrowed(path)),
        EndpointAddress::Host(name, port) => Value::Text(Cow::Owned(format!("{name}:{port}"))),
    }
}

/// The name of this machine, asked once.
fn host_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim_end()
            .to_owned()
    })
}
