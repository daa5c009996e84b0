//! Filters: which do we have, which may be left out, which must be refused?
//!
//! Holds: a filter that decides who may do what, or where bytes go, is refused unless we have it; only filters that
//! observe or tune are left out, and each of these is counted by its type ([`IGNORED`]). Types are told apart by their
//! configuration's message, never by the filter's name.

mod buffer;
mod cache;
mod compression;
mod connection_limits;
pub(crate) mod cors;
mod ext_authz;
mod fault;
mod global_rate_limit;
mod grpc;
pub(crate) mod header_mutation;
mod health_check;
mod istio;
pub(crate) mod listener;
pub(crate) mod local_rate_limit;
pub(crate) mod network;
pub(crate) mod quota;
mod rbac;
mod router;
mod set_filter_state;
mod stateful_session;

pub(crate) use router::KIND as ROUTER;

use std::collections::HashMap;

use remora_model::filter::{ChainedFilter, FilterSettings, HttpFilter, RouteFilter};

use crate::context::Work;
use crate::extension::{Extension, message_name, unknown};
use crate::ignored::FieldReason;
use crate::pb::envoy::config::core::v3::ExtensionConfigSource;
use crate::pb::envoy::config::route::v3::FilterConfig;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    self as manager, http_filter,
};
use crate::pb::google::protobuf::Any;

pub(crate) use router::upstream_filters;

/// Where Envoy's HTTP filters live.
const HTTP: &str = "envoy.extensions.filters.http.";
const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

/// Filters that are accepted and not run, with the reason.
pub const IGNORED: &[FieldReason] = &[
    (
        "envoy.tcp.metadataexchange.config.MetadataExchange",
        "istio-peer-exchange is never negotiated, so nothing is exchanged",
    ),
    ("stats.PluginConfig", "observability: Istio's metrics"),
];

/// What a filter becomes.
enum Outcome {
    /// One of ours.
    Runs(HttpFilter),
    /// Nothing to run.
    Nothing,
    /// The router.
    Router,
    /// A problem was noted.
    Refused,
}

/// The HTTP filters of a connection manager: the router is the last and only the last.
pub(crate) fn http_filters(work: &mut Work<'_, '_>, said: &[manager::HttpFilter]) -> Vec<ChainedFilter> {
    if said.is_empty() {
        work.wrong_at(
            "http_filters",
            "expected a router as the last filter, found no filter",
        );
    }
    work.each(
        "http_filters",
        said.iter().enumerate(),
        |work, (index, filter)| {
            let last = index + 1 == said.len();
            let error = |what: &str, rule: &str| {
                format!(
                    "Error: {what} filter named {} {rule} http filter chain.",
                    filter.name
                )
            };
            match http_filter(work, filter) {
                Outcome::Router if !last => {
                    work.wrong(error("terminal", "must be the last filter in a"));
                    None
                }
                Outcome::Runs(_) | Outcome::Nothing if last => {
                    work.wrong(error("non-terminal", "is the last filter in a"));
                    None
                }
                Outcome::Runs(runs) => Some(ChainedFilter {
                    name: filter.name.as_str().into(),
                    disabled: filter.disabled,
                    filter: runs,
                }),
                Outcome::Nothing | Outcome::Router | Outcome::Refused => None,
            }
        },
    )
}

fn http_filter(work: &mut Work<'_, '_>, said: &manager::HttpFilter) -> Outcome {
    if said.name.is_empty() {
        work.wrong_at("name", "expected a name, found an empty string");
    }
    let any = match &said.config_type {
        Some(http_filter::ConfigType::TypedConfig(any)) => any,
        Some(http_filter::ConfigType::ConfigDiscovery(_)) if said.is_optional => {
            work.ignored("HttpFilter.config_discovery");
            return Outcome::Nothing;
        }
        Some(http_filter::ConfigType::ConfigDiscovery(source)) => {
            return if discovered(work, &said.name, source) {
                Outcome::Nothing
            } else {
                Outcome::Refused
            };
        }
        None if said.is_optional => return Outcome::Nothing,
        None => {
            work.wrong(unknown(&said.name, ""));
            return Outcome::Refused;
        }
    };
    let extension = Extension::open(any);
    if said.disabled && extension.kind == router::KIND {
        let rule = "in the chain cannot be disabled by default.";
        work.wrong(format!(
            "Error: the last (terminal) filter ({}) {rule}",
            said.name
        ));
        return Outcome::Refused;
    }
    work.at("typed_config", |work| http_extension(work, said, &extension))
}

