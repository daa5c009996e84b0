//! `envoy.filters.http.stateful_session`: the endpoint of a session stands in a cookie or a header of its requests.
//!
//! Holds: what is read and written is Envoy's to the byte, so that a session goes on at another proxy. Base64 is the
//! shell's business.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};

use crate::route::cookie;

/// The filter's settings, or those of a route in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatefulSession {
    /// `session_state`; `None`: nothing is done.
    pub state: Option<SessionState>,
    /// `strict`: another endpoint than the session's will not do.
    pub strict: bool,
    /// `status_on_strict_destination_not_found`, default 503.
    pub not_found: StatusCode,
}

/// Where the endpoint stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionState {
    /// In a cookie.
    Cookie(SessionCookie),
    /// In a header.
    Header(HeaderName),
}

/// `CookieBasedSessionState.cookie`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCookie {
    /// Name.
    pub name: Box<str>,
    /// `ttl`; `None`: as long as the client runs.
    pub ttl: Option<Duration>,
    /// `path`; requests for other paths have no session. May be empty.
    pub path: Box<str>,
    /// Further attributes; one without a value has an empty one.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

impl SessionState {
    /// Whether requests for `path` have sessions.
    pub fn concerns(&self, path: &str) -> bool {
        let Self::Cookie(SessionCookie { path: own, .. }) = self else {
            return true;
        };
        match path.strip_prefix(&**own) {
            None => false,
            Some(rest) => {
                own.is_empty() || own.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?', '#'])
            }
        }
    }

    /// What stands where the endpoint should: base64.
    pub fn said<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        match self {
            Self::Cookie(own) => cookie(headers, &own.name),
            Self::Header(name) => headers.get(name).map(|value| value.as_bytes()),
        }
    }

    /// The endpoint in what was said, without base64; `now` in seconds since 1970. A cookie of a version before
    /// expiry was noted holds the bare address.
    pub fn endpoint(&self, said: &[u8], now: u64) -> Option<Box<str>> {
        let address = match self {
            Self::Header(_) => said,
            Self::Cookie(_) => match message(said) {
                Some((_, Some(expires))) if expires < now => return None,
                Some((address, _)) => address,
                None => said,
            },
        };
        let address = std::str::from_utf8(address).ok()?;
        (!address.is_empty()).then(|| address.into())
    }

    /// What is to be told of this endpoint, to be put into base64.
    pub fn told(&self, address: &str, now: u64) -> Vec<u8> {
        let Self::Cookie(own) = self else {
            return address.as_bytes().to_vec();
        };
        let mut bytes = vec![ADDRESS];
        varint(address.len() as u64, &mut bytes);
        bytes.extend(address.as_bytes());
        if let Some(ttl) = own.ttl {
            bytes.push(EXPIRES);
            varint(now + ttl.as_secs(), &mut bytes);
        }
        bytes
    }

    /// The header of a response that tells it.
    pub fn header(&self, told: &str) -> (HeaderName, String) {
        let own = match self {
            Self::Header(name) => return (name.clone(), told.to_owned()),
            Self::Cookie(own) => own,
        };
        let mut value = format!("{}=\"{told}\"", own.name);
        // Writing to a string cannot fail.
        if let Some(ttl) = own.ttl {
            let _ = write!(value, "; Max-Age={}", ttl.as_secs());
        }
        if !own.path.is_empty() {
            let _ = write!(value, "; Path={}", own.path);
        }
        for (name, said) in &own.attributes {
            let _ = match &**said {
                "" => write!(value, "; {name}"),
                said => write!(value, "; {name}={said}"),
            };
        }
        value.push_str("; HttpOnly");
        (http::header::SET_COOKIE, value)
    }
}

/// `Cookie.address`, a string: field 1.
const ADDRESS: u8 = 1 << 3 | 2;
/// `Cookie.expires`, a number: field 2.
const EXPIRES: u8 = 2 << 3;

/// Address and expiry of an encoded message; `None` if it is none.
fn message(said: &[u8]) -> Option<(&[u8], Option<u64>)> {
    let rest = said.strip_prefix(&[ADDRESS])?;
    let (length, rest) = read_varint(rest)?;
    let (address, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if rest.is_empty() {
        return Some((address, None));
    }
    let (expires, rest) = read_varint(rest.strip_prefix(&[EXPIRES])?)?;
    rest.is_empty().then_some((address, Some(expires)))
}

fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)?;
    let number = bytes[..=end]
        .iter()
        .rev()
        .fold(0, |number, byte| number << 7 | u64::from(byte & 0x7f));
    Some((number, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(ttl: Option<u64>, path: &str) -> SessionState {
        SessionState::Cookie(SessionCookie {
            name: "s".into(),
            ttl: ttl.map(Duration::from_secs),
            path: path.into(),
            attributes: vec![("SameSite".into(), "Lax".into()), ("Secure".into(), "".into())],
        })
    }

    #[test]
    fn the_bytes_are_envoys() {
        // From a cookie of Envoy 1.40.
        let observed = b"\x0a\x0f127.0.0.1:19101\x10\xc5\xef\x81\xd8\x06";
        let state = state(Some(120), "");
        assert_eq!(state.told("127.0.0.1:19101", 1_795_192_773 - 120), observed);
        let at = |now| state.endpoint(observed, now);
        assert_eq!(at(1_795_192_773).as_deref(), Some("127.0.0.1:19101"));
        assert_eq!(at(1_795_192_774), None);
        let older = state.endpoint(b"127.0.0.1:1", 0);
        assert_eq!(older.as_deref(), Some("127.0.0.1:1"));
    }

    #[test]
    fn a_cookie_is_for_its_path_and_what_lies_below() {
        let concerned = |own: &str, path: &str| state(None, own).concerns(path);
        assert!(concerned("", "/x") && concerned("/", "/x"));
        assert!(concerned("/a", "/a") && concerned("/a", "/a/b") && concerned("/a", "/a?b"));
        assert!(!concerned("/a", "/ab") && !concerned("/a/", "/a") && concerned("/a/", "/a/b"));
        let (name, value) = state(Some(5), "/p").header("AA==");
        assert_eq!(name, http::header::SET_COOKIE);
        assert_eq!(
            value,
            "s=\"AA==\"; Max-Age=5; Path=/p; SameSite=Lax; Secure; HttpOnly"
        );
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_again_and_nothing_else_panics(address in "[0-9.:]{1,300}", ttl in 0u64..1 << 40, bytes in any::<Vec<u8>>()) {
            let state = state(Some(ttl), "");
            let told = state.told(&address, 7);
            let read = state.endpoint(&told, 7);
            prop_assert_eq!(read.as_deref(), Some(&*address));
            let _ = state.endpoint(&bytes, 7);
        }
    }
}
