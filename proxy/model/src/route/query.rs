//! Query parameters, compared as they stand: Envoy decodes neither names nor values when it matches or hashes them. For
//! rate limits it does.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The first value of parameter `name`; a parameter without `=` has the empty value.
pub(super) fn first_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The first value of parameter `name`, both percent-decoded.
pub fn decoded_query_value<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let decoded = |text: &'q str| percent_decode_str(text).decode_utf8_lossy();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(key, value)| (decoded(key) == name).then(|| decoded(value)))
}