fn http_extension(work: &mut Work<'_, '_>, said: &manager::HttpFilter, extension: &Extension<'_>) -> Outcome {
    match extension.kind.as_str() {
        router::KIND => router::check(work, extension),
        fault::KIND => runs(fault::translate(work, extension).map(HttpFilter::Fault)),
        cors::KIND => Outcome::Runs(HttpFilter::Cors),
        header_mutation::KIND => {
            runs(header_mutation::translate(work, extension).map(HttpFilter::HeaderMutation))
        }
        local_rate_limit::KIND => {
            runs(local_rate_limit::translate(work, extension).map(HttpFilter::LocalRateLimit))
        }
        ext_authz::KIND => runs(ext_authz::translate(work, extension).map(HttpFilter::ExternalAuthorization)),
        global_rate_limit::KIND => {
            runs(global_rate_limit::translate(work, extension).map(HttpFilter::GlobalRateLimit))
        }
        buffer::KIND => runs(buffer::translate(work, extension).map(HttpFilter::Buffer)),
        compression::COMPRESSOR => runs(compression::compressor(work, extension).map(HttpFilter::Compressor)),
        compression::DECOMPRESSOR => {
            runs(compression::decompressor(work, extension).map(HttpFilter::Decompressor))
        }
        cache::KIND => match cache::translate(work, extension) {
            Some(Some(cache)) => Outcome::Runs(HttpFilter::Cache(cache)),
            Some(None) => Outcome::Nothing,
            None => Outcome::Refused,
        },
        health_check::KIND => runs(health_check::translate(work, extension).map(HttpFilter::HealthCheck)),
        stateful_session::KIND => {
            runs(stateful_session::translate(work, extension).map(HttpFilter::StatefulSession))
        }
        set_filter_state::KIND => {
            runs(set_filter_state::translate(work, extension).map(HttpFilter::SetFilterState))
        }
        grpc::STATS => runs(grpc::stats(work, extension).map(HttpFilter::GrpcStats)),
        grpc::WEB => Outcome::Runs(HttpFilter::GrpcWeb),
        quota::KIND => runs(quota::translate(work, extension).map(HttpFilter::Quota)),
        rbac::KIND => runs(rbac::translate(work, extension).map(HttpFilter::Access)),
        istio::PEER_METADATA => Outcome::Runs(HttpFilter::StripPeerMetadata),
        istio::ALPN => runs(istio::alpn(work, extension)),
        kind if left_out(work, kind) => Outcome::Nothing,
        _ if said.is_optional => {
            work.ignored("HttpFilter.is_optional");
            Outcome::Nothing
        }
        // It may stand there as long as no route switches it on.
        kind if said.disabled && kind.starts_with(HTTP) => {
            work.ignored("HttpFilter.disabled");
            Outcome::Runs(HttpFilter::Unsupported(kind.into()))
        }
        kind => {
            refuse(work, &said.name, kind, HTTP);
            Outcome::Refused
        }
    }
}

/// Filters of ours that only tune or count: who does not read filters by ECDS may go on without them.
const NOT_MISSED: [&str; 2] = [compression::COMPRESSOR, grpc::STATS];

/// A filter by ECDS: it may be left out where every type that it may have is one of [`IGNORED`] or [`NOT_MISSED`].
pub(super) fn discovered(work: &mut Work<'_, '_>, name: &str, said: &ExtensionConfigSource) -> bool {
    let kinds: Vec<&str> = said.type_urls.iter().map(|url| message_name(url)).collect();
    let harmless = |kind: &&str| IGNORED.iter().any(|(ignored, _)| ignored == kind);
    if !kinds.is_empty()
        && kinds
            .iter()
            .all(|kind| harmless(kind) || NOT_MISSED.contains(kind))
    {
        for kind in kinds {
            if !left_out(work, kind) {
                work.ignored("HttpFilter.config_discovery");
            }
        }
        return true;
    }
    let sentence = format!(
        "is not supported: filter '{name}' by ECDS of type {}",
        kinds.join(", ")
    );
    work.wrong_at("config_discovery", sentence);
    false
}

