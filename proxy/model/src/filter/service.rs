//! Which service does a filter ask, and as whom? (`envoy.config.core.v3.GrpcService` with `envoy_grpc`.)

use http::uri::Authority;

use crate::route::HeaderTemplate;
use crate::snapshot::ClusterId;

/// A gRPC service behind a cluster, whose transport and limits are the cluster's.
#[derive(Debug, Clone)]
pub struct GrpcService {
    /// `envoy_grpc.cluster_name`.
    pub cluster: ClusterId,
    /// `envoy_grpc.authority`, else the name of the cluster.
    pub authority: Authority,
    /// `initial_metadata`.
    pub metadata: Box<[HeaderTemplate]>,
    /// `envoy_grpc.skip_envoy_headers`: no `x-envoy-internal` and `x-forwarded-for` of ours.
    pub skip_own_headers: bool,
    /// `envoy_grpc.max_receive_message_length`: the longest answer that is read, bytes.
    pub longest: usize,
}
