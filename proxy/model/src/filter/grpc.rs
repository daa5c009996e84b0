//! `envoy.filters.http.grpc_stats` and `envoy.filters.http.grpc_web`: which calls are gRPC, which method do they call, how
//! many messages go by, and what does a browser get instead of trailers?
//!
//! Holds: everything is a function over bytes and headers; nothing is kept of a message but how much of it is to come.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};

/// Which series a call is counted into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrpcStats {
    /// `stats_for_all_methods`.
    pub all_methods: bool,
    /// `individual_method_stats_allowlist`: full paths, `/package.Service/Method`.
    pub methods: Vec<Box<str>>,
    /// `replace_dots_in_grpc_service_name`; of `all_methods` only, as in Envoy.
    pub replace_dots: bool,
    /// `enable_upstream_stats`: how long the upstream took.
    pub upstream_stats: bool,
}

impl GrpcStats {
    /// Service and method that a call to `path` is counted under; the empty texts where it is counted without. `None`: it
    /// is not counted, because the path names no method.
    pub fn series<'p>(&self, path: &'p str) -> Option<(Cow<'p, str>, &'p str)> {
        let (service, method) = service_and_method(path)?;
        if !self.all_methods && !self.methods.iter().any(|known| **known == *path) {
            return Some((Cow::Borrowed(""), ""));
        }
        let service = if self.replace_dots && self.all_methods {
            Cow::Owned(service.replace('.', "_"))
        } else {
            Cow::Borrowed(service)
        };
        Some((service, method))
    }
}

/// `/package.Service/Method`, without a query.
fn service_and_method(path: &str) -> Option<(&str, &str)> {
    let path = path.split('?').next()?;
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some((service, method))
}

/// Counts the length-prefixed messages of a body (gRPC over HTTP/2, "Length-Prefixed-Message").
#[derive(Debug, Default)]
pub struct GrpcMessages {
    /// How much of the five bytes of a prefix there is.
    prefix: u8,
    /// What they say so far.
    length: u32,
    /// What is to come of the message.
    rest: u32,
}

impl GrpcMessages {
    /// How many messages begin in these bytes.
    pub fn count(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while !bytes.is_empty() {
            begun += u64::from(self.prefix == 0);
            let (part, _) = self.part(bytes);
            bytes = &bytes[part..];
        }
        begun
    }

    /// How many of these bytes belong to the message that is under way or begins, and whether it ends there.
    pub fn part(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut part = 0;
        while self.prefix < 5 {
            let Some(byte) = bytes.get(part) else {
                return (part, false);
            };
            // The first of the five is the flags.
            self.length = if self.prefix == 0 {
                0
            } else {
                self.length << 8 | u32::from(*byte)
            };
            self.prefix += 1;
            part += 1;
            self.rest = self.length;
        }
        let more = (bytes.len() - part).min(self.rest as usize);
        self.rest -= more as u32;
        if self.rest == 0 {
            self.prefix = 0;
        }
        (part + more, self.rest == 0)
    }
}

/// What a browser asks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcWeb {
    /// The request's body is base64.
    pub request_text: bool,
    /// So is to be the response's.
    pub response_text: bool,
}

/// Content types of gRPC-Web (PROTOCOL-WEB, "HTTP/1 request and response"), without and with base64.
const WEB: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

impl GrpcWeb {
    /// Whether these are the headers of a gRPC-Web call, and of which kind.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = |name| {
            let value = headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())?;
            WEB.iter().position(|known| value == *known)
        };
        let request = kind(http::header::CONTENT_TYPE)?;
        Some(Self {
            request_text: request >= 2,
            response_text: kind(http::header::ACCEPT).is_some_and(|kind| kind >= 2),
        })
    }

    /// The response's content type.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(WEB[if self.response_text { 3 } else { 1 }])
    }
}

/// Trailers as the last frame of a gRPC-Web body (PROTOCOL-WEB, "Trailers").
pub fn trailers_frame(trailers: &HeaderMap) -> Bytes {
    let mut text = BytesMut::new();
    for (name, value) in trailers {
        text.put_slice(name.as_str().as_bytes());
        text.put_u8(b':');
        text.put_slice(value.as_bytes());
        text.put_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(text.len() + 5);
    frame.put_u8(0x80);
    frame.put_u32(text.len() as u32);
    frame.put_slice(&text);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_under_its_method_where_it_is_asked_for() {
        let mut stats = GrpcStats::default();
        let (path, dotted) = ("/a.b.Greeter/Hello", Cow::Borrowed("a.b.Greeter"));
        assert_eq!(stats.series(path), Some((Cow::Borrowed(""), "")));
        assert_eq!(stats.series("/not-grpc"), None);
        assert_eq!(stats.series("/a/b/c"), None);
        stats.methods = vec![path.into()];
        assert_eq!(stats.series(path), Some((dotted.clone(), "Hello")));
        assert_eq!(stats.series("/a.b.Greeter/Bye"), Some((Cow::Borrowed(""), "")));
        stats.all_methods = true;
        assert_eq!(stats.series("/a.b.Greeter/Bye?x=1"), Some((dotted, "Bye")));
        stats.replace_dots = true;
        assert_eq!(stats.series(path), Some((Cow::Borrowed("a_b_Greeter"), "Hello")));
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0_u32, 3, 300] {
            body.push(0);
            body.extend(length.to_be_bytes());
            body.extend(vec![0; length as usize]);
        }
        for size in [1, 2, 7, body.len()] {
            let mut messages = GrpcMessages::default();
            let counted: u64 = body.chunks(size).map(|piece| messages.count(piece)).sum();
            assert_eq!(counted, 3, "in pieces of {size}");
        }
    }

    #[test]
    fn a_browser_is_known_by_its_content_type() {
        let of = |content: &'static str, accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static(content));
            headers.insert("accept", HeaderValue::from_static(accept));
            GrpcWeb::of(&headers)
        };
        assert_eq!(of("application/grpc", "application/grpc-web"), None);
        let binary = of("application/grpc-web+proto", "*/*").unwrap();
        assert_eq!(
            (binary.request_text, binary.content_type()),
            (false, HeaderValue::from_static("application/grpc-web+proto"))
        );
        let text = of("application/grpc-web-text", "application/grpc-web-text").unwrap();
        assert_eq!(
            (text.request_text, text.content_type()),
            (true, HeaderValue::from_static("application/grpc-web-text+proto"))
        );
    }

    #[test]
    fn trailers_are_a_frame_with_its_own_flag() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(&trailers_frame(&trailers)[..], b"\x80\0\0\0\x0fgrpc-status:0\r\n");
    }
}
