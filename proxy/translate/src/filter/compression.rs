//! `envoy.filters.http.compressor` and `decompressor`, with their libraries.

use std::sync::Arc;

use remora_model::Name;
use remora_model::filter::{
    Coding, Compressor, CompressorRoute, ContentTypes, Decompressor, Direction, Expansion, Library,
    RouteFilter,
};

use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::matcher;
use crate::pb::envoy::config::core::v3::{RuntimeFeatureFlag, TypedExtensionConfig};
use crate::pb::envoy::extensions::compression::{brotli, gzip, zstd};
use crate::pb::envoy::extensions::filters::http::compressor::v3 as api;
use crate::pb::envoy::extensions::filters::http::decompressor::v3 as undo;
use crate::pb::google::protobuf::UInt32Value;
use crate::value;

pub(super) const COMPRESSOR: &str = "envoy.extensions.filters.http.compressor.v3.Compressor";
pub(super) const PER_ROUTE: &str = "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute";
pub(super) const DECOMPRESSOR: &str = "envoy.extensions.filters.http.decompressor.v3.Decompressor";

const SHORTEST: u64 = 30;

pub(super) fn compressor(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<Compressor>> {
    let said: api::Compressor = extension.decode(work)?;
    work.review(&said);
    let library = work.at("compressor_library", |work| {
        library(work, said.compressor_library.as_ref())
    })?;
    let name = said
        .compressor_library
        .as_ref()
        .map_or("", |library| &library.name);
    let stat = format!("compressor.{name}.{}", word(library.coding()));
    let asked = said.request_direction_config.as_ref();
    let common = asked.and_then(|said| said.common_config.as_ref());
    let mut request = work.at("request_direction_config.common_config", |work| {
        direction(work, common, format!("{stat}.request").into())
    });
    request.enabled &= asked.is_some();
    let mut compressor = Compressor {
        library,
        choose_first: said.choose_first,
        request,
        stat: stat.as_str().into(),
        response: Direction {
            enabled: enabled(said.runtime_enabled.as_ref()),
            min_length: length(said.content_length.as_ref()),
            types: types(&said.content_type),
            stat: stat.as_str().into(),
        },
        disable_on_etag: said.disable_on_etag_header,
        weaken_etag: false,
        remove_accept_encoding: said.remove_accept_encoding_header,
        uncompressible: Vec::new(),
        tells_status: false,
    };
    if let Some(said) = &said.response_direction_config {
        work.at("response_direction_config", |work| {
            let common = said.common_config.as_ref();
            let stat = format!("{stat}.response").into();
            compressor.response = work.at("common_config", |work| direction(work, common, stat));
            compressor.disable_on_etag = said.disable_on_etag_header;
            compressor.weaken_etag = said.weaken_etag_on_compress;
            compressor.remove_accept_encoding = said.remove_accept_encoding_header;
            compressor.tells_status = said.status_header_enabled;
            let codes = &said.uncompressible_response_codes;
            compressor.uncompressible = work.each("uncompressible_response_codes", codes, |work, code| {
                let known = u16::try_from(*code).ok().filter(|code| (200..600).contains(code));
                if known.is_none() {
                    work.wrong(format!("expected 200 to 599, found {code}"));
                }
                known
            });
        });
    }
    Some(Arc::new(compressor))
}

pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    let said: api::CompressorPerRoute = extension.decode(work)?;
    use api::compressor_per_route::Override;
    let mut route = CompressorRoute::default();
    match &said.r#override {
        Some(Override::Disabled(true)) => route.enabled = Some(false),
        Some(Override::Disabled(false)) => {
            work.wrong_at("disabled", "expected true, found false");
            return None;
        }
        Some(Override::Overrides(said)) => {
            if let Some(response) = &said.response_direction_config {
                route.enabled = Some(true);
                let remove = response.remove_accept_encoding_header.as_ref();
                route.remove_accept_encoding = remove.map(|said| said.value);
            }
            if said.compressor_library.is_some() {
                let own = said.compressor_library.as_ref();
                let own = work.at("overrides.compressor_library", |work| library(work, own))?;
                route.library = Some(own);
            }
        }
        None => {
            work.wrong("expected one of disabled, overrides; found none");
            return None;
        }
    }
    Some(RouteFilter::Compressor(Arc::new(route)))
}

