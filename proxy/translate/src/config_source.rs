//! From where do resources come? (`envoy.config.core.v3.ConfigSource` and `ApiConfigSource`)
//!
//! What always holds: a source that was translated can be used as it stands: its services, paths and times are complete
//! and in range. What would be unsafe to leave out (credentials that we do not send, validators that we do not run) is
//! refused. It opens no stream and reads no file, and whether a named cluster exists is asked in [`crate::bootstrap`].

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use remora_model::Name;
use remora_proto::Problem;
use remora_proto::pb::envoy::config::core::v3 as core;
use remora_proto::pb::google::protobuf::Duration as Said;

/// Envoy's default for `initial_fetch_timeout`.
const INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's defaults for the waits between attempts to reach a server.
const BACK_OFF: BackOff = BackOff {
    base: Duration::from_millis(500),
    max: Duration::from_secs(30),
};

/// A source, and how long its first answer may hold back what needs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigSource {
    /// The source.
    pub source: Source,
    /// Until initialisation goes on without the first answer: 15 s if unset; `None` waits for ever (`0s`).
    pub initial_fetch_timeout: Option<Duration>,
}

/// `ConfigSource.config_source_specifier`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The bootstrap's aggregated stream, `dynamic_resources.ads_config`.
    Ads,
    /// A stream of its own.
    Grpc(Arc<GrpcSource>),
    /// A file.
    Path(Arc<PathSource>),
}

/// `ApiConfigSource` of type `GRPC` or `DELTA_GRPC`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcSource {
    /// Which of the two protocols is spoken.
    pub variant: Variant,
    /// At least one, in order of preference.
    pub services: Vec<GrpcService>,
    /// Whether the node is left out of all requests of a stream but the first.
    pub node_on_first_message_only: bool,
    /// Waits between attempts, from the first service that says them.
    pub back_off: BackOff,
    /// `rate_limit_settings`: no limit if unset.
    pub rate_limit: Option<RateLimit>,
}

/// `RateLimitSettings` of the requests to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Requests that may leave at once; at least 1, 100 if unset.
    pub max_tokens: u32,
    /// Until the next one may: 100 ms if unset, at most a year.
    pub fill_interval: Duration,
}

/// The wire variant of xDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `GRPC`: every response is the whole state.
    StateOfTheWorld,
    /// `DELTA_GRPC`: responses carry what changed.
    Delta,
}

/// `GrpcService`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GrpcService {
    /// Where the server is.
    pub target: GrpcTarget,
    /// The `:authority` if it is not to be made from the target.
    pub authority: Option<Name>,
    /// Headers of the stream.
    pub initial_metadata: Vec<(HeaderName, HeaderValue)>,
    /// For single calls; streams have none. `None` is without limit.
    pub timeout: Option<Duration>,
}

/// `GrpcService.target_specifier`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GrpcTarget {
    /// `envoy_grpc`: a cluster, whose transport socket decides about TLS.
    Cluster(Name),
    /// `google_grpc` without credentials: a gRPC target URI, in plaintext.
    Uri(Name),
}

/// Exponential waits with jitter, from `base` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackOff {
    /// The first wait; above zero.
    pub base: Duration,
    /// The longest wait; at least `base`.
    pub max: Duration,
}

/// `PathConfigSource`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathSource {
    /// The file.
    pub path: Name,
    /// The directory in which renames count; the file's own if unset.
    pub watched_directory: Option<Name>,
    /// Read again at this interval in place of watching.
    pub poll_interval: Option<Duration>,
}

