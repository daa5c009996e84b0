//! The gRPC services: ADS and one per type, each only a name for the same two kinds of session.

use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_server as cds;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_server as eds;
use envoy_types::pb::envoy::service::listener::v3::listener_discovery_service_server as lds;
use envoy_types::pb::envoy::service::route::v3::route_discovery_service_server as rds;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server as sds;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, Streaming};

use super::session::{DeltaSession, Scope, SotwSession};
use super::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Shared};

/// A stream of responses.
type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// One service over the shared world.
#[derive(Clone, Debug)]
struct Service {
    shared: Arc<Shared>,
    scope: Scope,
}

/// A server with all services.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let service = |scope| Service {
        shared: Arc::clone(shared),
        scope,
    };
    tonic::transport::Server::builder()
        .http2_keepalive_interval(None)
        .add_service(ads::AggregatedDiscoveryServiceServer::new(service(
            Scope::Aggregated,
        )))
        .add_service(lds::ListenerDiscoveryServiceServer::new(service(Scope::Only(
            LISTENER,
        ))))
        .add_service(cds::ClusterDiscoveryServiceServer::new(service(Scope::Only(
            CLUSTER,
        ))))
        .add_service(rds::RouteDiscoveryServiceServer::new(service(Scope::Only(ROUTE))))
        .add_service(eds::EndpointDiscoveryServiceServer::new(service(Scope::Only(
            ENDPOINT,
        ))))
        .add_service(sds::SecretDiscoveryServiceServer::new(service(Scope::Only(
            SECRET,
        ))))
}

/// The connections of `listener`.
pub(super) fn incoming(listener: TcpListener) -> impl Stream<Item = std::io::Result<TcpStream>> {
    TcpListenerStream::new(listener).map(|stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

impl Service {
    fn sotw(&self, requests: Streaming<DiscoveryRequest>) -> Response<Responses<DiscoveryResponse>> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(SotwSession::new(Arc::clone(&self.shared), self.scope).run(requests, sender));
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }

    fn delta(
        &self,
        requests: Streaming<DeltaDiscoveryRequest>,
    ) -> Response<Responses<DeltaDiscoveryResponse>> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(DeltaSession::new(Arc::clone(&self.shared), self.scope).run(requests, sender));
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }
}

#[tonic::async_trait]
impl ads::AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(self.sotw(request.into_inner()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(self.delta(request.into_inner()))
    }
}

/// The service of one type: the three methods differ only in their names.
macro_rules! service_of_one_type {
    ($trait:path, $stream:ident, $stream_type:ident, $delta:ident, $delta_type:ident, $fetch:ident) => {
        #[tonic::async_trait]
        impl $trait for Service {
            type $stream_type = Responses<DiscoveryResponse>;
            type $delta_type = Responses<DeltaDiscoveryResponse>;

            async fn $stream(
                &self,
                request: Request<Streaming<DiscoveryRequest>>,
            ) -> Result<Response<Self::$stream_type>, Status> {
                Ok(self.sotw(request.into_inner()))
            }

            async fn $delta(
                &self,
                request: Request<Streaming<DeltaDiscoveryRequest>>,
            ) -> Result<Response<Self::$delta_type>, Status> {
                Ok(self.delta(request.into_inner()))
            }

            async fn $fetch(
                &self,
                _: Request<DiscoveryRequest>,
            ) -> Result<Response<DiscoveryResponse>, Status> {
                Err(Status::unimplemented("no polling"))
            }
        }
    };
}

service_of_one_type!(
    lds::ListenerDiscoveryService,
    stream_listeners,
    StreamListenersStream,
    delta_listeners,
    DeltaListenersStream,
    fetch_listeners
);
service_of_one_type!(
    cds::ClusterDiscoveryService,
    stream_clusters,
    StreamClustersStream,
    delta_clusters,
    DeltaClustersStream,
    fetch_clusters
);
service_of_one_type!(
    rds::RouteDiscoveryService,
    stream_routes,
    StreamRoutesStream,
    delta_routes,
    DeltaRoutesStream,
    fetch_routes
);
service_of_one_type!(
    eds::EndpointDiscoveryService,
    stream_endpoints,
    StreamEndpointsStream,
    delta_endpoints,
    DeltaEndpointsStream,
    fetch_endpoints
);
service_of_one_type!(
    sds::SecretDiscoveryService,
    stream_secrets,
    StreamSecretsStream,
    delta_secrets,
    DeltaSecretsStream,
    fetch_secrets
);
