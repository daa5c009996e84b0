//! Every metric of the data path is defined here, under Envoy's name.
//!
//! Holds: one struct per thing that has metrics (listener, connection manager, cluster, TCP proxy), one cell per name,
//! one instance per worker; `each` walks them for `/stats` and Prometheus alike.

use super::cells::{Cell, Counter, Gauge, Histogram};

/// Finds one cell of a group.
pub type CellOf<G> = for<'a> fn(&'a G) -> Cell<'a>;

/// Defines a group of cells and the walk over them.
macro_rules! group {
    ($(#[$doc:meta])* $group:ident { $($(#[$cell_doc:meta])* $name:ident: $kind:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $group {
            $($(#[$cell_doc])* pub $name: $kind,)+
        }

        impl $group {
            /// Every cell by name, as a function from the group to the cell.
            pub const FIELDS: &'static [(&'static str, CellOf<Self>)] =
                &[$((stringify!($name), |group: &Self| Cell::from(&group.$name)),)+];

            /// Visits every cell with its name.
            pub fn each<'a>(&'a self, visit: &mut dyn FnMut(&'static str, Cell<'a>)) {
                $(visit(stringify!($name), Cell::from(&self.$name));)+
            }
        }
    };
}

group! {
    /// `listener.<address>.*`
    ListenerCounters {
        /// Connections accepted for this listener.
        downstream_cx_total: Counter,
        /// Open now.
        downstream_cx_active: Gauge,
        /// Closed.
        downstream_cx_destroy: Counter,
        /// Closed because no filter chain matched.
        no_filter_chain_match: Counter,
        /// Closed because listener filters found nothing in time.
        downstream_pre_cx_timeout: Counter,
        /// Closed because the chain's secret has not arrived.
        downstream_context_secrets_not_ready: Counter,
        /// From accept to close.
        downstream_cx_length_ms: Histogram,
    }
}

group! {
    /// `listener.<address>.ssl.*` and `cluster.<name>.ssl.*`
    TlsCounters {
        /// Handshakes that succeeded.
        handshake: Counter,
        /// Of these, resumed ones.
        session_reused: Counter,
        /// Handshakes that failed for another reason than those below.
        connection_error: Counter,
        /// The peer showed no certificate.
        fail_verify_no_cert: Counter,
        /// The peer's chain is not trusted.
        fail_verify_error: Counter,
        /// The peer's names are not permitted.
        fail_verify_san: Counter,
        /// A secret of the context had not arrived.
        context_secrets_not_ready: Counter,
        /// Connections that were ended because their peer's certificate was revoked, lost its root or ended.
        peer_no_longer_admitted: Counter,
    }
}