/// Translates a `ConfigSource` that stands at `path`; `None` when `problems` got one.
#[expect(deprecated, reason = "a file may be named by the deprecated field too")]
pub fn config_source(
    from: &core::ConfigSource,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<ConfigSource> {
    use core::config_source::ConfigSourceSpecifier as Specifier;
    let before = problems.len();
    version(
        from.resource_api_version,
        &format!("{path}.resource_api_version"),
        problems,
    );
    let initial_fetch_timeout = match &from.initial_fetch_timeout {
        None => Some(INITIAL_FETCH_TIMEOUT),
        Some(said) => {
            duration(said, &format!("{path}.initial_fetch_timeout"), problems).filter(|time| !time.is_zero())
        }
    };
    let source = match &from.config_source_specifier {
        Some(Specifier::Ads(_)) => Some(Source::Ads),
        Some(Specifier::ApiConfigSource(from)) => {
            grpc_source(from, &format!("{path}.api_config_source"), problems)
                .map(|source| Source::Grpc(Arc::new(source)))
        }
        Some(Specifier::Path(file)) => {
            let from = core::PathConfigSource {
                path: file.clone(),
                ..Default::default()
            };
            path_source(&from, path, problems).map(|source| Source::Path(Arc::new(source)))
        }
        Some(Specifier::PathConfigSource(from)) => {
            path_source(from, &format!("{path}.path_config_source"), problems)
                .map(|source| Source::Path(Arc::new(source)))
        }
        Some(Specifier::Self_(_)) => {
            problems.push(Problem::new(
                format!("{path}.self"),
                "ads or api_config_source",
                "self, which is not supported",
            ));
            None
        }
        None => {
            problems.push(Problem::new(
                path,
                "one of ads, api_config_source, path_config_source",
                "none of them",
            ));
            None
        }
    };
    let source = source.filter(|_| problems.len() == before)?;
    Some(ConfigSource {
        source,
        initial_fetch_timeout,
    })
}

/// Translates an `ApiConfigSource` that stands at `path`; `None` when `problems` got one.
pub fn grpc_source(
    from: &core::ApiConfigSource,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<GrpcSource> {
    use core::api_config_source::ApiType;
    let before = problems.len();
    version(
        from.transport_api_version,
        &format!("{path}.transport_api_version"),
        problems,
    );
    let variant = match ApiType::try_from(from.api_type) {
        Ok(ApiType::Grpc) => Variant::StateOfTheWorld,
        Ok(ApiType::DeltaGrpc) => Variant::Delta,
        other => {
            let found = other.map_or_else(
                |_| from.api_type.to_string(),
                |known| known.as_str_name().to_owned(),
            );
            problems.push(Problem::new(
                format!("{path}.api_type"),
                "GRPC or DELTA_GRPC",
                found,
            ));
            return None;
        }
    };
    refuse(from, path, problems);
    let services = from.grpc_services.iter().enumerate();
    let services: Vec<_> = services
        .filter_map(|(index, service)| {
            grpc_service(service, &format!("{path}.grpc_services[{index}]"), problems)
        })
        .collect();
    let back_off = back_off(from, path, problems);
    let rate_limit = rate_limit(from, path, problems);
    (problems.len() == before).then_some(GrpcSource {
        variant,
        services,
        node_on_first_message_only: from.set_node_on_first_message_only,
        back_off,
        rate_limit,
    })
}

/// What an `ApiConfigSource` of gRPC must have, and what it must not.
fn refuse(from: &core::ApiConfigSource, path: &str, problems: &mut Vec<Problem>) {
    if from.grpc_services.is_empty() {
        problems.push(Problem::new(
            format!("{path}.grpc_services"),
            "at least one service",
            "none",
        ));
    }
    if !from.cluster_names.is_empty() {
        let problem = Problem::new(
            format!("{path}.cluster_names"),
            "grpc_services",
            "cluster names, which only REST has",
        );
        problems.push(problem);
    }
    if !from.config_validators.is_empty() {
        let found = "validators, which are not supported and without which bad updates would be applied";
        problems.push(Problem::new(
            format!("{path}.config_validators"),
            "no validators",
            found,
        ));
    }
}

fn rate_limit(from: &core::ApiConfigSource, path: &str, problems: &mut Vec<Problem>) -> Option<RateLimit> {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let from = from.rate_limit_settings.as_ref()?;
    let max_tokens = from.max_tokens.as_ref().map_or(100, |said| said.value);
    let fill_rate = from.fill_rate.as_ref().map_or(10.0, |said| said.value);
    if fill_rate.is_nan() || fill_rate <= 0.0 {
        problems.push(Problem::new(
            format!("{path}.rate_limit_settings.fill_rate"),
            "a rate above 0",
            fill_rate.to_string(),
        ));
    }
    let fill_interval = Duration::try_from_secs_f64(fill_rate.recip()).unwrap_or(YEAR);
    Some(RateLimit {
        max_tokens: max_tokens.max(1),
        fill_interval: fill_interval.min(YEAR),
    })
}

fn grpc_service(from: &core::GrpcService, path: &str, problems: &mut Vec<Problem>) -> Option<GrpcService> {
    use core::grpc_service::TargetSpecifier;
    let (target, authority) = match &from.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(target)) if target.cluster_name.is_empty() => {
            problems.push(Problem::new(
                format!("{path}.envoy_grpc.cluster_name"),
                "the name of a cluster",
                "an empty string",
            ));
            return None;
        }
        Some(TargetSpecifier::EnvoyGrpc(target)) => (
            GrpcTarget::Cluster(target.cluster_name.as_str().into()),
            target.authority.as_str(),
        ),
        Some(TargetSpecifier::GoogleGrpc(target)) => (
            google_target(target, &format!("{path}.google_grpc"), problems)?,
            "",
        ),
        None => {
            problems.push(Problem::new(path, "envoy_grpc or google_grpc", "neither"));
            return None;
        }
    };
    let headers = from.initial_metadata.iter().enumerate();
    Some(GrpcService {
        target,
        authority: (!authority.is_empty()).then(|| authority.into()),
        initial_metadata: headers
            .filter_map(|(index, header)| {
                metadata(header, &format!("{path}.initial_metadata[{index}]"), problems)
            })
            .collect(),
        timeout: from
            .timeout
            .as_ref()
            .and_then(|said| duration(said, &format!("{path}.timeout"), problems))
            .filter(|timeout| !timeout.is_zero()),
    })
}

