//! `Http1ProtocolOptions` and `Http2ProtocolOptions`, which both directions share.

use remora_model::listener::{Http1Options, Http2Options};

use crate::context::Work;
use crate::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions};
use crate::value;

/// The largest window of HTTP/2 (RFC 9113 section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// HTTP/1 options; nothing said is Envoy's default.
pub(crate) fn http1(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&Http1ProtocolOptions>,
) -> Http1Options {
    let default = Http1Options {
        absolute_url: true,
        ..Http1Options::default()
    };
    let Some(said) = said else { return default };
    work.at(field, |work| {
        work.review(said);
        if said.send_fully_qualified_url {
            work.wrong_at(
                "send_fully_qualified_url",
                "is not supported: requests to a forward proxy",
            );
        }
        Http1Options {
            absolute_url: value::bool_or(said.allow_absolute_url.as_ref(), true),
            accept_http_10: said.accept_http_10,
            default_host_for_http_10: (!said.default_host_for_http_10.is_empty())
                .then(|| said.default_host_for_http_10.as_str().into()),
            trailers: said.enable_trailers,
        }
    })
}

/// HTTP/2 options; nothing said is Envoy's default.
pub(crate) fn http2(
    work: &mut Work<'_, '_>,
    field: &str,
    said: Option<&Http2ProtocolOptions>,
) -> Http2Options {
    let default = Http2Options::default();
    let Some(said) = said else { return default };
    work.at(field, |work| {
        work.review(said);
        let streams = said.max_concurrent_streams.as_ref();
        let (stream, connection) = (
            said.initial_stream_window_size.as_ref(),
            said.initial_connection_window_size.as_ref(),
        );
        let windows = 65_535..=LARGEST_WINDOW;
        let max_concurrent_streams = streams.map_or(default.max_concurrent_streams, |_| {
            Some(value::number_or(
                work,
                "max_concurrent_streams",
                streams,
                0,
                1..=LARGEST_WINDOW,
            ))
        });
        Http2Options {
            max_concurrent_streams,
            stream_window: value::number_or(
                work,
                "initial_stream_window_size",
                stream,
                default.stream_window,
                windows.clone(),
            ),
            connection_window: value::number_or(
                work,
                "initial_connection_window_size",
                connection,
                default.connection_window,
                windows,
            ),
            keepalive: keepalive(work, said),
        }
    })
}

fn keepalive(
    work: &mut Work<'_, '_>,
    said: &Http2ProtocolOptions,
) -> Option<(std::time::Duration, std::time::Duration)> {
    let said = said.connection_keepalive.as_ref()?;
    work.at("connection_keepalive", |work| {
        let timeout = value::limit(work, "timeout", said.timeout.as_ref());
        if timeout.is_none() {
            work.wrong_at("timeout", "expected a duration above 0, found none");
        }
        if said.connection_idle_interval.is_some() {
            work.ignored("KeepaliveSettings.connection_idle_interval");
        }
        Some((value::limit(work, "interval", said.interval.as_ref())?, timeout?))
    })
}
