//! Query parameters, percent-decoded as Envoy decodes them for matching and hashing.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The first value of parameter `name`; a parameter without `=` has the empty value.
pub(super) fn first_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(key, value)| {
            let same = key == name || (key.contains('%') && percent_decode_str(key).eq(name.bytes()));
            same.then(|| percent_decode_str(value).decode_utf8_lossy())
        })
}
