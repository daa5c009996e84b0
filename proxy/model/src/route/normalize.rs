//! Paths in one form before anything looks at them: RFC 3986 section 6.2.2 as Envoy's `normalize_path` carries it out,
//! `merge_slashes` and `path_with_escaped_slashes_action`.
//!
//! Envoy's reading: percent-encoded unreserved characters are decoded, other escapes stay as they are, characters that
//! have no place in a path are escaped, `\` is `/`, and dot segments (also with `;parameters`) are resolved.

use std::borrow::Cow;

/// The normalised path and query, or `None` if the path cannot be normalised (`%00`): answer 400. The query stays as it
/// is. Allocates only where something changes.
pub fn normalize_path(path_and_query: &str) -> Option<Cow<'_, str>> {
    let (path, query) = split(path_and_query);
    if !path.starts_with('/') || !needs_work(path.as_bytes()) {
        return Some(path_and_query.into());
    }
    if path.contains("%00") {
        return None;
    }
    // The first part is what stands before the leading slash: nothing.
    let mut segments: Vec<Cow<'_, str>> = Vec::new();
    let mut open = false;
    for segment in path[1..].split(['/', '\\']) {
        let segment = canonical(segment);
        open = match dots(&segment) {
            Some(Dots::One) => true,
            Some(Dots::Two) => {
                segments.pop();
                true
            }
            None => {
                segments.push(segment.text);
                false
            }
        };
    }
    let mut out = String::with_capacity(path_and_query.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if open {
        out.push('/');
    }
    out.push_str(query);
    Some(out.into())
}

/// The path with every run of slashes as one; the query stays as it is.
pub fn merge_slashes(path_and_query: &str) -> Cow<'_, str> {
    let (path, query) = split(path_and_query);
    if !path.contains("//") {
        return path_and_query.into();
    }
    let mut out = String::with_capacity(path_and_query.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    (out + query).into()
}

/// The path with `%2F` as `/` and `%5C` as `\`, or `None` where there is neither; the query stays as it is.
pub fn unescape_slashes(path_and_query: &str) -> Option<String> {
    let (path, query) = split(path_and_query);
    let mut parts = path.split('%');
    let mut out = String::with_capacity(path_and_query.len());
    out.push_str(parts.next().unwrap_or_default());
    let mut found = false;
    for part in parts {
        let (slash, rest) = match part.as_bytes() {
            [b'2', b'F' | b'f', ..] => ("/", &part[2..]),
            [b'5', b'C' | b'c', ..] => ("\\", &part[2..]),
            _ => ("%", part),
        };
        found |= slash != "%";
        out.push_str(slash);
        out.push_str(rest);
    }
    found.then(|| out + query)
}

fn split(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}

fn needs_work(path: &[u8]) -> bool {
    path.iter()
        .any(|b| *b == b'%' || *b == b'\\' || must_be_escaped(*b))
        || memchr::memmem::find(path, b"/.").is_some()
}

fn must_be_escaped(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f..)
}

enum Dots {
    One,
    Two,
}

struct Segment<'p> {
    /// As the path has it.
    raw: &'p str,
    /// In canonical form.
    text: Cow<'p, str>,
}

/// Whether a segment is `.` or `..`; with parameters only where the dots themselves are not escaped.
fn dots(segment: &Segment<'_>) -> Option<Dots> {
    let name = segment
        .raw
        .split_once(';')
        .map_or(segment.text.as_ref(), |(name, _)| name);
    match name {
        "." => Some(Dots::One),
        ".." => Some(Dots::Two),
        _ => None,
    }
}

fn canonical(raw: &str) -> Segment<'_> {
    if !raw.bytes().any(|b| b == b'%' || must_be_escaped(b)) {
        return Segment {
            raw,
            text: raw.into(),
        };
    }
    let mut text = String::with_capacity(raw.len());
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match unescaped(&bytes[at..]) {
            Some(unreserved) => {
                text.push(unreserved.into());
                at += 2;
            }
            None if must_be_escaped(*byte) => text.push_str(&format!("%{byte:02X}")),
            None => text.push((*byte).into()),
        }
        at += 1;
    }
    Segment {
        raw,
        text: text.into(),
    }
}

