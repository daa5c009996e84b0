//! Operators of the access log language that take no argument.

/// One of them, named as in the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `PROTOCOL`: HTTP/1.1, HTTP/2 and so on.
    Protocol,
    /// `UPSTREAM_PROTOCOL`: protocol towards the endpoint.
    UpstreamProtocol,
    /// `RESPONSE_CODE`: status, 0 if none was sent.
    ResponseCode,
    /// `RESPONSE_CODE_DETAILS`: why this status.
    ResponseCodeDetails,
    /// `CONNECTION_TERMINATION_DETAILS`: why the connection ended.
    ConnectionTerminationDetails,
    /// `BYTES_RECEIVED`: body bytes from the client.
    BytesReceived,
    /// `BYTES_SENT`: body bytes to the client.
    BytesSent,
    /// `UPSTREAM_WIRE_BYTES_RECEIVED`: bytes from the endpoint.
    UpstreamWireBytesReceived,
    /// `UPSTREAM_WIRE_BYTES_SENT`: bytes to the endpoint.
    UpstreamWireBytesSent,
    /// `DOWNSTREAM_WIRE_BYTES_RECEIVED`: bytes from the client.
    DownstreamWireBytesReceived,
    /// `DOWNSTREAM_WIRE_BYTES_SENT`: bytes to the client.
    DownstreamWireBytesSent,
    /// `DURATION`: milliseconds from the first byte in to the last byte out.
    Duration,
    /// `REQUEST_DURATION`: milliseconds until the request was received.
    RequestDuration,
    /// `REQUEST_TX_DURATION`: milliseconds until the request was sent upstream.
    RequestTxDuration,
    /// `RESPONSE_DURATION`: milliseconds until the response's first byte.
    ResponseDuration,
    /// `RESPONSE_TX_DURATION`: milliseconds from the response's first byte to the last byte out.
    ResponseTxDuration,
    /// `ROUTE_NAME`: name of the route.
    RouteName,
    /// `VIRTUAL_CLUSTER_NAME`: virtual cluster, which we have none of.
    VirtualClusterName,
    /// `UPSTREAM_HOST`: address of the endpoint.
    UpstreamHost,
    /// `UPSTREAM_HOST_NAME`: host name of the endpoint, else its address.
    UpstreamHostName,
    /// `UPSTREAM_CLUSTER`: name of the cluster in metrics.
    UpstreamCluster,
    /// `UPSTREAM_CLUSTER_RAW`: name of the cluster.
    UpstreamClusterRaw,
    /// `UPSTREAM_LOCAL_ADDRESS`: our address towards the endpoint.
    UpstreamLocalAddress,
    /// `UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT`: without port.
    UpstreamLocalAddressWithoutPort,
    /// `UPSTREAM_LOCAL_PORT`: port alone.
    UpstreamLocalPort,
    /// `UPSTREAM_REMOTE_ADDRESS`: address that we connected to.
    UpstreamRemoteAddress,
    /// `UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`: without port.
    UpstreamRemoteAddressWithoutPort,
    /// `UPSTREAM_REMOTE_PORT`: port alone.
    UpstreamRemotePort,
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`: what went wrong in TLS towards the endpoint.
    UpstreamTransportFailureReason,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`: times that the request was sent.
    UpstreamRequestAttemptCount,
    /// `UPSTREAM_TLS_VERSION`: TLS version towards the endpoint.
    UpstreamTlsVersion,
    /// `UPSTREAM_TLS_CIPHER`: cipher towards the endpoint.
    UpstreamTlsCipher,
    /// `UPSTREAM_PEER_SUBJECT`: subject of the endpoint's certificate.
    UpstreamPeerSubject,
    /// `UPSTREAM_PEER_URI_SAN`: URI names of the endpoint's certificate.
    UpstreamPeerUriSan,
    /// `DOWNSTREAM_LOCAL_ADDRESS`: address that the client wanted.
    DownstreamLocalAddress,
    /// `DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT`: without port.
    DownstreamLocalAddressWithoutPort,
    /// `DOWNSTREAM_LOCAL_PORT`: port alone.
    DownstreamLocalPort,
    /// `DOWNSTREAM_REMOTE_ADDRESS`: the client's address.
    DownstreamRemoteAddress,
    /// `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`: without port.
    DownstreamRemoteAddressWithoutPort,
    /// `DOWNSTREAM_REMOTE_PORT`: port alone.
    DownstreamRemotePort,
    /// `DOWNSTREAM_DIRECT_REMOTE_ADDRESS`: the directly connected peer's address.
    DownstreamDirectRemoteAddress,
    /// `DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT`: without port.
    DownstreamDirectRemoteAddressWithoutPort,
    /// `DOWNSTREAM_DIRECT_REMOTE_PORT`: port alone.
    DownstreamDirectRemotePort,
    /// `REQUESTED_SERVER_NAME`: SNI.
    RequestedServerName,
    /// `DOWNSTREAM_PEER_URI_SAN`: URI names of the client's certificate.
    DownstreamPeerUriSan,
    /// `DOWNSTREAM_LOCAL_URI_SAN`: URI names of our certificate.
    DownstreamLocalUriSan,
    /// `DOWNSTREAM_PEER_DNS_SAN`: DNS names of the client's certificate.
    DownstreamPeerDnsSan,
    /// `DOWNSTREAM_PEER_SUBJECT`: subject of the client's certificate.
    DownstreamPeerSubject,
    /// `DOWNSTREAM_PEER_ISSUER`: issuer of the client's certificate.
    DownstreamPeerIssuer,
    /// `DOWNSTREAM_LOCAL_SUBJECT`: subject of our certificate.
    DownstreamLocalSubject,
    /// `DOWNSTREAM_PEER_SERIAL`: serial number of the client's certificate.
    DownstreamPeerSerial,
    /// `DOWNSTREAM_PEER_FINGERPRINT_256`: SHA-256 of the client's certificate.
    DownstreamPeerFingerprint256,
    /// `DOWNSTREAM_TLS_VERSION`: TLS version towards the client.
    DownstreamTlsVersion,
    /// `DOWNSTREAM_TLS_CIPHER`: cipher towards the client.
    DownstreamTlsCipher,
    /// `DOWNSTREAM_TLS_SESSION_ID`: TLS session.
    DownstreamTlsSessionId,
    /// `DOWNSTREAM_TRANSPORT_FAILURE_REASON`: what went wrong in TLS towards the client.
    DownstreamTransportFailureReason,
    /// `FILTER_CHAIN_NAME`: name of the filter chain.
    FilterChainName,
    /// `CONNECTION_ID`: number of the client's connection.
    ConnectionId,
    /// `UPSTREAM_CONNECTION_ID`: number of the connection to the endpoint.
    UpstreamConnectionId,
    /// `STREAM_ID`: request id.
    StreamId,
    /// `TRACE_ID`: trace id.
    TraceId,
    /// `HOSTNAME`: name of this machine.
    Hostname,
    /// `LOCAL_REPLY_BODY`: body of a reply that we made ourselves.
    LocalReplyBody,
    /// `GRPC_STATUS_NUMBER`: gRPC status as a number.
    GrpcStatusNumber,
    /// `FAILURE_REASON`: why there is no answer of an upstream, in a sentence; ours, not Envoy's.
    FailureReason,
    /// `CONFIG_GENERATION`: generation of the snapshot that decided; ours, not Envoy's.
    ConfigGeneration,
    /// `ACCESS_LOG_TYPE`.
    AccessLogType,
}

