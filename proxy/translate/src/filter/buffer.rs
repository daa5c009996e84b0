//! `envoy.filters.http.buffer`, in a chain and at a route.

use remora_model::filter::{BufferFilter, RouteFilter};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::extensions::filters::http::buffer::v3::{
    Buffer, BufferPerRoute, buffer_per_route::Override,
};

pub(super) const KIND: &str = "envoy.extensions.filters.http.buffer.v3.Buffer";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute";

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<BufferFilter> {
    let said: Buffer = extension.decode(work)?;
    buffer(work, &said)
}

pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    let said: BufferPerRoute = extension.decode(work)?;
    match &said.r#override {
        Some(Override::Disabled(true)) => Some(RouteFilter::Disabled),
        Some(Override::Disabled(false)) => {
            work.wrong_at("disabled", "expected true, found false");
            None
        }
        Some(Override::Buffer(said)) => work.at("buffer", |work| buffer(work, said).map(RouteFilter::Buffer)),
        None => {
            work.wrong("expected one of disabled, buffer; found none");
            None
        }
    }
}

fn buffer(work: &mut Work<'_, '_>, said: &Buffer) -> Option<BufferFilter> {
    let limit = said.max_request_bytes.as_ref().map_or(0, |limit| limit.value);
    if limit == 0 {
        work.wrong_at("max_request_bytes", "expected a number above 0, found 0");
        return None;
    }
    Some(BufferFilter {
        max_request_bytes: limit,
    })
}