group! {
    /// `http.<stat_prefix>.*`
    HttpCounters {
        /// Connections.
        downstream_cx_total: Counter,
        /// Open now.
        downstream_cx_active: Gauge,
        /// Closed.
        downstream_cx_destroy: Counter,
        /// Closed by the client with requests in flight.
        downstream_cx_destroy_remote_active_rq: Counter,
        /// Spoke HTTP/1.
        downstream_cx_http1_total: Counter,
        /// Spoke HTTP/2.
        downstream_cx_http2_total: Counter,
        /// Over TLS.
        downstream_cx_ssl_total: Counter,
        /// Closed for idleness.
        downstream_cx_idle_timeout: Counter,
        /// Told to end by `max_connection_duration`.
        downstream_cx_max_duration_reached: Counter,
        /// Told to end by `max_requests_per_connection`.
        downstream_cx_max_requests_reached: Counter,
        /// Closed by a drain.
        downstream_cx_drain_close: Counter,
        /// Closed for a protocol error.
        downstream_cx_protocol_error: Counter,
        /// Bytes of bodies received.
        downstream_cx_rx_bytes_total: Counter,
        /// Bytes of bodies sent.
        downstream_cx_tx_bytes_total: Counter,
        /// Requests.
        downstream_rq_total: Counter,
        /// By HTTP/1.
        downstream_rq_http1_total: Counter,
        /// By HTTP/2.
        downstream_rq_http2_total: Counter,
        /// In flight.
        downstream_rq_active: Gauge,
        /// Ended.
        downstream_rq_completed: Counter,
        /// By response class.
        downstream_rq_1xx: Counter,
        /// By response class.
        downstream_rq_2xx: Counter,
        /// By response class.
        downstream_rq_3xx: Counter,
        /// By response class.
        downstream_rq_4xx: Counter,
        /// By response class.
        downstream_rq_5xx: Counter,
        /// Reset by the client.
        downstream_rq_rx_reset: Counter,
        /// Reset by us.
        downstream_rq_tx_reset: Counter,
        /// Refused with 413.
        downstream_rq_too_large: Counter,
        /// `request_timeout`.
        downstream_rq_timeout: Counter,
        /// `stream_idle_timeout`.
        downstream_rq_idle_timeout: Counter,
        /// `max_stream_duration`.
        downstream_rq_max_duration_reached: Counter,
        /// Upgrades begun.
        downstream_cx_upgrades_total: Counter,
        /// No route.
        no_route: Counter,
        /// No cluster.
        no_cluster: Counter,
        /// Direct responses.
        rq_direct_response: Counter,
        /// Redirects.
        rq_redirect: Counter,
        /// Requests that reached the router.
        rq_total: Counter,
        /// Redirects passed on: the location is missing or not absolute.
        passthrough_internal_redirect_bad_location: Counter,
        /// Redirects passed on: another scheme.
        passthrough_internal_redirect_unsafe_scheme: Counter,
        /// Redirects passed on: enough were followed.
        passthrough_internal_redirect_too_many_redirects: Counter,
        /// Redirects passed on: no route takes the target.
        passthrough_internal_redirect_no_route: Counter,
        /// Redirects passed on: a predicate says no.
        passthrough_internal_redirect_predicate: Counter,
        /// Copies of requests begun (`request_mirror_policies`).
        rq_mirrored: Counter,
        /// Of these: without an answer of their own.
        rq_mirror_failed: Counter,
        /// Of these: given up because they fell behind their request.
        rq_mirror_overflow: Counter,
        /// Whole request, from head to last byte.
        downstream_rq_time: Histogram,
        /// Life of connections.
        downstream_cx_length_ms: Histogram,
    }
}

group! {
    /// `http.<stat_prefix>.fault.*`
    FaultCounters {
        /// Requests delayed.
        delays_injected: Counter,
        /// Requests aborted.
        aborts_injected: Counter,
        /// Responses slowed down.
        response_rl_injected: Counter,
        /// Spared because of `max_active_faults`.
        faults_overflow: Counter,
    }
}

group! {
    /// `http.<stat_prefix>.cors.*`
    CorsCounters {
        /// Requests of allowed origins.
        origin_valid: Counter,
        /// Requests of other origins.
        origin_invalid: Counter,
    }
}

group! {
    /// `http.<stat_prefix>.rbac.*`
    AccessCounters {
        /// Requests that may pass.
        allowed: Counter,
        /// Requests that were refused.
        denied: Counter,
        /// Requests that the shadow policy would let pass.
        shadow_allowed: Counter,
        /// Requests that it would refuse.
        shadow_denied: Counter,
    }
}

group! {
    /// `<stat_prefix>.rbac.*`
    ConnectionAccessCounters {
        /// Connections that may pass.
        allowed: Counter,
        /// Connections that were refused.
        denied: Counter,
        /// Connections that the shadow policy would let pass.
        shadow_allowed: Counter,
        /// Connections that it would refuse.
        shadow_denied: Counter,
        /// Open connections that a new policy ended.
        revoked: Counter,
    }
}

group! {
    /// One counter whose name is put together from configuration.
    Tally {
        /// What is counted.
        count: Counter,
    }
}

group! {
    /// `http.<stat_prefix>.health_check.*`
    HealthCheckCounters {
        /// Health checks that the filter answered.
        request_total: Counter,
        /// Answered 200 by the filter.
        ok: Counter,
        /// Answered otherwise by the filter.
        failed: Counter,
        /// Answered as the application did before.
        cached_response: Counter,
        /// Failed because a cluster is not there.
        failed_cluster_not_found: Counter,
        /// Failed because a cluster has no endpoints.
        failed_cluster_empty: Counter,
        /// Failed because a cluster has too few that are well.
        failed_cluster_unhealthy: Counter,
        /// Answered with `x-envoy-degraded`.
        degraded: Counter,
    }
}