/// Names in the language; the order does not matter.
const NAMES: &[(&str, Field)] = &[
    ("PROTOCOL", Field::Protocol),
    ("UPSTREAM_PROTOCOL", Field::UpstreamProtocol),
    ("RESPONSE_CODE", Field::ResponseCode),
    ("RESPONSE_CODE_DETAILS", Field::ResponseCodeDetails),
    (
        "CONNECTION_TERMINATION_DETAILS",
        Field::ConnectionTerminationDetails,
    ),
    ("BYTES_RECEIVED", Field::BytesReceived),
    ("BYTES_SENT", Field::BytesSent),
    ("UPSTREAM_WIRE_BYTES_RECEIVED", Field::UpstreamWireBytesReceived),
    ("UPSTREAM_WIRE_BYTES_SENT", Field::UpstreamWireBytesSent),
    (
        "DOWNSTREAM_WIRE_BYTES_RECEIVED",
        Field::DownstreamWireBytesReceived,
    ),
    ("DOWNSTREAM_WIRE_BYTES_SENT", Field::DownstreamWireBytesSent),
    ("DURATION", Field::Duration),
    ("REQUEST_DURATION", Field::RequestDuration),
    ("REQUEST_TX_DURATION", Field::RequestTxDuration),
    ("RESPONSE_DURATION", Field::ResponseDuration),
    ("RESPONSE_TX_DURATION", Field::ResponseTxDuration),
    ("ROUTE_NAME", Field::RouteName),
    ("VIRTUAL_CLUSTER_NAME", Field::VirtualClusterName),
    ("UPSTREAM_HOST", Field::UpstreamHost),
    ("UPSTREAM_HOST_NAME", Field::UpstreamHostName),
    ("UPSTREAM_CLUSTER", Field::UpstreamCluster),
    ("UPSTREAM_CLUSTER_RAW", Field::UpstreamClusterRaw),
    ("UPSTREAM_LOCAL_ADDRESS", Field::UpstreamLocalAddress),
    (
        "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
        Field::UpstreamLocalAddressWithoutPort,
    ),
    ("UPSTREAM_LOCAL_PORT", Field::UpstreamLocalPort),
    ("UPSTREAM_REMOTE_ADDRESS", Field::UpstreamRemoteAddress),
    (
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        Field::UpstreamRemoteAddressWithoutPort,
    ),
    ("UPSTREAM_REMOTE_PORT", Field::UpstreamRemotePort),
    (
        "UPSTREAM_TRANSPORT_FAILURE_REASON",
        Field::UpstreamTransportFailureReason,
    ),
    (
        "UPSTREAM_REQUEST_ATTEMPT_COUNT",
        Field::UpstreamRequestAttemptCount,
    ),
    ("UPSTREAM_TLS_VERSION", Field::UpstreamTlsVersion),
    ("UPSTREAM_TLS_CIPHER", Field::UpstreamTlsCipher),
    ("UPSTREAM_PEER_SUBJECT", Field::UpstreamPeerSubject),
    ("UPSTREAM_PEER_URI_SAN", Field::UpstreamPeerUriSan),
    ("DOWNSTREAM_LOCAL_ADDRESS", Field::DownstreamLocalAddress),
    (
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
        Field::DownstreamLocalAddressWithoutPort,
    ),
    ("DOWNSTREAM_LOCAL_PORT", Field::DownstreamLocalPort),
    ("DOWNSTREAM_REMOTE_ADDRESS", Field::DownstreamRemoteAddress),
    (
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        Field::DownstreamRemoteAddressWithoutPort,
    ),
    ("DOWNSTREAM_REMOTE_PORT", Field::DownstreamRemotePort),
    (
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
        Field::DownstreamDirectRemoteAddress,
    ),
    (
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
        Field::DownstreamDirectRemoteAddressWithoutPort,
    ),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", Field::DownstreamDirectRemotePort),
    ("REQUESTED_SERVER_NAME", Field::RequestedServerName),
    ("DOWNSTREAM_PEER_URI_SAN", Field::DownstreamPeerUriSan),
    ("DOWNSTREAM_LOCAL_URI_SAN", Field::DownstreamLocalUriSan),
    ("DOWNSTREAM_PEER_DNS_SAN", Field::DownstreamPeerDnsSan),
    ("DOWNSTREAM_PEER_SUBJECT", Field::DownstreamPeerSubject),
    ("DOWNSTREAM_PEER_ISSUER", Field::DownstreamPeerIssuer),
    ("DOWNSTREAM_LOCAL_SUBJECT", Field::DownstreamLocalSubject),
    ("DOWNSTREAM_PEER_SERIAL", Field::DownstreamPeerSerial),
    (
        "DOWNSTREAM_PEER_FINGERPRINT_256",
        Field::DownstreamPeerFingerprint256,
    ),
    ("DOWNSTREAM_TLS_VERSION", Field::DownstreamTlsVersion),
    ("DOWNSTREAM_TLS_CIPHER", Field::DownstreamTlsCipher),
    ("DOWNSTREAM_TLS_SESSION_ID", Field::DownstreamTlsSessionId),
    (
        "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
        Field::DownstreamTransportFailureReason,
    ),
    ("FILTER_CHAIN_NAME", Field::FilterChainName),
    ("CONNECTION_ID", Field::ConnectionId),
    ("UPSTREAM_CONNECTION_ID", Field::UpstreamConnectionId),
    ("STREAM_ID", Field::StreamId),
    ("TRACE_ID", Field::TraceId),
    ("HOSTNAME", Field::Hostname),
    ("LOCAL_REPLY_BODY", Field::LocalReplyBody),
    ("GRPC_STATUS_NUMBER", Field::GrpcStatusNumber),
    ("CONFIG_GENERATION", Field::ConfigGeneration),
    ("ACCESS_LOG_TYPE", Field::AccessLogType),
    ("FAILURE_REASON", Field::FailureReason),
];

