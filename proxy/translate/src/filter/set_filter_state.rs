//! `envoy.filters.http.set_filter_state`, in a chain and at a route.
//!
//! Holds: an object whose effect we could not carry out is refused; one that has an effect on tunnels alone is a text
//! here, as it has none on requests in Envoy either.

use std::sync::Arc;

use remora_model::filter::SetFilterState;
use remora_model::log::Format;
use remora_model::metadata::{StateKind, StateValue};

use crate::access_log::substitution;
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::extensions::filters::common::set_filter_state::v3 as common;
use crate::pb::envoy::extensions::filters::common::set_filter_state::v3::filter_state_value::{Key, Value};
use crate::pb::envoy::extensions::filters::http::set_filter_state::v3::Config;
use crate::value;

pub(super) const KIND: &str = "envoy.extensions.filters.http.set_filter_state.v3.Config";

/// What can be made, by the name of its factory.
const FACTORIES: [(&str, StateKind); 6] = [
    ("envoy.string", StateKind::Text),
    ("envoy.hashable_string", StateKind::Hashable),
    ("envoy.ratelimit.hits_addend", StateKind::Number),
    // These are read by TCP proxies alone, of their connection.
    ("envoy.tcp_proxy.cluster", StateKind::Text),
    ("envoy.tcp_proxy.disable_tunneling", StateKind::Text),
    (
        "envoy.tcp_proxy.per_connection_idle_timeout_ms",
        StateKind::Number,
    ),
];

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<SetFilterState>> {
    let said: Config = extension.decode(work)?;
    Some(Arc::new(SetFilterState {
        values: work.each("on_request_headers", &said.on_request_headers, state_value),
        clear_route_cache: said.clear_route_cache,
    }))
}

fn state_value(work: &mut Work<'_, '_>, said: &common::FilterStateValue) -> Option<StateValue> {
    work.review(said);
    let Some(Key::ObjectKey(key)) = &said.key else {
        work.wrong("expected object_key, found none");
        return None;
    };
    let key = value::required(work, "object_key", key);
    let format = match &said.value {
        Some(Value::FormatString(format)) => substitution(work, "format_string", format),
        None => {
            work.wrong("expected format_string, found none");
            None
        }
    };
    if matches!(&format, Some(Format::Json { .. })) {
        work.wrong_at("format_string.json_format", "is not supported: objects of JSON");
    }
    Some(StateValue {
        kind: kind(work, key?, value::or(&said.factory_key, key?))?,
        key: key?.into(),
        format: Arc::new(format?),
        skip_if_empty: said.skip_if_empty,
    })
}

fn kind(work: &mut Work<'_, '_>, key: &str, factory: &str) -> Option<StateKind> {
    let found = FACTORIES.iter().find(|(name, _)| *name == factory);
    if found.is_none() {
        if factory.starts_with("envoy.") {
            work.wrong(format!(
                "is not supported: filter state '{key}' by the factory '{factory}'"
            ));
        } else {
            work.wrong(format!("'{key}' does not have an object factory"));
        }
    }
    found.map(|(_, kind)| *kind)
}
