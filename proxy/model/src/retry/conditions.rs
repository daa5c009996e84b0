//! The words of `retry_on`: which ends of an attempt are reasons for another.

use http::{HeaderMap, StatusCode};

use crate::route::HeaderMatch;

/// A set of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions(u16);

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// With the head of a response.
    Answered(StatusCode, &'a HeaderMap),
    /// Without.
    Reset(Reset),
}

/// Why an attempt ended without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// No connection: refused, unreachable, TLS failed, or not in time.
    Connect,
    /// The endpoint refused the stream before it processed it.
    Refused,
    /// The connection or stream ended after the request had left.
    Remote,
    /// `per_try_timeout` or `per_try_idle_timeout`.
    PerTryTimeout,
    /// A limit of the cluster: never a reason.
    Overflow,
}

const WORDS: [(&str, Conditions); 15] = [
    ("5xx", Conditions::SERVER_ERROR),
    ("gateway-error", Conditions::GATEWAY_ERROR),
    ("reset", Conditions::RESET),
    ("reset-before-request", Conditions::RESET_BEFORE_REQUEST),
    ("connect-failure", Conditions::CONNECT_FAILURE),
    ("envoy-ratelimited", Conditions::RATE_LIMITED),
    ("retriable-4xx", Conditions::CONFLICT),
    ("refused-stream", Conditions::REFUSED_STREAM),
    ("retriable-status-codes", Conditions::STATUS_CODES),
    ("retriable-headers", Conditions::HEADERS),
    ("cancelled", Conditions::GRPC_CANCELLED),
    ("deadline-exceeded", Conditions::GRPC_DEADLINE),
    ("internal", Conditions::GRPC_INTERNAL),
    ("resource-exhausted", Conditions::GRPC_EXHAUSTED),
    ("unavailable", Conditions::GRPC_UNAVAILABLE),
];

impl Conditions {
    const SERVER_ERROR: Self = Self(1);
    const GATEWAY_ERROR: Self = Self(1 << 1);
    const RESET: Self = Self(1 << 2);
    const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    const CONNECT_FAILURE: Self = Self(1 << 4);
    const RATE_LIMITED: Self = Self(1 << 5);
    const CONFLICT: Self = Self(1 << 6);
    const REFUSED_STREAM: Self = Self(1 << 7);
    const STATUS_CODES: Self = Self(1 << 8);
    const HEADERS: Self = Self(1 << 9);
    const GRPC_CANCELLED: Self = Self(1 << 10);
    const GRPC_DEADLINE: Self = Self(1 << 11);
    const GRPC_INTERNAL: Self = Self(1 << 12);
    const GRPC_EXHAUSTED: Self = Self(1 << 13);
    const GRPC_UNAVAILABLE: Self = Self(1 << 14);

    /// The words of a list with commas; words that nobody knows are left out, as Envoy does, and given to `unknown`.
    pub fn parse<'t>(list: &'t str, mut unknown: impl FnMut(&'t str)) -> Self {
        let mut set = Self::default();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match WORDS.iter().find(|(known, _)| *known == word) {
                Some((_, condition)) => set = set.with(*condition),
                None => unknown(word),
            }
        }
        set
    }

    /// Both sets.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is no word.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Also wait-and-retry on the given status codes: `x-envoy-retriable-status-codes` of a request.
    pub fn with_status_codes(self) -> Self {
        self.with(Self::STATUS_CODES)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a word holds for this end.
    pub fn hold(self, ended: &Ended<'_>, codes: &[u16], headers: &[HeaderMatch]) -> bool {
        match ended {
            Ended::Answered(status, fields) => self.hold_for_answer(*status, fields, codes, headers),
            Ended::Reset(reset) => self.hold_for_reset(*reset),
        }
    }

    fn hold_for_answer(
        self,
        status: StatusCode,
        fields: &HeaderMap,
        codes: &[u16],
        headers: &[HeaderMatch],
    ) -> bool {
        // Whoever says that it is limited is not asked again, unless that is wanted by name.
        if fields.contains_key("x-envoy-ratelimited") {
            return self.has(Self::RATE_LIMITED);
        }
        let code = status.as_u16();
        (self.has(Self::SERVER_ERROR) && status.is_server_error())
            || (self.has(Self::GATEWAY_ERROR) && matches!(code, 502..=504))
            || (self.has(Self::CONFLICT) && code == 409)
            || (self.has(Self::STATUS_CODES) && codes.contains(&code))
            || (self.has(Self::HEADERS) && headers.iter().any(|header| matches_answer(header, code, fields)))
            || self.hold_for_grpc(fields)
    }

    /// `grpc-status` of an answer that is only a head.
    fn hold_for_grpc(self, fields: &HeaderMap) -> bool {
        let status = fields
            .get("grpc-status")
            .and_then(|status| status.to_str().ok()?.parse::<u16>().ok());
        let condition = match status {
            Some(1) => Self::GRPC_CANCELLED,
            Some(4) => Self::GRPC_DEADLINE,
            Some(8) => Self::GRPC_EXHAUSTED,
            Some(13) => Self::GRPC_INTERNAL,
            Some(14) => Self::GRPC_UNAVAILABLE,
            _ => return false,
        };
        self.has(condition)
    }

    fn hold_for_reset(self, reset: Reset) -> bool {
        let any = Self::SERVER_ERROR.with(Self::GATEWAY_ERROR).with(Self::RESET);
        match reset {
            Reset::Overflow => false,
            Reset::Connect => self.has(any.with(Self::CONNECT_FAILURE).with(Self::RESET_BEFORE_REQUEST)),
            Reset::Refused => self.has(any.with(Self::REFUSED_STREAM)),
            Reset::Remote | Reset::PerTryTimeout => self.has(any),
        }
    }
}

