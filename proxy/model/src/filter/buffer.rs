//! `envoy.filters.http.buffer`: a request goes on when it is here as a whole.

/// The filter in a chain, or what a route says in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferFilter {
    /// `max_request_bytes`: a longer body is answered 413.
    pub max_request_bytes: u32,
}