impl Field {
    /// The field that an operator of this name prints.
    pub fn named(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(candidate, _)| *candidate == name)
            .map(|(_, field)| *field)
    }
}

/// Operators that Envoy 1.40 knows and we do not: a listener that asks for one is not refused for its log line.
pub(super) const UNSUPPORTED: &[&str] = &[
    "BYTES_RETRANSMITTED",
    "CEL",
    "COMMON_DURATION",
    "CUSTOM_FLAGS",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "DOWNSTREAM_DETECTED_CLOSE_TYPE",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_LOCAL_PORT",
    "DOWNSTREAM_HEADER_BYTES_RECEIVED",
    "DOWNSTREAM_HEADER_BYTES_SENT",
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CERT_V_END",
    "DOWNSTREAM_PEER_CERT_V_START",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "EMIT_TIME",
    "EMIT_TIME_LOCAL",
    "METADATA",
    "PACKETS_RETRANSMITTED",
    "PATH",
    "QUERY_PARAM",
    "QUERY_PARAMS",
    "REQUEST_HEADERS_BYTES",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "ROUNDTRIP_DURATION",
    "SPAN_ID",
    "START_TIME_LOCAL",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "UNIQUE_ID",
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED",
    "UPSTREAM_CONNECTION_POOL_READY_DURATION",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED",
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
    "UPSTREAM_DETECTED_CLOSE_TYPE",
    "UPSTREAM_FILTER_STATE",
    "UPSTREAM_HEADER_BYTES_RECEIVED",
    "UPSTREAM_HEADER_BYTES_SENT",
    "UPSTREAM_HOSTS_ATTEMPTED",
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT",
    "UPSTREAM_HOST_NAMES_ATTEMPTED",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_IP_SAN",
    "UPSTREAM_LOCAL_URI_SAN",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_CERT_V_END",
    "UPSTREAM_PEER_CERT_V_START",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_IP_SAN",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID",
    "UPSTREAM_TLS_SESSION_ID",
];
