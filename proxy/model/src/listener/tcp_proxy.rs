//! How is a connection carried on that nobody looks into?

use std::time::Duration;

use http::uri::PathAndQuery;

use crate::Name;
use crate::endpoint::Labels;
use crate::log::AccessLog;
use crate::proxy_protocol::OwnTlvs;
use crate::retry::BackOff;
use crate::route::{ClusterChoice, HeaderMutations, HeaderValueTemplate};

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Debug)]
pub struct TcpProxy {
    /// Metric prefix (`tcp.<stat_prefix>.`).
    pub stat_prefix: Name,
    /// Where the bytes go.
    pub cluster: ClusterChoice,
    /// No byte in either direction (`idle_timeout`, default 1 h); `None` means no limit.
    pub idle_timeout: Option<Duration>,
    /// Life of a tunnel (`max_downstream_connection_duration`).
    pub connection_duration: Option<Duration>,
    /// `max_connect_attempts`, default 1.
    pub connect_attempts: u32,
    /// `hash_policy` by source address.
    pub hash_source_address: bool,
    /// `metadata_match` under `envoy.lb`: the subset of the cluster's endpoints.
    pub labels: Option<Box<Labels>>,
    /// Access logs.
    pub access_logs: Vec<AccessLog>,
    /// What few say.
    pub options: Option<Box<TunnelOptions>>,
}

/// Rare settings of a TCP proxy.
#[derive(Debug, Clone, Default)]
pub struct TunnelOptions {
    /// `max_downstream_connection_duration_jitter_percentage`, 0 to 100.
    pub duration_jitter: f64,
    /// `backoff_options`: between two attempts to connect; `None`: no wait.
    pub back_off: Option<BackOff>,
    /// `upstream_connect_mode` is `ON_DOWNSTREAM_DATA`: nothing is connected before the client has spoken.
    pub after_first_bytes: bool,
    /// `max_early_data_bytes`: read before there is an upstream connection.
    pub early_bytes: Option<u32>,
    /// When access logs are written beside at the end.
    pub log_times: LogTimes,
    /// `tunneling_config`.
    pub tunneling: Option<Tunneling>,
    /// `proxy_protocol_tlvs`.
    pub tlvs: Option<OwnTlvs>,
}

/// When a tunnel is written to its access logs, beside at its end (`access_log_options`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogTimes {
    /// `flush_access_log_on_start`.
    pub at_start: bool,
    /// `flush_access_log_on_connected`.
    pub when_connected: bool,
    /// `access_log_flush_interval`.
    pub every: Option<Duration>,
}

/// `tunneling_config`: the bytes travel inside a request.
#[derive(Debug, Clone)]
pub struct Tunneling {
    /// `hostname`: the authority of the request.
    pub hostname: HeaderValueTemplate,
    /// `use_post` with `post_path`; `None`: CONNECT.
    pub post: Option<PathAndQuery>,
    /// `headers_to_add`.
    pub headers: HeaderMutations,
}

impl TcpProxy {
    /// How long a connection may live, with its jitter.
    pub fn life(&self, rng: &mut fastrand::Rng) -> Option<Duration> {
        let limit = self.connection_duration?;
        let jitter = self
            .options
            .as_ref()
            .map_or(0.0, |options| options.duration_jitter);
        Some(limit + limit.mul_f64(rng.f64() * jitter.clamp(0.0, 100.0) / 100.0))
    }

    /// Whether an upstream connection may be made before the client has spoken, to be used for whatever comes.
    pub fn connects_at_once(&self) -> bool {
        self.options
            .as_ref()
            .is_none_or(|options| !options.after_first_bytes && options.tunneling.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ClusterId;

    fn proxy(jitter: f64) -> TcpProxy {
        TcpProxy {
            stat_prefix: "t".into(),
            cluster: ClusterChoice::One(ClusterId::from_index(0)),
            idle_timeout: None,
            connection_duration: Some(Duration::from_secs(100)),
            connect_attempts: 1,
            hash_source_address: false,
            labels: None,
            access_logs: Vec::new(),
            options: Some(Box::new(TunnelOptions {
                duration_jitter: jitter,
                ..TunnelOptions::default()
            })),
        }
    }

    #[test]
    fn jitter_only_lengthens_a_life_and_at_most_by_its_percentage() {
        let mut rng = fastrand::Rng::with_seed(7);
        assert_eq!(proxy(0.0).life(&mut rng), Some(Duration::from_secs(100)));
        let lives: Vec<_> = (0..2000).filter_map(|_| proxy(50.0).life(&mut rng)).collect();
        let (shortest, longest) = (lives.iter().min(), lives.iter().max());
        assert!(shortest >= Some(&Duration::from_secs(100)) && shortest < Some(&Duration::from_secs(101)));
        assert!(longest <= Some(&Duration::from_secs(150)) && longest > Some(&Duration::from_secs(149)));
    }
}
