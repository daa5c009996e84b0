//! `envoy.service.auth.v3`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use prost::Message;
use remora_model::Name;
use remora_model::endpoint::{LabelValue, Labels};
use remora_model::filter::{Authorization, Granted, Refused};
use remora_model::route::AppendAction;

use super::Garbled;
use crate::endpoint;
use crate::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::pb::envoy::config::core::v3::{
    Address, HeaderValueOption, Metadata, SocketAddress, address, socket_address,
};
use crate::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request, TlsSession};
use crate::pb::envoy::service::auth::v3::check_response::HttpResponse;
use crate::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use crate::pb::google::protobuf::{ListValue, Struct, Timestamp, Value, value::Kind};

/// The path of the call.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// One side of the client's connection.
#[derive(Debug, Default)]
pub struct Side<'a> {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// What it calls itself (`x-envoy-downstream-service-cluster`).
    pub service: &'a str,
    /// Whom its certificate names.
    pub principal: &'a str,
    /// The certificate itself, PEM in URL encoding; empty: it is not told.
    pub certificate: String,
}

/// What a service is to know of a request.
#[derive(Debug)]
pub struct Question<'a> {
    /// The client.
    pub source: Side<'a>,
    /// We.
    pub destination: Side<'a>,
    /// When the request began, since 1970.
    pub time: Duration,
    /// The request's id.
    pub id: &'a str,
    /// Method.
    pub method: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Authority.
    pub host: &'a str,
    /// Scheme.
    pub scheme: &'a str,
    /// `HTTP/1.1` and so on.
    pub protocol: &'a str,
    /// Headers that are told, pseudo-headers too; values of one name are joined.
    pub headers: Vec<(&'a str, String)>,
    /// Length of what of the body is here, as in Envoy.
    pub size: i64,
    /// The body, and whether as bytes.
    pub body: Option<(Bytes, bool)>,
    /// `context_extensions`.
    pub extensions: &'a [(Name, Name)],
    /// Dynamic metadata, by name space.
    pub metadata: Vec<(&'a str, &'a Labels)>,
    /// SNI, where it is told.
    pub server_name: Option<&'a str>,
}

/// What is asked: `CheckRequest`.
pub fn check_request(asked: Question<'_>) -> Vec<u8> {
    let (mut body, mut raw_body) = (String::new(), Vec::new());
    match asked.body {
        Some((bytes, true)) => raw_body = bytes.to_vec(),
        Some((bytes, false)) => body = sanitized(&bytes),
        None => {}
    }
    let headers = asked.headers.into_iter();
    let http = HttpRequest {
        id: asked.id.to_owned(),
        method: asked.method.to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).collect(),
        path: asked.path.to_owned(),
        host: asked.host.to_owned(),
        scheme: asked.scheme.to_owned(),
        size: asked.size,
        protocol: asked.protocol.to_owned(),
        body,
        raw_body,
        ..HttpRequest::default()
    };
    let extensions = asked.extensions.iter();
    let namespaces = asked.metadata.into_iter();
    let context = AttributeContext {
        source: Some(peer(asked.source)),
        destination: Some(peer(asked.destination)),
        request: Some(Request {
            time: Some(Timestamp {
                seconds: i64::try_from(asked.time.as_secs()).unwrap_or(0),
                nanos: i32::try_from(asked.time.subsec_nanos()).unwrap_or(0),
            }),
            http: Some(http),
        }),
        context_extensions: extensions
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect(),
        metadata_context: Some(Metadata {
            filter_metadata: namespaces
                .map(|(name, fields)| (name.to_owned(), structure(fields)))
                .collect(),
            typed_filter_metadata: HashMap::new(),
        }),
        route_metadata_context: Some(Metadata::default()),
        tls_session: asked.server_name.map(|name| TlsSession { sni: name.to_owned() }),
    };
    let request = CheckRequest {
        attributes: Some(context),
    };
    request.encode_to_vec()
}

/// Bytes as a text: what is not UTF-8 is `!`, as in Envoy.
fn sanitized(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

fn peer(side: Side<'_>) -> Peer {
    let address = side.address.map(|address| Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        })),
    });
    Peer {
        address,
        service: side.service.to_owned(),
        labels: HashMap::new(),
        principal: side.principal.to_owned(),
        certificate: side.certificate,
    }
}

fn structure(fields: &Labels) -> Struct {
    let fields = fields.iter();
    Struct {
        fields: fields
            .map(|(key, value)| (key.to_string(), said(value)))
            .collect(),
    }
}

