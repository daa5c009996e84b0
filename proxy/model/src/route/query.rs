//! Query parameters, compared as they stand: Envoy decodes neither names nor values when it matches or hashes them.

/// The first value of parameter `name`; a parameter without `=` has the empty value.
pub(super) fn first_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(key, value)| (key == name).then_some(value))
}
