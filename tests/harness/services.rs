//! Services that a proxy asks about requests: what was it asked, and what does it do with the answer?
//!
//! A [`Services`] is a gRPC server with Envoy's rate limit and authorization services. It keeps what it was asked, as JSON, and answers by
//! the words of a script that the request itself brings (the value of the descriptor entry `script`), so that tables of
//! requests stay data.

mod authorization;
mod rate_limit;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::Result;
use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// Headers that are not kept: they tell of the machine.
const NOT_KEPT: [&str; 1] = ["x-forwarded-for"];

/// A running server. Dropping it closes its port.
#[derive(Debug)]
pub struct Services {
    address: SocketAddr,
    asked: Arc<Asked>,
    task: AbortHandle,
}

/// What was asked, in order.
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<Json>>);

impl Asked {
    fn note(&self, call: Json) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

impl Services {
    /// Starts on 127.0.0.1 with a port of the system's choice.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Asked::default());
        let limits = RateLimitServiceServer::new(rate_limit::Limits(Arc::clone(&asked)));
        let checks = AuthorizationServer::new(authorization::Authorizer(Arc::clone(&asked)));
        let server = tonic::transport::Server::builder()
            .add_service(WithTarget(limits))
            .add_service(WithTarget(checks));
        let incoming = TcpListenerStream::new(listener).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        });
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await });
        Ok(Self {
            address,
            asked,
            task: task.abort_handle(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes what was asked since the last time.
    pub fn take(&self) -> Vec<Json> {
        std::mem::take(&mut *self.asked.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where a call was for, which tonic does not tell.
#[derive(Clone, Debug)]
struct Target(String);

/// A service that is told.
#[derive(Clone, Debug)]
struct WithTarget<S>(S);

impl<S: NamedService> NamedService for WithTarget<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for WithTarget<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let target = Target(request.uri().to_string());
        request.extensions_mut().insert(target);
        self.0.call(request)
    }
}

/// The head of a call.
fn head_of<T>(request: &tonic::Request<T>) -> Json {
    let target = request
        .extensions()
        .get::<Target>()
        .map_or("", |target| &target.0);
    let mut headers: Vec<[String; 2]> = Vec::new();
    for (name, value) in request.metadata().as_ref() {
        if !NOT_KEPT.contains(&name.as_str()) {
            headers.push([
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            ]);
        }
    }
    headers.sort();
    json!({"target": target, "headers": headers})
}

fn header(key: &str, value: &str) -> HeaderValue {
    HeaderValue {
        key: key.to_owned(),
        value: value.to_owned(),
        ..HeaderValue::default()
    }
}

/// Metadata with a value of every kind.
fn metadata() -> Struct {
    let value = |kind| Value { kind: Some(kind) };
    let list = vec![
        value(Kind::NumberValue(1.5)),
        value(Kind::BoolValue(true)),
        value(Kind::NullValue(0)),
    ];
    let inner = Struct {
        fields: [(
            "list".to_owned(),
            value(Kind::ListValue(ListValue { values: list })),
        )]
        .into(),
    };
    Struct {
        fields: [
            ("text".to_owned(), value(Kind::StringValue("a text".to_owned()))),
            ("number".to_owned(), value(Kind::NumberValue(3.0))),
            ("inner".to_owned(), value(Kind::StructValue(inner))),
        ]
        .into(),
    }
}
