//! A gRPC server that hands each of its streams to the test, and the ways to reach it.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;

/// One stream as the server sees it.
pub(super) struct Stream<I, O> {
    pub(super) metadata: MetadataMap,
    pub(super) requests: Streaming<I>,
    pub(super) responses: mpsc::Sender<Result<O, Status>>,
}

impl<I, O: Send + 'static> Stream<I, O> {
    pub(super) async fn request(&mut self) -> I {
        self.requests
            .message()
            .await
            .expect("a living stream")
            .expect("a request")
    }

    pub(super) async fn respond(&self, response: O) {
        self.responses
            .send(Ok(response))
            .await
            .expect("a client that reads");
    }
}

pub(super) type Sotw = Stream<discovery::DiscoveryRequest, discovery::DiscoveryResponse>;
pub(super) type Delta = Stream<discovery::DeltaDiscoveryRequest, discovery::DeltaDiscoveryResponse>;

/// A control plane without opinions: it hands its streams to the test.
#[derive(Clone)]
struct ControlPlane {
    sotw: mpsc::Sender<Sotw>,
    delta: mpsc::Sender<Delta>,
    secrets: mpsc::Sender<Sotw>,
}

impl ControlPlane {
    async fn take<I: Send + 'static, O: Send + 'static>(
        to: &mpsc::Sender<Stream<I, O>>,
        request: Request<Streaming<I>>,
    ) -> Result<Response<BoxStream<'static, Result<O, Status>>>, Status> {
        let (responses, receiver) = mpsc::channel(8);
        let metadata = request.metadata().clone();
        let stream = Stream {
            metadata,
            requests: request.into_inner(),
            responses,
        };
        to.send(stream)
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type Responses<O> = BoxStream<'static, Result<O, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for ControlPlane {
    type StreamAggregatedResourcesStream = Responses<discovery::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<discovery::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<discovery::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Self::take(&self.sotw, request).await
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<discovery::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Self::take(&self.delta, request).await
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for ControlPlane {
    type DeltaSecretsStream = Responses<discovery::DeltaDiscoveryResponse>;
    type StreamSecretsStream = Responses<discovery::DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        _: Request<Streaming<discovery::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("as istio's agent"))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<discovery::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Self::take(&self.secrets, request).await
    }

    async fn fetch_secrets(
        &self,
        _: Request<discovery::DiscoveryRequest>,
    ) -> Result<Response<discovery::DiscoveryResponse>, Status> {
        Err(Status::unimplemented("nobody fetches"))
    }
}

/// Notes the URI of each call.
#[derive(Clone)]
struct Noting<S>(S, Arc<Mutex<Vec<Uri>>>);

impl<S: tonic::server::NamedService> tonic::server::NamedService for Noting<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> tower_service::Service<http::Request<B>> for Noting<S>
where
    S: tower_service::Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        self.1.lock().unwrap().push(request.uri().clone());
        self.0.call(request)
    }
}

/// A running server and what comes out of it.
pub(super) struct Running {
    pub(super) sotw: mpsc::Receiver<Sotw>,
    pub(super) delta: mpsc::Receiver<Delta>,
    pub(super) secrets: mpsc::Receiver<Sotw>,
    pub(super) uris: Arc<Mutex<Vec<Uri>>>,
}

pub(super) fn serve<C>(
    connections: impl futures_util::Stream<Item = std::io::Result<C>> + Send + 'static,
) -> Running
where
    C: tonic::transport::server::Connected + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ((sotw, sotw_out), (delta, delta_out), (secrets, secrets_out)) =
        (mpsc::channel(8), mpsc::channel(8), mpsc::channel(8));
    let control_plane = ControlPlane { sotw, delta, secrets };
    let uris = Arc::default();
    let server = tonic::transport::Server::builder()
        .add_service(Noting(
            AggregatedDiscoveryServiceServer::new(control_plane.clone()),
            Arc::clone(&uris),
        ))
        .add_service(Noting(
            SecretDiscoveryServiceServer::new(control_plane),
            Arc::clone(&uris),
        ))
        .serve_with_incoming(connections);
    tokio::spawn(async move { server.await.expect("a server") });
    Running {
        sotw: sotw_out,
        delta: delta_out,
        secrets: secrets_out,
        uris,
    }
}

/// A server that is reached through memory, and the connector that reaches it.
pub(super) fn in_memory() -> (Running, Connector) {
    let (dialled, accepted) = mpsc::channel::<std::io::Result<DuplexStream>>(8);
    let connector = Connector::new(move |_| {
        let dialled = dialled.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            dialled.send(Ok(theirs)).await.map_err(std::io::Error::other)?;
            Ok(ours)
        }
    });
    (serve(ReceiverStream::new(accepted)), connector)
}

/// Connections of a listener as the server wants them.
pub(super) fn incoming<L, S, F>(
    listener: L,
    accept: F,
) -> impl futures_util::Stream<Item = std::io::Result<S>>
where
    F: for<'a> Fn(&'a L) -> Pin<Box<dyn Future<Output = std::io::Result<S>> + Send + 'a>>,
{
    stream::unfold((listener, accept), |(listener, accept)| async move {
        let connection = accept(&listener).await;
        Some((connection, (listener, accept)))
    })
}
