//! How is a request to be answered?

use std::time::Duration;

/// How an upstream answers, set for all requests or, as a comma-separated list in the request header `x-behave`, for
/// one. The words of that list stand at the fields.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// `status=418`; 200 when absent.
    pub status: Option<u16>,
    /// `delay=MS`: wait before the head.
    pub delay: Option<Duration>,
    /// `stall=MS`: wait between the head with the first half of the body, and the rest.
    pub stall: Option<Duration>,
    /// `body=N`: so many octets instead of the report.
    pub body: Option<usize>,
    /// `echo`: the request's body instead of the report; over HTTP/2 piece by piece as it comes.
    pub echo: bool,
    /// `chunked`: without `content-length`, in chunks.
    pub chunked: bool,
    /// `until-close`: without any framing; the connection is closed at the end.
    pub until_close: bool,
    /// `trailer`: a trailer `x-trailer: yes` (makes HTTP/1 chunked).
    pub trailer: bool,
    /// A report of its load (`endpoint-load-metrics`) beside that trailer.
    pub load_in_trailer: Option<&'static str>,
    /// `grpc`: `content-type: application/grpc` and the trailer `grpc-status: 0`.
    pub grpc: bool,
    /// `hints`: an informational 103 first.
    pub hints: bool,
    /// `hop`: hop-by-hop header fields in the answer.
    pub hop: bool,
    /// `header=NAME:VALUE`, any number of times.
    pub headers: Vec<(String, String)>,
    /// `close`: say `connection: close` and do it (HTTP/1 only).
    pub close: bool,
    /// `drop`: close without an answer, over HTTP/2 reset the stream.
    pub drop: bool,
    /// `cut`: close, or reset, after half of the body.
    pub cut: bool,
    /// `no-continue`: never send `100 Continue`.
    pub no_continue: bool,
    /// Close the connection without a word after so many answers (HTTP/1 only).
    pub close_after: Option<u32>,
}

impl Behaviour {
    /// This behaviour with the words of a request's `x-behave` added. With `first=N` among them they hold for the first
    /// N attempts only, by `x-envoy-attempt-count`.
    pub(super) fn with(&self, words: Option<&str>, attempt: Option<&str>) -> Self {
        let mut behaviour = self.clone();
        let attempt: u32 = attempt.and_then(|attempt| attempt.parse().ok()).unwrap_or(1);
        let first = words
            .unwrap_or("")
            .split(',')
            .find_map(|word| word.trim().strip_prefix("first="));
        if first
            .and_then(|first| first.parse().ok())
            .is_some_and(|first: u32| attempt > first)
        {
            return behaviour;
        }
        for word in words
            .unwrap_or("")
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            behaviour.apply(name, value);
        }
        behaviour
    }

    fn apply(&mut self, name: &str, value: &str) {
        let milliseconds = || value.parse().ok().map(Duration::from_millis);
        match name {
            "status" => self.status = value.parse().ok(),
            "delay" => self.delay = milliseconds(),
            "stall" => self.stall = milliseconds(),
            "body" => self.body = value.parse().ok(),
            "echo" => self.echo = true,
            "chunked" => self.chunked = true,
            "until-close" => self.until_close = true,
            "trailer" => self.trailer = true,
            "grpc" => self.grpc = true,
            "hints" => self.hints = true,
            "hop" => self.hop = true,
            "header" => {
                if let Some((name, value)) = value.split_once(':') {
                    self.headers.push((name.to_owned(), value.to_owned()));
                }
            }
            "close" => self.close = true,
            "drop" => self.drop = true,
            "cut" => self.cut = true,
            "first" => {}
            "no-continue" => self.no_continue = true,
            // A misspelt word must not pass as the default behaviour.
            other => self
                .headers
                .push(("x-unknown-behaviour".to_owned(), other.to_owned())),
        }
    }
}
