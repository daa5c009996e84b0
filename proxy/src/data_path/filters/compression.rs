//! Puts compressors and decompressors in the way of bodies (`envoy.filters.http.compressor`, `decompressor`).

use std::sync::Arc;

use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use remora_model::filter::{
    Accepted, Compression, Compressor, CompressorRoute, Decompressor, Offer, RouteFilter,
};

use super::OnResponse;
use crate::data_path::body::codec::{Compress, Decompress};
use crate::data_path::body::{Stages, of_unknown_length};
use crate::data_path::request::Exchange;
use crate::exchange::{BodyLength, Downstream, RequestHead, ResponseHead};
use crate::observe::CodecCells;

/// A compressor that may compress the response.
#[derive(Debug)]
pub struct Offered {
    /// What it offers.
    pub offer: Offer,
    cells: Arc<CodecCells>,
    /// Where the client's choice is counted.
    choices: Arc<CodecCells>,
}

/// A decompressor that the response passes.
#[derive(Debug)]
pub struct Undoing {
    decompressor: Arc<Decompressor>,
    cells: Arc<CodecCells>,
}

impl<D: Downstream> Exchange<'_, D> {
    /// A compressor at a request.
    pub(super) fn offer(
        &mut self,
        own: &Arc<Compressor>,
        said: Option<&RouteFilter>,
        head: &mut RequestHead,
    ) {
        let none = CompressorRoute::default();
        let route = match said {
            Some(RouteFilter::Compressor(route)) => route,
            _ => &none,
        };
        let offer = Offer {
            compressor: Arc::clone(own),
            library: route.library.unwrap_or(own.library),
            enabled: route.enabled.unwrap_or(own.response.enabled),
            accepts: head.headers.get(ACCEPT_ENCODING).cloned(),
        };
        let removes = route.remove_accept_encoding.unwrap_or(own.remove_accept_encoding);
        if offer.enabled && removes {
            head.headers.remove(ACCEPT_ENCODING);
        }
        let counters = &self.context.worker.counters;
        let stat = &self.manager.stat_prefix;
        let cells = counters.codec(stat, &own.request.stat);
        let verdict = own.compresses_request(&head.headers);
        if verdict == Compression::TooSmall {
            cells.codec.content_length_too_small.one();
        }
        let plain = head.body != BodyLength::None && head.upgrade.is_none();
        if verdict == Compression::Compressed && plain {
            cells.codec.compressed.one();
            let token = offer.library.coding().token();
            head.headers
                .insert(CONTENT_ENCODING, HeaderValue::from_static(token));
            of_unknown_length(&mut head.body, &mut head.headers);
            let stage = Compress::new(offer.library, cells);
            self.request_stages.get_or_insert_default().push(Box::new(stage));
        } else {
            cells.codec.not_compressed.one();
        }
        let choices = counters.codec(stat, &own.stat);
        let cells = counters.codec(stat, &own.response.stat);
        self.on_response.push(OnResponse::Compress(Box::new(Offered {
            offer,
            cells,
            choices,
        })));
    }

    /// A decompressor at a request.
    pub(super) fn undo(&mut self, decompressor: &Arc<Decompressor>, head: &mut RequestHead) {
        decompressor.advertise(&mut head.headers);
        let counters = &self.context.worker.counters;
        let stat = &self.manager.stat_prefix;
        if head.body != BodyLength::None && head.upgrade.is_none() {
            let cells = counters.codec(stat, &decompressor.request.stat);
            if decompressor.applies(&decompressor.request, &mut head.headers) {
                cells.codec.decompressed.one();
                of_unknown_length(&mut head.body, &mut head.headers);
                let stage = Decompress::new(decompressor.coding, decompressor.max_ratio, cells);
                self.request_stages.get_or_insert_default().push(Box::new(stage));
            } else {
                cells.codec.not_decompressed.one();
            }
        }
        let cells = counters.codec(stat, &decompressor.response.stat);
        let decompressor = Arc::clone(decompressor);
        self.on_response
            .push(OnResponse::Decompress(Box::new(Undoing { decompressor, cells })));
    }
}

/// A compressor at a response. `own`: the response is ours.
pub(super) fn compress(
    offered: &Offered,
    filters: &[OnResponse],
    head: &mut ResponseHead,
    own: bool,
    stages: &mut Option<Box<Stages>>,
) {
    let ended = head.body == BodyLength::None;
    // The length of an empty answer of our own is written by the codec, as far as filters know.
    let empty = head.headers.get(CONTENT_LENGTH).filter(|_| own && ended).cloned();
    if empty.is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
    let offers = filters.iter().filter_map(|filter| match filter {
        OnResponse::Compress(offered) => Some(&offered.offer),
        _ => None,
    });
    let (verdict, accepted) = offered
        .offer
        .respond(head.status, &mut head.headers, ended, offers);
    if let Some(empty) = empty {
        head.headers.insert(CONTENT_LENGTH, empty);
    }
    let choices = &offered.choices.codec;
    match accepted {
        None => {}
        Some(Accepted::Missing) => choices.no_accept_header.one(),
        Some(Accepted::Used) => choices.header_compressor_used.one(),
        Some(Accepted::Overshadowed) => choices.header_compressor_overshadowed.one(),
        Some(Accepted::Identity) => choices.header_identity.one(),
        Some(Accepted::Wildcard(_)) => choices.header_wildcard.one(),
        Some(Accepted::NotValid) => choices.header_not_valid.one(),
    }
    let codec = &offered.cells.codec;
    match verdict {
        Compression::TooSmall => codec.content_length_too_small.one(),
        Compression::Etag => choices.not_compressed_etag.one(),
        _ => {}
    }
    if verdict != Compression::Compressed {
        codec.not_compressed.one();
        return;
    }
    codec.compressed.one();
    of_unknown_length(&mut head.body, &mut head.headers);
    let stage = Compress::new(offered.offer.library, Arc::clone(&offered.cells));
    stages.get_or_insert_default().push(Box::new(stage));
}

/// A decompressor at a response.
pub(super) fn undo(undoing: &Undoing, head: &mut ResponseHead, stages: &mut Option<Box<Stages>>) {
    if head.body == BodyLength::None {
        return;
    }
    let Undoing { decompressor, cells } = undoing;
    if !decompressor.applies(&decompressor.response, &mut head.headers) {
        cells.codec.not_decompressed.one();
        return;
    }
    cells.codec.decompressed.one();
    of_unknown_length(&mut head.body, &mut head.headers);
    let stage = Decompress::new(decompressor.coding, decompressor.max_ratio, Arc::clone(cells));
    stages.get_or_insert_default().push(Box::new(stage));
}