group! {
    /// `http.<stat_prefix>.compressor.<library>.<coding>.*` and `decompressor...`
    CodecCounters {
        /// Messages compressed.
        compressed: Counter,
        /// Messages left as they were.
        not_compressed: Counter,
        /// Messages decompressed.
        decompressed: Counter,
        /// Messages left as they were by a decompressor.
        not_decompressed: Counter,
        /// Bytes of bodies, not compressed.
        total_uncompressed_bytes: Counter,
        /// The same bodies, compressed.
        total_compressed_bytes: Counter,
        /// Shorter than `min_content_length`.
        content_length_too_small: Counter,
        /// Without `accept-encoding`.
        no_accept_header: Counter,
        /// `accept-encoding` chose this one.
        header_compressor_used: Counter,
        /// It chose another.
        header_compressor_overshadowed: Counter,
        /// It chose none.
        header_identity: Counter,
        /// It took any.
        header_wildcard: Counter,
        /// It named nothing that there is.
        header_not_valid: Counter,
        /// Left as they were for their `ETag`.
        not_compressed_etag: Counter,
    }
}

group! {
    /// `cluster.<name>.grpc[.<service>.<method>].*`
    GrpcCounters {
        /// Calls that ended with status 0.
        success: Counter,
        /// Calls that ended with another.
        failure: Counter,
        /// Calls that ended with a status.
        total: Counter,
        /// Messages of requests.
        request_message_count: Counter,
        /// Messages of responses.
        response_message_count: Counter,
        /// From the last byte of the request to the status, if `enable_upstream_stats`.
        upstream_rq_time: Histogram,
    }
}

group! {
    /// `<stat_prefix>.http_local_rate_limit.*`
    LimitCounters {
        /// Requests that the filter looked at.
        enabled: Counter,
        /// Of these, within the limit.
        ok: Counter,
        /// Of these, above the limit.
        rate_limited: Counter,
        /// Of these, refused.
        enforced: Counter,
        /// Above the limit of a descriptor in shadow.
        shadow_mode: Counter,
    }
}

group! {
    /// `cluster.<name>.ext_authz[.<stat_prefix>].*`
    AuthorizationCounters {
        /// The service lets them pass.
        ok: Counter,
        /// It does not.
        denied: Counter,
        /// The service gave no answer.
        error: Counter,
        /// Of these, let through.
        failure_mode_allowed: Counter,
        /// Refused because the answer could not stand in a message (`validate_mutations`).
        invalid: Counter,
    }
}

group! {
    /// `cluster.<name>.ratelimit[.<stat_prefix>].*`
    RateLimitCounters {
        /// Within the limit, says the service.
        ok: Counter,
        /// Above it.
        over_limit: Counter,
        /// The service gave no answer.
        error: Counter,
        /// Of these, let through.
        failure_mode_allowed: Counter,
    }
}

group! {
    /// `local_rate_limit.<stat_prefix>.*`
    ConnectionRateLimitCounters {
        /// Connections closed because there was no token for them.
        rate_limited: Counter,
    }
}

group! {
    /// `connection_limit.<stat_prefix>.*`
    ConnectionLimitCounters {
        /// Connections closed because there were too many.
        limited_connections: Counter,
        /// Connections that count now.
        active_connections: Gauge,
    }
}

group! {
    /// `tcp.<stat_prefix>.*`
    TcpCounters {
        /// Tunnels.
        downstream_cx_total: Counter,
        /// Open now.
        downstream_cx_active: Gauge,
        /// Without a cluster.
        downstream_cx_no_route: Counter,
        /// Bytes from the client.
        downstream_cx_rx_bytes_total: Counter,
        /// Bytes to the client.
        downstream_cx_tx_bytes_total: Counter,
        /// Closed for idleness.
        idle_timeout: Counter,
        /// Closed by `max_downstream_connection_duration`.
        max_downstream_connection_duration: Counter,
        /// Clients whose bytes were read before there was an upstream connection.
        early_data_received_count_total: Counter,
    }
}