/// The unreserved character that an escape at the beginning stands for (RFC 3986 section 2.3).
fn unescaped(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = (digit(high)? * 16 + digit(low)?) as u8;
    (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')).then_some(byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Path, Envoy 1.40's answer; observed.
    const OBSERVED: &[(&str, &str)] = &[
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/../a", "/a"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/../..", "/"),
        ("/a//b", "/a//b"),
        ("//a", "//a"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E/b", "/a/b"),
        ("/a/.%2e/b", "/b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fb", "/a%2fb"),
        ("/a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/%41", "/A"),
        ("/%7e", "/~"),
        ("/~", "/~"),
        ("/a%20b", "/a%20b"),
        ("/a%zz", "/a%zz"),
        ("/a%", "/a%"),
        ("/a?x=/../y", "/a?x=/../y"),
        ("/a<b", "/a%3Cb"),
        ("/a\"b", "/a%22b"),
        ("/a'b", "/a'b"),
        ("/a^b", "/a%5Eb"),
        ("/a`b", "/a%60b"),
        ("/a{b}", "/a%7Bb%7D"),
        ("/a|b", "/a%7Cb"),
        ("/a[b]", "/a[b]"),
        ("/a;b/..;/c", "/c"),
        ("/a/...", "/a/..."),
        ("/a/..b", "/a/..b"),
        ("/.", "/"),
        ("/..", "/"),
        ("/a/b/", "/a/b/"),
        ("/%C3%A4", "/%C3%A4"),
        ("/a%5cb", "/a%5cb"),
        ("/a//../b", "/a/b"),
        ("/a/b//../c", "/a/b/c"),
        ("/%2e", "/"),
        ("/a/..?q", "/?q"),
        ("/!$&()*+,-.:;=@_", "/!$&()*+,-.:;=@_"),
        ("/%30", "/0"),
        ("/%2d%2E%5f", "/-._"),
        ("/%3f", "/%3f"),
        ("/%25", "/%25"),
        ("/a;b/c", "/a;b/c"),
        ("/a/..;x/b", "/b"),
        ("/a/.;x/b", "/a/b"),
        ("/a/..;", "/"),
        ("/a/.;", "/a/"),
        ("/..;/a", "/a"),
        ("/a;/../b", "/b"),
        ("/%2e%2e;/a", "/..;/a"),
        ("/a/..;?q", "/?q"),
        ("/a/;/b", "/a/;/b"),
        ("/a/..;x;y/b", "/b"),
        ("/a/..%3b/b", "/a/..%3b/b"),
        ("/a/b;/..;/c", "/a/c"),
        ("/;", "/;"),
    ];

    #[test]
    fn paths_take_the_form_that_envoy_gives_them() {
        for (path, expected) in OBSERVED {
            assert_eq!(normalize_path(path).as_deref(), Some(*expected), "{path}");
        }
        assert_eq!(normalize_path("/%00"), None);
        assert_eq!(normalize_path("*").as_deref(), Some("*"));
    }

    #[test]
    fn runs_of_slashes_become_one_but_not_in_the_query() {
        assert_eq!(merge_slashes("/a///b/?x=//y"), "/a/b/?x=//y");
        assert_eq!(merge_slashes("//a//"), "/a/");
        assert!(matches!(merge_slashes("/a/b?//"), Cow::Borrowed(_)));
    }

    #[test]
    fn escaped_slashes_are_unescaped_in_the_path_only() {
        assert_eq!(
            unescape_slashes("/a%2fb%5Cc%2F%41%?x=%2F").as_deref(),
            Some("/a/b\\c/%41%?x=%2F")
        );
        assert_eq!(unescape_slashes("/a/%41%2?x=%2F"), None);
    }

    proptest! {
        #[test]
        fn no_dot_segment_survives_and_the_form_is_stable(path in r"/([a-c./\\%2e;]{0,12}/?){0,4}") {
            if let Some(once) = normalize_path(&path) {
                for segment in once.split('/') {
                    prop_assert!(segment != "." && segment != "..", "{path} became {once}");
                }
                prop_assert!(once.starts_with('/'));
            }
        }
    }
}
