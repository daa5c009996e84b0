//! `envoy.filters.http.compressor` and `decompressor`: is this body compressed, and how?
//!
//! Holds: a choice is a function of the headers and of the compressors in the chain; what the client asks for by
//! q-values wins, then `choose_first`, then what it names first.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::Name;
use crate::matching::StringMatcher;

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Its name in `content-encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// A coding with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `compression_level`, 0 to 9.
    Gzip(u32),
    /// `quality` and `window_bits`.
    Brotli(u32, u32),
    /// `compression_level` and `enable_checksum`.
    Zstd(i32, bool),
}

impl Library {
    /// What it makes.
    pub fn coding(self) -> Coding {
        match self {
            Self::Gzip(_) => Coding::Gzip,
            Self::Brotli(..) => Coding::Brotli,
            Self::Zstd(..) => Coding::Zstd,
        }
    }
}

/// Which bodies of one direction are compressed.
#[derive(Debug, Clone)]
pub struct Direction {
    /// `enabled`.
    pub enabled: bool,
    /// `min_content_length`, where the message says its length.
    pub min_length: u64,
    /// `content_type_matcher`, else `content_type`, else Envoy's list.
    pub types: ContentTypes,
    /// Where it is counted, after `http.<stat_prefix>.`.
    pub stat: Name,
}

/// Content types; a message without one is of any.
#[derive(Debug, Clone)]
pub enum ContentTypes {
    /// Envoy's list.
    Default,
    /// These, whatever their case.
    These(Vec<Box<str>>),
    /// What matches.
    Matching(Vec<StringMatcher>),
}

/// Content types that compress well, as Envoy has them.
const COMPRESSIBLE: [&str; 18] = [
    "text/html",
    "text/plain",
    "text/css",
    "application/javascript",
    "application/x-javascript",
    "text/javascript",
    "text/x-javascript",
    "text/ecmascript",
    "text/js",
    "text/jscript",
    "text/x-js",
    "application/ecmascript",
    "application/x-json",
    "application/xml",
    "application/json",
    "image/svg+xml",
    "text/xml",
    "application/xhtml+xml",
];

/// The compressor in a chain.
#[derive(Debug, Clone)]
pub struct Compressor {
    /// `compressor_library`.
    pub library: Library,
    /// `choose_first`.
    pub choose_first: bool,
    /// `request_direction_config`; off where it was not said.
    pub request: Direction,
    /// Where choices by `accept-encoding` and tags are counted, after `http.<stat_prefix>.`.
    pub stat: Name,
    /// `response_direction_config`, or the deprecated fields.
    pub response: Direction,
    /// `disable_on_etag_header`.
    pub disable_on_etag: bool,
    /// `weaken_etag_on_compress`.
    pub weaken_etag: bool,
    /// `remove_accept_encoding_header`.
    pub remove_accept_encoding: bool,
    /// `uncompressible_response_codes`.
    pub uncompressible: Vec<u16>,
    /// `status_header_enabled`.
    pub tells_status: bool,
}

/// What a route says to a compressor (`CompressorPerRoute`).
#[derive(Debug, Clone, Default)]
pub struct CompressorRoute {
    /// Responses are compressed, or not, whatever the chain says.
    pub enabled: Option<bool>,
    /// `remove_accept_encoding_header`.
    pub remove_accept_encoding: Option<bool>,
    /// `compressor_library`.
    pub library: Option<Library>,
}

/// A compressor as it holds for one request.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The compressor.
    pub compressor: Arc<Compressor>,
    /// Its library, or the route's.
    pub library: Library,
    /// Whether responses are compressed.
    pub enabled: bool,
    /// What the client accepts, as this filter saw it.
    pub accepts: Option<HeaderValue>,
}

/// Why a response is compressed, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// It is.
    Compressed,
    /// It is off, an upgrade, compressed already, or must not be changed.
    No,
    /// `min_content_length`.
    TooSmall,
    /// `content_type`.
    ContentType,
    /// `disable_on_etag_header`.
    Etag,
    /// `uncompressible_response_codes`.
    Status,
    /// There is no body, or the client does not accept it, or prefers another.
    NotAccepted,
}

/// What `accept-encoding` says of a compressor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// There is no such header.
    Missing,
    /// This one.
    Used,
    /// Another one.
    Overshadowed,
    /// Uncompressed.
    Identity,
    /// Any: the first of the chain; `true`: this one.
    Wildcard(bool),
    /// None that there is.
    NotValid,
}

impl Direction {
    fn allows_type(&self, headers: &HeaderMap) -> bool {
        let Some(said) = headers.get(CONTENT_TYPE) else {
            return true;
        };
        let said = said
            .as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        let said = said.trim_ascii();
        match &self.types {
            ContentTypes::Default => COMPRESSIBLE
                .iter()
                .any(|known| said.eq_ignore_ascii_case(known.as_bytes())),
            ContentTypes::These(these) => these
                .iter()
                .any(|known| said.eq_ignore_ascii_case(known.as_bytes())),
            ContentTypes::Matching(matchers) => matchers.iter().any(|matcher| matcher.matches(said)),
        }
    }

    fn is_long_enough(&self, headers: &HeaderMap) -> bool {
        let Some(length) = headers.get(CONTENT_LENGTH) else {
            return true;
        };
        let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        length.is_some_and(|length| length >= self.min_length)
    }
}

impl Compressor {
    /// Whether the body of a request is compressed on its way up. `Err`: it is too small.
    pub fn compresses_request(&self, headers: &HeaderMap) -> Compression {
        let request = &self.request;
        if !request.enabled {
            Compression::No
        } else if !request.is_long_enough(headers) {
            Compression::TooSmall
        } else if headers.contains_key(CONTENT_ENCODING) || !request.allows_type(headers) {
            Compression::No
        } else {
            Compression::Compressed
        }
    }
}

impl Offer {
    /// Whether the body of a response is compressed, and what is written into its head whether or not. `offers` are all
    /// compressors of the chain, this one too, in order; `ended`: there is no body.
    pub fn respond<'o>(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        ended: bool,
        offers: impl Iterator<Item = &'o Offer> + Clone,
    ) -> (Compression, Option<Accepted>) {
        if !self.enabled || status == StatusCode::SWITCHING_PROTOCOLS {
            return (Compression::No, None);
        }
        if !self.compressor.response.is_long_enough(headers) {
            self.tell(Compression::TooSmall, headers);
            return (Compression::TooSmall, None);
        }
        let could = self.could(status, headers);
        // Who tells what was in the way asks the client last.
        let asks = !self.compressor.tells_status || could == Compression::Compressed;
        let accepted = (!ended && asks).then(|| self.accepted(headers, offers));
        let verdict = match (accepted, could) {
            (Some(Accepted::Used | Accepted::Wildcard(true)), could) => could,
            (_, Compression::Compressed) => Compression::NotAccepted,
            (_, could) => could,
        };
        self.tell(verdict, headers);
        if verdict == Compression::Compressed {
            self.mark(headers);
        }
        // A cache is to know that others may get it compressed.
        if could == Compression::Compressed {
            vary(headers);
        }
        (verdict, accepted)
    }

    /// Whether the head allows it, whoever accepts it.
    fn could(&self, status: StatusCode, headers: &HeaderMap) -> Compression {
        let compressor = &*self.compressor;
        if !compressor.response.allows_type(headers) {
            Compression::ContentType
        } else if compressor.disable_on_etag && !compressor.weaken_etag && headers.contains_key(ETAG) {
            Compression::Etag
        } else if compressor.uncompressible.contains(&status.as_u16()) {
            Compression::Status
        } else if headers.contains_key(CONTENT_ENCODING) || no_transform(headers) {
            Compression::No
        } else {
            Compression::Compressed
        }
    }

    /// What the client says, of all compressors that take this content type.
    fn accepted<'o>(&self, headers: &HeaderMap, offers: impl Iterator<Item = &'o Offer> + Clone) -> Accepted {
        let Some(accepts) = &self.accepts else {
            return Accepted::Missing;
        };
        let accepts = accepts.to_str().unwrap_or_default();
        let usable = offers.filter(|offer| offer.compressor.response.allows_type(headers));
        let own = self.library.coding();
        match choose(accepts, usable) {
            Choice::Coding(coding) if coding == own => Accepted::Used,
            Choice::Coding(_) => Accepted::Overshadowed,
            Choice::Identity => Accepted::Identity,
            Choice::Any(coding) => Accepted::Wildcard(coding == Some(own)),
            Choice::NotValid => Accepted::NotValid,
        }
    }

    /// The head of a response that is compressed.
    fn mark(&self, headers: &mut HeaderMap) {
        let strong = headers.get(ETAG).filter(|etag| {
            let etag = etag.as_bytes();
            etag.len() > 2 && !matches!(etag, [b'w' | b'W', b'/', ..])
        });
        if let Some(etag) = strong {
            let weak = [b"W/", etag.as_bytes()].concat();
            match HeaderValue::from_bytes(&weak) {
                Ok(weak) if self.compressor.weaken_etag => headers.insert(ETAG, weak),
                _ => headers.remove(ETAG),
            };
        }
        headers.insert(
            CONTENT_ENCODING,
            HeaderValue::from_static(self.library.coding().token()),
        );
    }

    /// `x-envoy-compression-status`.
    fn tell(&self, verdict: Compression, headers: &mut HeaderMap) {
        if !self.compressor.tells_status {
            return;
        }
        let word = match verdict {
            Compression::Compressed => "Compressed",
            Compression::TooSmall => "ContentLengthTooSmall",
            Compression::ContentType => "ContentTypeNotAllowed",
            Compression::Etag => "EtagNotAllowed",
            Compression::Status => "StatusCodeNotAllowed",
            Compression::No | Compression::NotAccepted => return,
        };
        let mut text = format!("{};{word}", self.library.coding().token());
        if verdict == Compression::Compressed {
            let length = headers
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok());
            text.push_str(";OriginalLength=");
            text.push_str(length.unwrap_or_default());
        }
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.append("x-envoy-compression-status", text);
        }
    }
}

/// `cache-control: no-transform` (RFC 9111 section 5.2.2.6).
fn no_transform(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| {
        let mut words = value.as_bytes().split(|byte| *byte == b',');
        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    })
}

/// `Vary: Accept-Encoding`, once.
fn vary(headers: &mut HeaderMap) {
    let Some(said) = headers.get(VARY) else {
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        return;
    };
    let mut words = said.as_bytes().split(|byte| *byte == b',');
    if words.any(|word| word.trim_ascii() == b"Accept-Encoding") {
        return;
    }
    if let Ok(more) = HeaderValue::from_bytes(&[said.as_bytes(), b", Accept-Encoding"].concat()) {
        headers.insert(VARY, more);
    }
}

/// What `accept-encoding` asks of the compressors of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Coding(Coding),
    Identity,
    Any(Option<Coding>),
    NotValid,
}

fn choose<'o>(accepts: &str, offers: impl Iterator<Item = &'o Offer> + Clone) -> Choice {
    let refused =
        |coding: Coding| words(accepts).any(|(token, quality)| quality == 0.0 && token == coding.token());
    let offers = offers.filter(|offer| !refused(offer.library.coding()));
    let rank = |token: &str| {
        let mut all = offers.clone().enumerate();
        let (place, offer) = all.find(|(_, offer)| offer.library.coding().token() == token)?;
        // Of those that want to be first the last one is; of others the client's order holds.
        Some(if offer.compressor.choose_first {
            place + 1
        } else {
            0
        })
    };
    let mut best: (&str, f32) = ("identity", 0.0);
    for (token, quality) in words(accepts) {
        let known = rank(token);
        if known.is_none() && token != "identity" && token != "*" {
            continue;
        }
        let better = match (quality.partial_cmp(&best.1), known, rank(best.0)) {
            (Some(std::cmp::Ordering::Greater), ..) => true,
            (Some(std::cmp::Ordering::Equal), Some(this), Some(that)) => this > that,
            _ => false,
        };
        if better {
            best = (token, quality);
        }
    }
    let mut all = offers.clone().map(|offer| offer.library.coding());
    match best {
        (_, 0.0) => Choice::NotValid,
        // Whatever is left is not to be had.
        _ if offers.clone().next().is_none() => Choice::NotValid,
        ("identity", _) => Choice::Identity,
        ("*", _) => Choice::Any(all.next()),
        (token, _) => all
            .find(|coding| coding.token() == token)
            .map_or(Choice::NotValid, Choice::Coding),
    }
}

/// The words of `accept-encoding` with their q-values; one that cannot be read is left out.
fn words(accepts: &str) -> impl Iterator<Item = (&str, f32)> {
    accepts.split(',').filter_map(|word| {
        let Some((token, parameter)) = word.split_once(';') else {
            return Some((word.trim(), 1.0));
        };
        match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => {
                Some((token.trim(), value.trim().parse().ok()?))
            }
            _ => Some((token.trim(), 1.0)),
        }
    })
}

/// The decompressor in a chain.
#[derive(Debug, Clone)]
pub struct Decompressor {
    /// `decompressor_library`.
    pub coding: Coding,
    /// `max_inflate_ratio`: how many times longer than what it was made of a body may be.
    pub max_ratio: u64,
    /// `request_direction_config`.
    pub request: Expansion,
    /// `response_direction_config`.
    pub response: Expansion,
    /// `advertise_accept_encoding`.
    pub advertise: bool,
}

/// Which bodies of one direction are decompressed.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// `enabled`.
    pub enabled: bool,
    /// `ignore_no_transform_header`.
    pub ignore_no_transform: bool,
    /// Where it is counted, after `http.<stat_prefix>.`.
    pub stat: Name,
}

impl Decompressor {
    /// Whether a body is decompressed; its head does not name the coding any more then.
    pub fn applies(&self, direction: &Expansion, headers: &mut HeaderMap) -> bool {
        if !direction.enabled || (!direction.ignore_no_transform && no_transform(headers)) {
            return false;
        }
        let said = headers.get(CONTENT_ENCODING).and_then(|said| said.to_str().ok());
        let Some(said) = said else { return false };
        let (first, rest) = match said.split_once(',') {
            None => (said, None),
            Some((first, rest)) => (first, Some(rest.trim())),
        };
        if !first.trim().eq_ignore_ascii_case(self.coding.token()) {
            return false;
        }
        match rest.and_then(|rest| HeaderValue::from_str(rest).ok()) {
            Some(rest) => headers.insert(CONTENT_ENCODING, rest),
            None => headers.remove(CONTENT_ENCODING),
        };
        true
    }

    /// Adds the coding to what the upstream may send, without a q-value.
    pub fn advertise(&self, headers: &mut HeaderMap) {
        if !self.advertise || !self.response.enabled {
            return;
        }
        let own = self.coding.token();
        let said = headers.get(ACCEPT_ENCODING).and_then(|said| said.to_str().ok());
        let others = said.unwrap_or_default().split(',').map(str::trim).filter(|word| {
            let token = word.split(';').next().unwrap_or_default().trim();
            !token.is_empty() && token != own
        });
        let all: Vec<&str> = others.chain([own]).collect();
        if let Ok(all) = HeaderValue::try_from(all.join(",")) {
            headers.insert(ACCEPT_ENCODING, all);
        }
    }
}

#[cfg(test)]
mod tests;
