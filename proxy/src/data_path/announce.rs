//! What do we say of ourselves and of the way here, where the connection manager asks for it? To the upstream
//! `x-forwarded-port`, `user-agent` and a scheme, to the client `Proxy-Status`.

use http::header::{self, HeaderName};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, StatusCode};
use remora_model::listener::{HttpManager, ProxyName, RareManager};

use super::forwarded_for::X_FORWARDED_PROTO;
use super::response_head;
use crate::exchange::{RequestHead, ResponseHead};
use crate::observe::ExchangeRecord;
use crate::worker::Shared;

const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const SERVICE_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-downstream-service-cluster");
const SERVICE_NODE: HeaderName = HeaderName::from_static("x-envoy-downstream-service-node");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Writes what the manager adds to every request, before a route is chosen.
pub fn to_upstream(
    head: &mut RequestHead,
    manager: &HttpManager,
    rare: &RareManager,
    record: &ExchangeRecord,
    shared: &Shared,
) {
    let headers = &mut head.headers;
    let edge = manager.use_remote_address && manager.trusted_hops == 0;
    if rare.append_x_forwarded_port && (edge || !headers.contains_key(FORWARDED_PORT)) {
        headers.insert(FORWARDED_PORT, HeaderValue::from(record.connection.local.port()));
    }
    if rare.add_user_agent {
        let cluster = shared.node_cluster.get().cloned();
        let cluster = cluster.unwrap_or(HeaderValue::from_static(""));
        if headers.get(header::USER_AGENT).is_none_or(HeaderValue::is_empty) {
            headers.insert(header::USER_AGENT, cluster.clone());
        }
        headers.insert(SERVICE_CLUSTER, cluster);
        if let Some(node) = shared.node_id.get().filter(|node| !node.is_empty()) {
            headers.insert(SERVICE_NODE, node.clone());
        }
    }
    if let Some(scheme) = &rare.scheme {
        let https = *scheme == Scheme::HTTPS;
        headers.insert(
            X_FORWARDED_PROTO,
            HeaderValue::from_static(if https { "https" } else { "http" }),
        );
        head.scheme = Some(scheme.clone());
    }
}

/// Finishes the head of an upstream's response.
pub fn finish(
    head: &mut ResponseHead,
    manager: &HttpManager,
    request_id: Option<&HeaderValue>,
    record: &ExchangeRecord,
    shared: &Shared,
) {
    response_head::finish(&mut head.headers, manager, request_id);
    to_client((&mut head.headers, &mut head.status), manager, record, shared);
}

/// Says in `Proxy-Status` why a response is none of the upstream's, and sets the status that goes with it. A gRPC client
/// keeps its 200, which is no answer in itself.
pub fn to_client(
    (headers, status): (&mut HeaderMap, &mut StatusCode),
    manager: &HttpManager,
    record: &ExchangeRecord,
    shared: &Shared,
) {
    let Some(said) = manager.rare.as_ref().and_then(|rare| rare.proxy_status.as_ref()) else {
        return;
    };
    let name = match &said.name {
        ProxyName::Server => manager.server_name.to_str().ok(),
        ProxyName::Node => shared.node_id.get().and_then(|node| node.to_str().ok()),
        ProxyName::Literal(name) => Some(&**name),
    };
    let Some((told, recommended)) = said.tell(name.unwrap_or_default(), &record.flags, &record.details)
    else {
        return;
    };
    let before = headers.get(&PROXY_STATUS).and_then(|before| before.to_str().ok());
    let told = before.map(|before| format!("{before}, {told}")).unwrap_or(told);
    if let Ok(told) = HeaderValue::try_from(told) {
        headers.insert(PROXY_STATUS, told);
    }
    if said.recommended_status && !headers.contains_key("grpc-status") {
        *status = recommended;
    }
}