/// Whether a header of the response, or `:status`, is as a matcher wants it.
fn matches_answer(header: &HeaderMatch, status: u16, fields: &HeaderMap) -> bool {
    use crate::route::HeaderPredicateName as Name;
    match &header.name {
        Name::Header(name) => header.matches_header(name, fields),
        Name::Status => header.holds([status.to_string().as_bytes()]),
        Name::Method | Name::Path | Name::Authority | Name::Scheme => header.holds(None),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn on(words: &str) -> Conditions {
        Conditions::parse(words, |word| panic!("{word} is not known"))
    }

    fn answered(words: &str, status: u16, fields: &[(&'static str, &'static str)]) -> bool {
        let fields: HeaderMap = fields
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let ended = Ended::Answered(StatusCode::from_u16(status).unwrap(), &fields);
        on(words).hold(&ended, &[404], &[])
    }

    #[test]
    fn each_word_holds_for_its_answers() {
        let table = [
            ("5xx", vec![500, 502, 503, 504, 599]),
            ("gateway-error", vec![502, 503, 504]),
            ("retriable-4xx", vec![409]),
            ("retriable-status-codes", vec![404]),
            (
                "connect-failure,reset,refused-stream,reset-before-request",
                vec![],
            ),
        ];
        for (words, expected) in table {
            for status in [200, 404, 409, 499, 500, 502, 503, 504, 599] {
                assert_eq!(
                    answered(words, status, &[]),
                    expected.contains(&status),
                    "{words} {status}"
                );
            }
        }
        assert!(!answered("5xx", 503, &[("x-envoy-ratelimited", "true")]));
        assert!(answered(
            "envoy-ratelimited",
            429,
            &[("x-envoy-ratelimited", "true")]
        ));
    }

    #[test]
    fn each_grpc_word_holds_for_its_status() {
        let words = [
            "cancelled",
            "deadline-exceeded",
            "resource-exhausted",
            "internal",
            "unavailable",
        ];
        let codes = ["1", "4", "8", "13", "14"];
        for (at, word) in words.iter().enumerate() {
            for (other, code) in codes.iter().enumerate() {
                assert_eq!(
                    answered(word, 200, &[("grpc-status", code)]),
                    at == other,
                    "{word} {code}"
                );
            }
        }
    }

    #[test]
    fn each_word_holds_for_its_resets() {
        use Reset::{Connect, Overflow, PerTryTimeout, Refused, Remote};
        let table: [(&str, &[Reset]); 6] = [
            ("5xx", &[Connect, Refused, Remote, PerTryTimeout]),
            ("gateway-error", &[Connect, Refused, Remote, PerTryTimeout]),
            ("reset", &[Connect, Refused, Remote, PerTryTimeout]),
            ("connect-failure", &[Connect]),
            ("refused-stream", &[Refused]),
            ("reset-before-request", &[Connect]),
        ];
        for (words, expected) in table {
            for reset in [Connect, Refused, Remote, PerTryTimeout, Overflow] {
                let held = on(words).hold(&Ended::Reset(reset), &[], &[]);
                assert_eq!(held, expected.contains(&reset), "{words} {reset:?}");
            }
        }
    }

    #[test]
    fn words_that_nobody_knows_are_left_out() {
        let mut unknown = Vec::new();
        let set = Conditions::parse("5xx, 503 ,,reset", |word| unknown.push(word));
        assert_eq!((set, unknown), (on("reset,5xx"), vec!["503"]));
        assert!(on("").is_empty());
    }
}