group! {
    /// `proxy_proto.[<stat_prefix>.]versions.<version>.*`
    HeaderVersionCounters {
        /// PROXY headers, also of a version that is disallowed.
        found: Counter,
        /// Of a version that is disallowed.
        disallowed: Counter,
        /// Connections closed because a header broke the protocol.
        error: Counter,
    }
}

group! {
    /// `proxy_proto.[<stat_prefix>.]*`
    AbsentHeaderCounters {
        /// Connections taken without a PROXY header.
        not_found_allowed: Counter,
        /// Connections closed for not having one.
        not_found_disallowed: Counter,
    }
}

group! {
    /// Of all listeners together.
    HeaderErrorCounters {
        /// Connections closed because of their PROXY header, or its absence.
        downstream_cx_proxy_proto_error: Counter,
    }
}

group! {
    /// `cluster.<name>.*`
    ClusterCounters {
        /// Connections.
        upstream_cx_total: Counter,
        /// Open now.
        upstream_cx_active: Gauge,
        /// Spoke HTTP/1.
        upstream_cx_http1_total: Counter,
        /// Spoke HTTP/2.
        upstream_cx_http2_total: Counter,
        /// Closed.
        upstream_cx_destroy: Counter,
        /// Closed by the endpoint.
        upstream_cx_destroy_remote: Counter,
        /// Closed by us.
        upstream_cx_destroy_local: Counter,
        /// Closed by the endpoint with requests in flight.
        upstream_cx_destroy_remote_with_active_rq: Counter,
        /// Connects that failed.
        upstream_cx_connect_fail: Counter,
        /// Connects that took too long.
        upstream_cx_connect_timeout: Counter,
        /// Tunnels given up after `max_connect_attempts`.
        upstream_cx_connect_attempts_exceeded: Counter,
        /// Closed for idleness.
        upstream_cx_idle_timeout: Counter,
        /// Closed, or left to its last request, for its age (`max_connection_duration`).
        upstream_cx_max_duration_reached: Counter,
        /// Refused by `max_connections`.
        upstream_cx_overflow: Counter,
        /// Broke the protocol.
        upstream_cx_protocol_error: Counter,
        /// Could not be used: no endpoint.
        upstream_cx_none_healthy: Counter,
        /// Bytes of bodies received.
        upstream_cx_rx_bytes_total: Counter,
        /// Bytes of bodies sent.
        upstream_cx_tx_bytes_total: Counter,
        /// Requests.
        upstream_rq_total: Counter,
        /// In flight.
        upstream_rq_active: Gauge,
        /// With a response.
        upstream_rq_completed: Counter,
        /// By response class.
        upstream_rq_1xx: Counter,
        /// By response class.
        upstream_rq_2xx: Counter,
        /// By response class.
        upstream_rq_3xx: Counter,
        /// By response class.
        upstream_rq_4xx: Counter,
        /// By response class.
        upstream_rq_5xx: Counter,
        /// Waited for a connection.
        upstream_rq_pending_total: Counter,
        /// Waiting now.
        upstream_rq_pending_active: Gauge,
        /// Refused by `max_pending_requests`.
        upstream_rq_pending_overflow: Counter,
        /// Refused by `max_requests`.
        upstream_rq_active_overflow: Counter,
        /// Given up because no connection could be made.
        upstream_rq_pending_failure_eject: Counter,
        /// Given up by the client.
        upstream_rq_cancelled: Counter,
        /// Took too long.
        upstream_rq_timeout: Counter,
        /// Reset by the endpoint.
        upstream_rq_rx_reset: Counter,
        /// Reset by us.
        upstream_rq_tx_reset: Counter,
        /// `max_stream_duration` of the cluster.
        upstream_rq_max_duration_reached: Counter,
        /// `per_try_timeout`.
        upstream_rq_per_try_timeout: Counter,
        /// `per_try_idle_timeout`.
        upstream_rq_per_try_idle_timeout: Counter,
        /// Not tried again: `num_retries` were.
        upstream_rq_retry_limit_exceeded: Counter,
        /// Not tried again: the cluster's retry budget or `max_retries`.
        upstream_rq_retry_overflow: Counter,
        /// Not tried again: a proxy nearer to the failure, or a gRPC server, said that it would be in vain.
        upstream_rq_retry_withheld: Counter,
        /// Waited by the policy's back-off.
        upstream_rq_retry_backoff_exponential: Counter,
        /// Waited as the server had asked.
        upstream_rq_retry_backoff_ratelimited: Counter,
        /// Not tried again: the body was too long to be kept.
        retry_or_shadow_abandoned: Counter,
        /// Endpoints left out for a while because they refused a connection.
        upstream_host_quarantined: Counter,
        /// Redirects followed in the client's place.
        upstream_internal_redirect_succeeded_total: Counter,
        /// Redirects that the policy speaks of and that were passed on.
        upstream_internal_redirect_failed_total: Counter,
        /// Answered by the cluster that its route falls back to.
        upstream_rq_degraded_cluster: Counter,
        /// Answered by the last good answer.
        upstream_rq_degraded_stale: Counter,
        /// Answered by what its route says.
        upstream_rq_degraded_response: Counter,
        /// Tried again.
        upstream_rq_retry: Counter,
        /// Tried again with success.
        upstream_rq_retry_success: Counter,
        /// Of these: a reused connection had died before anything was processed.
        upstream_rq_reuse_race_retried: Counter,
        /// From the request's head to the response's last byte.
        upstream_rq_time: Histogram,
        /// From connect to usable.
        upstream_cx_connect_ms: Histogram,
        /// Life of connections.
        upstream_cx_length_ms: Histogram,
    }
}

