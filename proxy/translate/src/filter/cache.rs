//! `envoy.filters.http.cache`, in a chain and at a route.

use std::sync::Arc;

use remora_model::filter::CacheFilter;

use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::matcher;
use crate::pb::envoy::extensions::filters::http::cache::v3::CacheConfig;
use crate::value;

pub(super) const KIND: &str = "envoy.extensions.filters.http.cache.v3.CacheConfig";
const SIMPLE: &str = "envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig";

/// The longest body that is kept unless the filter says otherwise, bytes.
const LONGEST: u64 = 1 << 20;

/// What is said; `Ok(None)`: the filter is off.
pub(super) fn translate(
    work: &mut Work<'_, '_>,
    extension: &Extension<'_>,
) -> Option<Option<Arc<CacheFilter>>> {
    let said: CacheConfig = extension.decode(work)?;
    work.review(&said);
    if value::bool_or(said.disabled.as_ref(), false) {
        return Some(None);
    }
    let Some(store) = &said.typed_config else {
        work.wrong_at("typed_config", "expected a cache, found none");
        return None;
    };
    let store = Extension::open(store);
    if store.kind != SIMPLE {
        work.wrong_at("typed_config", unknown("cache", &store.kind));
        return None;
    }
    let params = said.key_creator_params.as_ref();
    if params.is_some_and(|said| {
        !said.query_parameters_included.is_empty() || !said.query_parameters_excluded.is_empty()
    }) {
        work.wrong_at(
            "key_creator_params",
            "is not supported: keys by some query parameters",
        );
    }
    let longest = u64::from(said.max_body_bytes);
    Some(Some(Arc::new(CacheFilter {
        vary: work.each(
            "allowed_vary_headers",
            &said.allowed_vary_headers,
            matcher::string,
        ),
        max_body: if longest == 0 { LONGEST } else { longest },
        ignore_request: said.ignore_request_cache_control_header,
        exclude: params.map_or((false, false), |said| (said.exclude_scheme, said.exclude_host)),
    })))
}
