//! What few HTTP connection managers say: how replies of our own look, what we say of ourselves.

use bytes::Bytes;
use http::StatusCode;
use http::uri::Scheme;

use super::ProxyStatus;
use crate::log::{BodyFormat, LogFilter};
use crate::route::HeaderMutations;

/// Rare settings of an HTTP connection manager.
#[derive(Debug, Default)]
pub struct RareManager {
    /// `local_reply_config`.
    pub local_replies: Option<LocalReplies>,
    /// `append_x_forwarded_port`.
    pub append_x_forwarded_port: bool,
    /// `add_user_agent`.
    pub add_user_agent: bool,
    /// `scheme_header_transformation.scheme_to_overwrite`.
    pub scheme: Option<Scheme>,
    /// `proxy_status_config`.
    pub proxy_status: Option<ProxyStatus>,
    /// `suppress_envoy_headers` of the router: it says nothing of itself in `x-envoy-*` headers.
    pub suppress_envoy_headers: bool,
}

impl RareManager {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.local_replies.is_none()
            && !self.append_x_forwarded_port
            && !self.add_user_agent
            && self.scheme.is_none()
            && self.proxy_status.is_none()
            && !self.suppress_envoy_headers
    }
}

/// `LocalReplyConfig`: how replies that the proxy makes itself look.
#[derive(Debug, Default)]
pub struct LocalReplies {
    /// The first whose filter accepts a reply changes it.
    pub mappers: Vec<ReplyMapper>,
    /// `body_format`: of replies whose mapper has no format of its own.
    pub format: Option<BodyFormat>,
}

/// `ResponseMapper`.
#[derive(Debug)]
pub struct ReplyMapper {
    /// Which replies.
    pub filter: LogFilter,
    /// `status_code`, 200 to 599.
    pub status: Option<StatusCode>,
    /// `body`, in the place of the reply's own.
    pub body: Option<Bytes>,
    /// `body_format_override`.
    pub format: Option<BodyFormat>,
    /// `headers_to_add`.
    pub headers: HeaderMutations,
}