group! {
    /// `cluster.<name>.outlier_detection.*`; `detected`: a limit was reached, `enforced`: and the endpoint ejected.
    OutlierCounters {
        /// Of all kinds.
        ejections_enforced_total: Counter,
        /// Not ejected: `max_ejection_percent`.
        ejections_overflow: Counter,
        /// Not ejected: the others failed as well.
        ejections_withheld_common: Counter,
        /// A run of 5xx.
        ejections_detected_consecutive_5xx: Counter,
        /// A run of 5xx.
        ejections_enforced_consecutive_5xx: Counter,
        /// A run of 502, 503 and 504.
        ejections_detected_consecutive_gateway_failure: Counter,
        /// A run of 502, 503 and 504.
        ejections_enforced_consecutive_gateway_failure: Counter,
        /// A run of failures without an answer.
        ejections_detected_consecutive_local_origin_failure: Counter,
        /// A run of failures without an answer.
        ejections_enforced_consecutive_local_origin_failure: Counter,
        /// Success rate.
        ejections_detected_success_rate: Counter,
        /// Success rate.
        ejections_enforced_success_rate: Counter,
        /// Success rate of connections.
        ejections_detected_local_origin_success_rate: Counter,
        /// Success rate of connections.
        ejections_enforced_local_origin_success_rate: Counter,
        /// Failure percentage.
        ejections_detected_failure_percentage: Counter,
        /// Failure percentage.
        ejections_enforced_failure_percentage: Counter,
        /// Failure percentage of connections.
        ejections_detected_local_origin_failure_percentage: Counter,
        /// Failure percentage of connections.
        ejections_enforced_local_origin_failure_percentage: Counter,
        /// Envoy's older name: runs of 5xx and success rates, enforced or not.
        ejections_total: Counter,
        /// Envoy's older name.
        ejections_consecutive_5xx: Counter,
        /// Envoy's older name.
        ejections_success_rate: Counter,
    }
}

group! {
    /// `cluster.<name>.health_check.*`.
    ActiveCheckCounters {
        /// Checks begun.
        attempt: Counter,
        /// Checks that passed.
        success: Counter,
        /// Failures, of checks or told by answers to requests.
        failure: Counter,
        /// Of these: no connection, no whole answer, or none in time.
        network_failure: Counter,
        /// Of these: an answer to a request said `x-envoy-immediate-health-check-fail`.
        passive_failure: Counter,
        /// The name of the answering cluster was compared.
        verify_cluster: Counter,
    }
}

/// Counts a status into the cell of its class.
pub fn class_of(status: u16, classes: [&Counter; 5]) {
    if let Some(cell) = (status / 100)
        .checked_sub(1)
        .and_then(|class| classes.get(usize::from(class)))
    {
        cell.one();
    }
}
