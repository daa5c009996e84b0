//! Envoy's authorization service.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, QueryParameter};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::google::rpc::Status as RpcStatus;
use serde_json::{Value as Json, json};
use tonic::{Request, Response, Status};

use super::{Asked, head_of, header, metadata};

/// The service. Words of the header `x-script`: `deny`, `teapot`, `error`, `never`, `headers`, `body`, `query`, `remove`,
/// `bare`, `metadata`, `invalid`.
#[derive(Debug)]
pub(super) struct Authorizer(pub(super) Arc<Asked>);

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let mut call = head_of(&request);
        let said = request.into_inner().attributes.unwrap_or_default();
        let http = said
            .request
            .clone()
            .and_then(|request| request.http)
            .unwrap_or_default();
        let script = http.headers.get("x-script").cloned().unwrap_or_default();
        let says = |word: &str| script.split(' ').any(|said| said == word);
        if says("never") {
            std::future::pending::<()>().await;
        }
        call["source"] = peer(said.source.as_ref());
        call["destination"] = peer(said.destination.as_ref());
        let headers: BTreeMap<_, _> = http
            .headers
            .iter()
            .filter(|(name, _)| *name != "x-request-id")
            .collect();
        call["http"] = json!({
            "method": http.method, "path": http.path, "host": http.host, "scheme": http.scheme, "query": http.query,
            "size": http.size, "protocol": http.protocol, "body": http.body,
            "raw_body": String::from_utf8_lossy(&http.raw_body),
        });
        call["told"] = json!(headers);
        call["extensions"] = json!(said.context_extensions.iter().collect::<BTreeMap<_, _>>());
        let namespaces = said.metadata_context.unwrap_or_default().filter_metadata;
        let namespaces: BTreeMap<_, Vec<_>> = namespaces
            .into_iter()
            .map(|(name, fields)| {
                let mut keys: Vec<String> = fields.fields.into_keys().collect();
                keys.sort();
                (name, keys)
            })
            .collect();
        call["metadata"] = json!(namespaces);
        self.0.note(call);
        if says("error") {
            return Err(Status::unavailable("as the script says"));
        }
        Ok(Response::new(answer(&says)))
    }
}

fn answer(says: &impl Fn(&str) -> bool) -> CheckResponse {
    let mut answer = CheckResponse {
        status: Some(RpcStatus {
            code: if says("deny") { 7 } else { 0 },
            ..RpcStatus::default()
        }),
        dynamic_metadata: says("metadata").then(metadata),
        ..CheckResponse::default()
    };
    let mut headers = Vec::new();
    if says("headers") {
        headers = vec![
            option("x-set", "by the service", None),
            option("x-there", "more", Some(true)),
            option("x-absent", "more", Some(true)),
        ];
    }
    if says("invalid") {
        headers.push(option("x-bad\n", "value", None));
    }
    if says("bare") {
        return answer;
    }
    if says("deny") {
        answer.http_response = Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: says("teapot").then_some(HttpStatus { code: 409 }),
            headers,
            body: if says("body") {
                "{\"not\": \"you\"}".to_owned()
            } else {
                String::new()
            },
        }));
        return answer;
    }
    let mut granted = OkHttpResponse {
        headers,
        ..OkHttpResponse::default()
    };
    if says("headers") {
        granted.response_headers_to_add = vec![option("x-told", "yes", Some(true))];
    }
    if says("remove") {
        granted.headers_to_remove = vec!["x-there".to_owned(), "host".to_owned(), ":path".to_owned()];
    }
    if says("query") {
        let pair = |key: &str, value: &str| QueryParameter {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        granted.query_parameters_to_set = vec![pair("set", "new"), pair("more", "1")];
        granted.query_parameters_to_remove = vec!["gone".to_owned()];
    }
    answer.http_response = Some(HttpResponse::OkResponse(granted));
    answer
}

#[expect(deprecated, reason = "what Envoy reads of headers for the upstream")]
fn option(key: &str, value: &str, append: Option<bool>) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(header(key, value)),
        append: append.map(|value| BoolValue { value }),
        ..HeaderValueOption::default()
    }
}

fn peer(said: Option<&Peer>) -> Json {
    said.map_or(Json::Null, |peer| {
        json!({"service": peer.service, "principal": peer.principal, "certificate": peer.certificate,
            "address": peer.address.is_some()})
    })
}
