//! Which extensions does a bootstrap ask for, and is there one that nobody has?
//!
//! What always holds: an extension that only observes or tunes is left out (and listed among the ignored fields); one of a
//! type that Envoy does not have either is a problem in Envoy's words, because whoever wrote it expects it to run.

use remora_proto::pb::envoy::config::bootstrap::v3 as pb;
use remora_proto::pb::envoy::config::overload::v3::resource_monitor;
use remora_proto::pb::envoy::config::{metrics::v3::stats_sink, trace::v3::tracing::http};
use remora_proto::pb::google::protobuf::Any;
use remora_proto::{Problem, type_url};

use crate::extension::{Extension, unknown};

/// Tracers that Envoy 1.40 has, beside the family of the newer ones.
const TRACERS: [&str; 6] = [
    "envoy.config.trace.v3.ZipkinConfig",
    "envoy.config.trace.v3.DatadogConfig",
    "envoy.config.trace.v3.OpenTelemetryConfig",
    "envoy.config.trace.v3.SkyWalkingConfig",
    "envoy.config.trace.v3.XRayConfig",
    "envoy.extensions.tracers.",
];

/// Whether Envoy has a tracer that this type configures.
pub(crate) fn is_tracer(kind: &str) -> bool {
    TRACERS.iter().any(|tracer| kind.starts_with(tracer))
}

/// Notes every extension that nobody has, and what contradicts itself beside them.
pub(super) fn check(said: &pb::Bootstrap, problems: &mut Vec<Problem>) {
    for (index, sink) in said.stats_sinks.iter().enumerate() {
        let config = sink.config_type.as_ref();
        let any = config.map(|stats_sink::ConfigType::TypedConfig(any)| any);
        let families = ["envoy.config.metrics.v3.", "envoy.extensions.stat_sinks."];
        let path = format!("stats_sinks[{index}]");
        known(path, &sink.name, any, |kind| begins(kind, &families), problems);
    }
    for (index, extension) in said.bootstrap_extensions.iter().enumerate() {
        let path = format!("bootstrap_extensions[{index}]");
        let any = extension.typed_config.as_ref();
        known(
            path,
            &extension.name,
            any,
            |kind| begins(kind, &["envoy."]),
            problems,
        );
    }
    #[expect(deprecated, reason = "Envoy takes it still")]
    let tracing = said.tracing.as_ref().and_then(|tracing| tracing.http.as_ref());
    if let Some(tracer) = tracing {
        let any = tracer
            .config_type
            .as_ref()
            .map(|http::ConfigType::TypedConfig(any)| any);
        known("tracing.http".into(), &tracer.name, any, is_tracer, problems);
    }
    let monitors = said
        .overload_manager
        .as_ref()
        .map(|manager| manager.resource_monitors.as_slice());
    for (index, monitor) in monitors.unwrap_or_default().iter().enumerate() {
        let config = monitor.config_type.as_ref();
        let any = config.map(|resource_monitor::ConfigType::TypedConfig(any)| any);
        let path = format!("overload_manager.resource_monitors[{index}]");
        let family = ["envoy.extensions.resource_monitors."];
        known(path, &monitor.name, any, |kind| begins(kind, &family), problems);
    }
    runtime_layers(said, problems);
}

fn begins(kind: &str, families: &[&str]) -> bool {
    families.iter().any(|family| kind.starts_with(family))
}

fn known(
    path: String,
    name: &str,
    any: Option<&Any>,
    is_known: impl Fn(&str) -> bool,
    problems: &mut Vec<Problem>,
) {
    let kind = any.map_or_else(String::new, |any| Extension::open(any).kind);
    if !is_known(type_url::message_name(&kind)) {
        problems.push(Problem::new(
            path,
            "an extension of Envoy",
            format!("another one: {}", unknown(name, &kind)),
        ));
    }
}

/// A layer's name is its own.
fn runtime_layers(said: &pb::Bootstrap, problems: &mut Vec<Problem>) {
    let layers = said
        .layered_runtime
        .as_ref()
        .map(|runtime| runtime.layers.as_slice())
        .unwrap_or_default();
    for (index, layer) in layers.iter().enumerate() {
        if layers[..index].iter().any(|before| before.name == layer.name) {
            problems.push(Problem::new(
                format!("layered_runtime.layers[{index}].name"),
                "a name of its own",
                format!("Duplicate layer name: {}", layer.name),
            ));
        }
    }
}