fn runs(filter: Option<HttpFilter>) -> Outcome {
    filter.map_or(Outcome::Refused, Outcome::Runs)
}

/// Counts a type of [`IGNORED`]; whether it is one.
fn left_out(work: &mut Work<'_, '_>, kind: &str) -> bool {
    let found = IGNORED.iter().find(|(ignored, _)| *ignored == kind);
    if let Some((kind, _)) = found {
        work.ignored(kind);
    }
    found.is_some()
}

/// A problem: a type that Envoy knows (its package begins with `family`) and we do not have, or one that nobody knows.
fn refuse(work: &mut Work<'_, '_>, name: &str, kind: &str, family: &str) {
    if kind.starts_with(family) {
        work.wrong(format!("is not supported: filter '{name}' of type {kind}"));
    } else {
        work.wrong(unknown(name, kind));
    }
}

/// `typed_per_filter_config` of any level: nothing in it may decide anything that we would not do.
pub(crate) fn per_route(work: &mut Work<'_, '_>, said: &HashMap<String, Any>) -> FilterSettings {
    let mut filters: Vec<_> = said.iter().collect();
    filters.sort_by(|a, b| a.0.cmp(b.0));
    let settings = filters.into_iter().filter_map(|(name, any)| {
        let setting = work.at(&format!("typed_per_filter_config[{name:?}]"), |work| {
            one_per_route(work, name, any, false)
        });
        setting.map(|setting| (name.as_str().into(), setting))
    });
    FilterSettings::new(settings.collect())
}

fn one_per_route(work: &mut Work<'_, '_>, name: &str, any: &Any, optional: bool) -> Option<RouteFilter> {
    let extension = Extension::open(any);
    match extension.kind.as_str() {
        FILTER_CONFIG => {
            let said = extension.decode::<FilterConfig>(work)?;
            match &said.config {
                _ if said.disabled => Some(RouteFilter::Disabled),
                Some(config) if config.type_url.is_empty() => Some(RouteFilter::Enabled),
                Some(config) => work.at("config", |work| nested(work, name, config, said.is_optional)),
                None => {
                    work.wrong(format!(
                        "Empty route/virtual host per filter configuration for {name} filter"
                    ));
                    None
                }
            }
        }
        fault::KIND => fault::translate(work, &extension).map(RouteFilter::Fault),
        cors::POLICY => cors::policy(work, &extension).map(RouteFilter::Cors),
        header_mutation::PER_ROUTE => header_mutation::per_route(work, &extension),
        local_rate_limit::KIND => local_rate_limit::per_route(work, &extension),
        ext_authz::PER_ROUTE => ext_authz::per_route(work, &extension),
        global_rate_limit::PER_ROUTE => global_rate_limit::per_route(work, &extension),
        stateful_session::PER_ROUTE => stateful_session::per_route(work, &extension),
        quota::KIND => quota::translate(work, &extension).map(RouteFilter::Quota),
        rbac::PER_ROUTE => rbac::per_route(work, &extension),
        set_filter_state::KIND => {
            set_filter_state::translate(work, &extension).map(RouteFilter::SetFilterState)
        }
        compression::PER_ROUTE => compression::per_route(work, &extension),
        cache::KIND => {
            let said = cache::translate(work, &extension)?;
            Some(said.map_or(RouteFilter::Disabled, RouteFilter::Cache))
        }
        buffer::PER_ROUTE => buffer::per_route(work, &extension),
        kind if left_out(work, kind) => None,
        _ if optional => {
            work.ignored("FilterConfig.is_optional");
            None
        }
        kind => {
            refuse(work, name, kind, HTTP);
            None
        }
    }
}

/// The configuration inside a `FilterConfig`, which must not be one itself.
fn nested(work: &mut Work<'_, '_>, name: &str, any: &Any, optional: bool) -> Option<RouteFilter> {
    if Extension::open(any).kind == FILTER_CONFIG {
        work.wrong("expected the configuration of a filter, found another FilterConfig");
        return None;
    }
    one_per_route(work, name, any, optional)
}
