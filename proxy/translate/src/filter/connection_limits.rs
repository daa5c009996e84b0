//! `envoy.filters.network.local_ratelimit` and `connection_limit`.
//!
//! Holds: settings whose bytes did not change are the very ones of the version before, with their counts.

use std::sync::Arc;

use remora_model::filter::{ConnectionLimit, ConnectionRateLimit, NetworkFilter, TokenBucket};

use super::local_rate_limit::{Known, fill};
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::RuntimeFeatureFlag;
use crate::pb::envoy::extensions::filters::network::connection_limit::v3 as connections;
use crate::pb::envoy::extensions::filters::network::local_ratelimit::v3 as rate;
use crate::{fingerprint, value};

pub(super) const RATE: &str = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit";
pub(super) const CONNECTIONS: &str = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit";

/// A token for each connection.
pub(super) fn rate_limit(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<NetworkFilter> {
    let said: rate::LocalRateLimit = extension.decode(work)?;
    work.review(&said);
    let fingerprint = fingerprint::of(extension.bytes().unwrap_or_default());
    let known = work.claim_limit(|known| match known {
        Known::Rate(limit) if limit.fingerprint == fingerprint => Some(Arc::clone(limit)),
        _ => None,
    });
    if let Some(known) = known {
        return Some(NetworkFilter::RateLimit(known));
    }
    let stat_prefix = value::required(work, "stat_prefix", &said.stat_prefix);
    let enabled = enabled(work, said.runtime_enabled.as_ref());
    let Some(bucket) = &said.token_bucket else {
        work.wrong_at("token_bucket", "expected a token bucket, found none");
        return None;
    };
    let fill = work.at("token_bucket", |work| fill(work, bucket, ""))?;
    let bucket = match said.share_key.as_str() {
        "" => Arc::new(TokenBucket::new(fill)),
        key => work.context.repeated.bucket(key, fill),
    };
    Some(NetworkFilter::RateLimit(Arc::new(ConnectionRateLimit {
        stat_prefix: stat_prefix?.into(),
        enabled,
        bucket,
        fingerprint,
    })))
}

/// So many connections at a time.
pub(super) fn connection_limit(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<NetworkFilter> {
    let said: connections::ConnectionLimit = extension.decode(work)?;
    work.review(&said);
    let fingerprint = fingerprint::of(extension.bytes().unwrap_or_default());
    let known = work.claim_limit(|known| match known {
        Known::Connections(limit) if limit.fingerprint == fingerprint => Some(Arc::clone(limit)),
        _ => None,
    });
    if let Some(known) = known {
        return Some(NetworkFilter::ConnectionLimit(known));
    }
    let stat_prefix = value::required(work, "stat_prefix", &said.stat_prefix);
    let enabled = enabled(work, said.runtime_enabled.as_ref());
    let max = said.max_connections.as_ref().map_or(0, |max| max.value);
    if max == 0 {
        work.wrong_at("max_connections", "expected at least 1, found none");
    }
    Some(NetworkFilter::ConnectionLimit(Arc::new(ConnectionLimit {
        stat_prefix: stat_prefix?.into(),
        enabled,
        max,
        delay: value::limit(work, "delay", said.delay.as_ref()),
        active: Arc::default(),
        fingerprint,
    })))
}

/// A flag by its default value; on where nothing is said.
fn enabled(work: &mut Work<'_, '_>, said: Option<&RuntimeFeatureFlag>) -> bool {
    let Some(said) = said else { return true };
    if said.default_value.is_none() {
        work.wrong_at("runtime_enabled.default_value", "expected a value, found none");
    }
    value::bool_or(said.default_value.as_ref(), true)
}
