//! `proxy_status_config`: what `Proxy-Status` (RFC 9209) says of a response, and which status goes with it.
//!
//! Holds: the error is told from the response flags in the order in which Envoy looks at them; without one there is no
//! header.

use std::fmt::Write;

use http::StatusCode;

/// `ProxyStatusConfig`.
#[derive(Debug, Clone, Default)]
pub struct ProxyStatus {
    /// Who we are.
    pub name: ProxyName,
    /// Not `remove_details`: say the response code details.
    pub details: bool,
    /// Not `remove_response_flags`: say the response flags beside them.
    pub flags: bool,
    /// `set_recommended_response_code`.
    pub recommended_status: bool,
}

/// How the proxy calls itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProxyName {
    /// As in the `server` header.
    #[default]
    Server,
    /// `use_node_id`.
    Node,
    /// `literal_proxy_name`.
    Literal(Box<str>),
}

/// Error types (RFC 9209 section 2.3) by response flag, with the status that is recommended for each.
const ERRORS: [(&str, &str, StatusCode); 19] = {
    use StatusCode as S;
    [
        ("LH", "destination_unavailable", S::SERVICE_UNAVAILABLE),
        ("UH", "destination_unavailable", S::SERVICE_UNAVAILABLE),
        ("UT", "http_response_timeout", S::GATEWAY_TIMEOUT),
        ("LR", "connection_timeout", S::GATEWAY_TIMEOUT),
        ("UR", "connection_terminated", S::BAD_GATEWAY),
        ("UF", "connection_refused", S::BAD_GATEWAY),
        ("UC", "connection_terminated", S::BAD_GATEWAY),
        ("UO", "connection_limit_reached", S::SERVICE_UNAVAILABLE),
        ("NR", "destination_not_found", S::INTERNAL_SERVER_ERROR),
        ("RL", "connection_limit_reached", S::SERVICE_UNAVAILABLE),
        ("RLSE", "connection_limit_reached", S::SERVICE_UNAVAILABLE),
        ("URX", "destination_unavailable", S::SERVICE_UNAVAILABLE),
        ("SI", "http_response_timeout", S::GATEWAY_TIMEOUT),
        ("IH", "http_request_error", S::BAD_REQUEST),
        ("DPE", "http_request_error", S::BAD_REQUEST),
        ("UMSDR", "http_response_timeout", S::GATEWAY_TIMEOUT),
        ("NFCF", "proxy_configuration_error", S::INTERNAL_SERVER_ERROR),
        ("UPE", "http_protocol_error", S::BAD_GATEWAY),
        ("NC", "destination_unavailable", S::SERVICE_UNAVAILABLE),
    ]
};

impl ProxyStatus {
    /// The value of the header and the recommended status, for a response with these flags and details; `None`: there is
    /// no error to tell of.
    pub fn tell(&self, name: &str, flags: &[&str], details: &str) -> Option<(String, StatusCode)> {
        let (_, error, status) = ERRORS.iter().find(|(flag, ..)| flags.contains(flag))?;
        let mut text = format!("{name}; error={error}");
        if self.details {
            text.push_str("; details=\"");
            // RFC 8941 section 3.3.3
            for character in details.chars() {
                if matches!(character, '"' | '\\') {
                    text.push('\\');
                }
                text.push(character);
            }
            if self.flags {
                let flags: Vec<&str> = flags.iter().copied().filter(|flag| *flag != "-").collect();
                // A string takes everything.
                let _ = write!(text, "; {}", flags.join(","));
            }
            text.push('"');
        }
        Some((text, *status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_the_flag_that_comes_first_in_order() {
        let all = ProxyStatus {
            details: true,
            flags: true,
            ..ProxyStatus::default()
        };
        let told = all.tell("envoy", &["URX", "UF"], "why \"so\"");
        let text = "envoy; error=connection_refused; details=\"why \\\"so\\\"; URX,UF\"".to_owned();
        assert_eq!(told, Some((text, StatusCode::BAD_GATEWAY)));
        let bare = ProxyStatus::default();
        let told = bare.tell("a b", &["NR"], "route_not_found").map(|told| told.0);
        assert_eq!(told.as_deref(), Some("a b; error=destination_not_found"));
        assert_eq!(all.tell("envoy", &["-"], "via_upstream"), None);
    }
}