pub(super) fn decompressor(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<Decompressor>> {
    let said: undo::Decompressor = extension.decode(work)?;
    let (coding, max_ratio) = work.at("decompressor_library", |work| {
        undo_library(work, said.decompressor_library.as_ref())
    })?;
    let name = said
        .decompressor_library
        .as_ref()
        .map_or("", |library| &library.name);
    let stat = |side: &str| -> Name { format!("decompressor.{name}.{}.{side}", word(coding)).into() };
    let expansion = |said: Option<&undo::decompressor::CommonDirectionConfig>, stat| Expansion {
        enabled: said.is_none_or(|said| enabled(said.enabled.as_ref())),
        ignore_no_transform: said.is_some_and(|said| said.ignore_no_transform_header),
        stat,
    };
    let request = said.request_direction_config.as_ref();
    let response = said.response_direction_config.as_ref();
    Some(Arc::new(Decompressor {
        coding,
        max_ratio,
        advertise: value::bool_or(
            request.and_then(|said| said.advertise_accept_encoding.as_ref()),
            true,
        ),
        request: expansion(
            request.and_then(|said| said.common_config.as_ref()),
            stat("request"),
        ),
        response: expansion(
            response.and_then(|said| said.common_config.as_ref()),
            stat("response"),
        ),
    }))
}

fn direction(
    work: &mut Work<'_, '_>,
    said: Option<&api::compressor::CommonDirectionConfig>,
    stat: Name,
) -> Direction {
    let Some(said) = said else {
        return Direction {
            enabled: true,
            min_length: SHORTEST,
            types: ContentTypes::Default,
            stat,
        };
    };
    let matchers = work.each(
        "content_type_matcher",
        &said.content_type_matcher,
        matcher::string,
    );
    Direction {
        enabled: enabled(said.enabled.as_ref()),
        min_length: length(said.min_content_length.as_ref()),
        types: if matchers.is_empty() {
            types(&said.content_type)
        } else {
            ContentTypes::Matching(matchers)
        },
        stat,
    }
}

/// A runtime flag by its default; not said is on.
fn enabled(said: Option<&RuntimeFeatureFlag>) -> bool {
    said.is_none_or(|said| value::bool_or(said.default_value.as_ref(), true))
}

fn length(said: Option<&UInt32Value>) -> u64 {
    said.map_or(SHORTEST, |said| u64::from(said.value))
}

fn types(said: &[String]) -> ContentTypes {
    if said.is_empty() {
        ContentTypes::Default
    } else {
        ContentTypes::These(said.iter().map(|kind| kind.as_str().into()).collect())
    }
}

/// Envoy's word for a coding in the names of metrics.
fn word(coding: Coding) -> &'static str {
    match coding {
        Coding::Gzip => "gzip",
        Coding::Brotli => "brotli",
        Coding::Zstd => "zstd",
    }
}

fn library(work: &mut Work<'_, '_>, said: Option<&TypedExtensionConfig>) -> Option<Library> {
    let Some((name, any)) = said.and_then(|said| Some((&said.name, said.typed_config.as_ref()?))) else {
        work.wrong("expected a library with its configuration, found none");
        return None;
    };
    let extension = Extension::open(any);
    work.at("typed_config", |work| match extension.kind.as_str() {
        "envoy.extensions.compression.gzip.compressor.v3.Gzip" => {
            let said: gzip::compressor::v3::Gzip = extension.decode(work)?;
            work.review(&said);
            use gzip::compressor::v3::gzip::CompressionLevel as Level;
            // Of the enumeration's values the levels stand for themselves.
            let level = match value::known::<Level>(work, "compression_level", said.compression_level)? {
                Level::DefaultCompression => 6,
                level => level as u32,
            };
            Some(Library::Gzip(level))
        }
        "envoy.extensions.compression.brotli.compressor.v3.Brotli" => {
            let said: brotli::compressor::v3::Brotli = extension.decode(work)?;
            work.review(&said);
            let quality = value::number_or(work, "quality", said.quality.as_ref(), 3, 0..=11);
            let window = value::number_or(work, "window_bits", said.window_bits.as_ref(), 18, 10..=24);
            Some(Library::Brotli(quality, window))
        }
        "envoy.extensions.compression.zstd.compressor.v3.Zstd" => {
            let said: zstd::compressor::v3::Zstd = extension.decode(work)?;
            work.review(&said);
            let level = value::number_or(
                work,
                "compression_level",
                said.compression_level.as_ref(),
                3,
                0..=22,
            );
            let level = if level == 0 { 3 } else { level };
            Some(Library::Zstd(
                i32::try_from(level).unwrap_or(3),
                said.enable_checksum,
            ))
        }
        kind => {
            work.wrong(unknown(name, kind));
            None
        }
    })
}

/// How many times longer than what it was made of a body may be, unless the library says so.
const MAX_RATIO: u64 = 100;

fn undo_library(work: &mut Work<'_, '_>, said: Option<&TypedExtensionConfig>) -> Option<(Coding, u64)> {
    let Some((name, any)) = said.and_then(|said| Some((&said.name, said.typed_config.as_ref()?))) else {
        work.wrong("expected a library with its configuration, found none");
        return None;
    };
    let extension = Extension::open(any);
    work.at("typed_config", |work| match extension.kind.as_str() {
        "envoy.extensions.compression.gzip.decompressor.v3.Gzip" => {
            let said: gzip::decompressor::v3::Gzip = extension.decode(work)?;
            work.review(&said);
            let ratio = value::number_or(
                work,
                "max_inflate_ratio",
                said.max_inflate_ratio.as_ref(),
                100,
                1..=1032,
            );
            Some((Coding::Gzip, u64::from(ratio)))
        }
        "envoy.extensions.compression.brotli.decompressor.v3.Brotli" => {
            let said: brotli::decompressor::v3::Brotli = extension.decode(work)?;
            work.review(&said);
            Some((Coding::Brotli, MAX_RATIO))
        }
        "envoy.extensions.compression.zstd.decompressor.v3.Zstd" => {
            let said: zstd::decompressor::v3::Zstd = extension.decode(work)?;
            work.review(&said);
            Some((Coding::Zstd, MAX_RATIO))
        }
        kind => {
            work.wrong(unknown(name, kind));
            None
        }
    })
}