fn said(value: &LabelValue) -> Value {
    let kind = match value {
        LabelValue::Null => Kind::NullValue(0),
        LabelValue::Text(text) => Kind::StringValue(text.to_string()),
        LabelValue::Number(number) => Kind::NumberValue(*number),
        LabelValue::Bool(truth) => Kind::BoolValue(*truth),
        LabelValue::List(values) => Kind::ListValue(ListValue {
            values: values.iter().map(said).collect(),
        }),
        LabelValue::Fields(fields) => Kind::StructValue(structure(fields)),
    };
    Value { kind: Some(kind) }
}

/// What was answered: `CheckResponse`.
///
/// # Errors
/// The bytes are none, or it is an error of the service's own.
pub fn authorization(bytes: &[u8]) -> Result<Authorization, Garbled> {
    let garbled = |reason: String| Garbled {
        message: "CheckResponse",
        reason,
    };
    let answer = CheckResponse::decode(bytes).map_err(|error| garbled(error.to_string()))?;
    let metadata = answer.dynamic_metadata.as_ref();
    let metadata = metadata.map(endpoint::labels).unwrap_or_default();
    let granted = answer.status.as_ref().is_none_or(|status| status.code == 0);
    match answer.http_response {
        Some(HttpResponse::ErrorResponse(_)) => Err(garbled("the service says that it failed".into())),
        Some(HttpResponse::OkResponse(said)) if granted => {
            Ok(Authorization::Granted(Box::new(self::granted(&said, metadata))))
        }
        _ if granted => Ok(Authorization::Granted(Box::new(Granted {
            metadata,
            ..Granted::default()
        }))),
        Some(HttpResponse::DeniedResponse(said)) => Ok(refused(&said, metadata)),
        _ => Ok(refused(&DeniedHttpResponse::default(), metadata)),
    }
}

/// Reads headers, and notes what cannot stand in a message.
struct Fields {
    invalid: bool,
}

impl Fields {
    fn read(&mut self, said: &HeaderValueOption) -> Option<(HeaderName, HeaderValue)> {
        let field = said.header.as_ref().and_then(super::header);
        self.invalid |= field.is_none();
        field
    }
}

fn granted(said: &OkHttpResponse, metadata: Labels) -> Granted {
    let mut fields = Fields { invalid: false };
    let mut granted = Granted {
        metadata,
        ..Granted::default()
    };
    for header in &said.headers {
        let Some(field) = fields.read(header) else {
            continue;
        };
        if appends(header) {
            granted.append.push(field);
        } else {
            granted.set.push(field);
        }
    }
    for header in &said.response_headers_to_add {
        let Some((name, value)) = fields.read(header) else {
            continue;
        };
        granted.response.push((name, value, action(header)));
    }
    let removed = said.headers_to_remove.iter();
    // Pseudo-headers and the host stay, as in Envoy.
    let removed = removed.filter(|name| !name.starts_with(':') && !name.eq_ignore_ascii_case("host"));
    granted.remove = removed.filter_map(|name| name.parse().ok()).collect();
    let set = said.query_parameters_to_set.iter();
    granted.query_set = set
        .map(|pair| (pair.key.as_str().into(), pair.value.as_str().into()))
        .collect();
    granted.query_remove = said
        .query_parameters_to_remove
        .iter()
        .map(|name| name.as_str().into())
        .collect();
    granted.invalid = fields.invalid;
    granted
}

fn appends(said: &HeaderValueOption) -> bool {
    said.append.as_ref().is_some_and(|append| append.value)
}

fn action(said: &HeaderValueOption) -> AppendAction {
    match (&said.append, HeaderAppendAction::try_from(said.append_action)) {
        (Some(append), _) if !append.value => AppendAction::OverwriteIfExistsOrAdd,
        (Some(_), _) => AppendAction::AppendIfExistsOrAdd,
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => AppendAction::AddIfAbsent,
        (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => AppendAction::OverwriteIfExistsOrAdd,
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => AppendAction::OverwriteIfExists,
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd) | Err(_)) => AppendAction::AppendIfExistsOrAdd,
    }
}

fn refused(said: &DeniedHttpResponse, metadata: Labels) -> Authorization {
    let mut fields = Fields { invalid: false };
    // What is to be appended needs something of the proxy's own to be appended to: there is nothing.
    let own = said.headers.iter().filter(|header| !appends(header));
    let headers = own.filter_map(|header| fields.read(header)).collect();
    let status = said
        .status
        .as_ref()
        .and_then(|status| u16::try_from(status.code).ok());
    let status = status
        .filter(|code| *code != 0)
        .and_then(|code| StatusCode::from_u16(code).ok());
    Authorization::Denied(Box::new(Refused {
        status: status.unwrap_or(StatusCode::FORBIDDEN),
        headers,
        body: Bytes::copy_from_slice(said.body.as_bytes()),
        metadata,
        invalid: fields.invalid,
    }))
}