fn google_target(
    from: &core::grpc_service::GoogleGrpc,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<GrpcTarget> {
    use core::grpc_service::google_grpc::channel_credentials::CredentialSpecifier;
    let before = problems.len();
    if from.target_uri.is_empty() {
        problems.push(Problem::new(
            format!("{path}.target_uri"),
            "a gRPC target",
            "an empty string",
        ));
    }
    let channel = from
        .channel_credentials
        .as_ref()
        .and_then(|credentials| credentials.credential_specifier.as_ref());
    let encrypted = match channel {
        None | Some(CredentialSpecifier::LocalCredentials(_)) => false,
        Some(CredentialSpecifier::SslCredentials(_) | CredentialSpecifier::GoogleDefault(_)) => true,
    };
    if encrypted || !from.channel_credentials_plugin.is_empty() {
        let found = "credentials for TLS, which google_grpc does not have here; use envoy_grpc and a cluster with a \
                     transport_socket";
        problems.push(Problem::new(
            format!("{path}.channel_credentials"),
            "no credentials or local_credentials",
            found,
        ));
    }
    if !from.call_credentials.is_empty() || !from.call_credentials_plugin.is_empty() {
        let found = "credentials, which are not supported; use initial_metadata";
        problems.push(Problem::new(
            format!("{path}.call_credentials"),
            "no call credentials",
            found,
        ));
    }
    if !from.credentials_factory_name.is_empty() {
        let problem = Problem::new(
            format!("{path}.credentials_factory_name"),
            "no factory",
            "a factory, which is not supported",
        );
        problems.push(problem);
    }
    (problems.len() == before).then(|| GrpcTarget::Uri(from.target_uri.as_str().into()))
}

fn metadata(
    from: &core::HeaderValue,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Option<(HeaderName, HeaderValue)> {
    let bytes = if from.raw_value.is_empty() {
        from.value.as_bytes()
    } else {
        &from.raw_value
    };
    let name = HeaderName::from_bytes(from.key.as_bytes());
    let value = HeaderValue::from_bytes(bytes);
    if name.is_err() {
        problems.push(Problem::new(
            format!("{path}.key"),
            "a header name",
            format!("{:?}", from.key),
        ));
    }
    if value.is_err() {
        // Not shown: such headers carry tokens.
        problems.push(Problem::new(
            format!("{path}.value"),
            "a header value",
            "a value with control characters",
        ));
    }
    Some((name.ok()?, value.ok()?))
}

/// Of the first service that says it, as Envoy reads it from `envoy_grpc.retry_policy`; also from the service's own
/// `retry_policy`. Without `max_interval` the longest wait is ten times the first.
fn back_off(from: &core::ApiConfigSource, path: &str, problems: &mut Vec<Problem>) -> BackOff {
    use core::grpc_service::TargetSpecifier;
    for (index, service) in from.grpc_services.iter().enumerate() {
        let inner = match &service.target_specifier {
            Some(TargetSpecifier::EnvoyGrpc(target)) => target.retry_policy.as_ref(),
            _ => None,
        };
        let (policy, field) = match (inner, &service.retry_policy) {
            (Some(policy), _) => (policy, "envoy_grpc.retry_policy"),
            (None, Some(policy)) => (policy, "retry_policy"),
            (None, None) => continue,
        };
        let Some(said) = &policy.retry_back_off else {
            continue;
        };
        let path = format!("{path}.grpc_services[{index}].{field}.retry_back_off");
        let mut time = |said: &Option<Said>, name: &str| {
            said.as_ref()
                .and_then(|said| duration(said, &format!("{path}.{name}"), problems))
        };
        let base = time(&said.base_interval, "base_interval")
            .unwrap_or(BACK_OFF.base)
            .max(Duration::from_millis(1));
        let max = time(&said.max_interval, "max_interval").unwrap_or(base.saturating_mul(10));
        if max < base {
            let found = format!("{max:?}, which is below the base_interval of {base:?}");
            problems.push(Problem::new(
                format!("{path}.max_interval"),
                "at least the base_interval",
                found,
            ));
        }
        return BackOff { base, max };
    }
    BACK_OFF
}

fn path_source(from: &core::PathConfigSource, path: &str, problems: &mut Vec<Problem>) -> Option<PathSource> {
    let before = problems.len();
    if from.path.is_empty() {
        problems.push(Problem::new(
            format!("{path}.path"),
            "a file path",
            "an empty string",
        ));
    }
    let poll_interval = from
        .poll_interval
        .as_ref()
        .and_then(|said| duration(said, &format!("{path}.poll_interval"), problems));
    if poll_interval.is_some() && from.watched_directory.is_some() {
        let expected = "only one of poll_interval and watched_directory";
        problems.push(Problem::new(path, expected, "both"));
    }
    if poll_interval.is_some_and(|interval| interval < Duration::from_millis(1)) {
        problems.push(Problem::new(
            format!("{path}.poll_interval"),
            "at least 1ms",
            "less",
        ));
    }
    (problems.len() == before).then(|| PathSource {
        path: from.path.as_str().into(),
        watched_directory: from
            .watched_directory
            .as_ref()
            .map(|directory| directory.path.as_str().into()),
        poll_interval,
    })
}

#[expect(deprecated, reason = "the deprecated version is what is looked for")]
fn version(said: i32, path: &str, problems: &mut Vec<Problem>) {
    if said == core::ApiVersion::V2 as i32 {
        problems.push(Problem::new(path, "V3", "V2, which is no longer spoken"));
    }
}

fn duration(said: &Said, path: &str, problems: &mut Vec<Problem>) -> Option<Duration> {
    let parts = u64::try_from(said.seconds)
        .ok()
        .zip(u32::try_from(said.nanos).ok());
    let duration = parts
        .filter(|(_, nanos)| *nanos < 1_000_000_000)
        .map(|(seconds, nanos)| Duration::new(seconds, nanos));
    if duration.is_none() {
        let found = format!("{} seconds and {} nanoseconds", said.seconds, said.nanos);
        problems.push(Problem::new(path, "a duration of at least 0", found));
    }
    duration
}
