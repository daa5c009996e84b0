//! Verdicts on the configurations of HTTP filters.

use crate::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use crate::pb::envoy::extensions::filters::http::header_mutation::v3::Mutations;
use crate::reviewed::reviewed;

reviewed! { HttpFault as "HTTPFault" {
    honoured: [delay, abort, upstream_cluster, headers, downstream_nodes, max_active_faults]
    ignored: {
        delay_percent_runtime: "there is no runtime layer; the percentage given here holds",
        abort_percent_runtime: "there is no runtime layer; the percentage given here holds",
        delay_duration_runtime: "there is no runtime layer; the delay given here holds",
        abort_http_status_runtime: "there is no runtime layer; the status given here holds",
        abort_grpc_status_runtime: "there is no runtime layer; the status given here holds",
        max_active_faults_runtime: "there is no runtime layer; the bound given here holds",
        response_rate_limit_percent_runtime: "there is no runtime layer",
        disable_downstream_cluster_stats: "observability: there are no metrics by downstream cluster",
        filter_metadata: "read by no filter that is supported",
    }
    refused: { response_rate_limit: "slowing responses down" }
} }

reviewed! { Mutations as "HeaderMutation.Mutations" {
    honoured: [request_mutations, response_mutations]
    ignored: {}
    refused: {
        query_parameter_mutations: "mutations of query parameters",
        response_trailers_mutations: "mutations of trailers",
        request_trailers_mutations: "mutations of trailers",
    }
} }
