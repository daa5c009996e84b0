//! Which part of a kept body does `range` ask for (RFC 9110 section 14)?

/// A part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it: nothing was asked, or nothing that is understood, or several parts.
    Whole,
    /// From the first octet to the last one, both included.
    Octets(u64, u64),
    /// Nothing that there is.
    Unsatisfiable,
}

/// What `range` says of a body of `length` octets.
pub fn part(range: &str, length: u64) -> Part {
    let Some(spec) = range.trim().strip_prefix("bytes=") else {
        return Part::Whole;
    };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
        return Part::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (
        number(first),
        number(last),
        first.trim().is_empty(),
        last.trim().is_empty(),
    ) {
        (Some(first), last, _, open) if open || last.is_some() => {
            let last = last.unwrap_or(u64::MAX);
            if last < first {
                Part::Whole
            } else if first >= length {
                Part::Unsatisfiable
            } else {
                Part::Octets(first, last.min(length - 1))
            }
        }
        (None, Some(suffix), true, _) if suffix == 0 || length == 0 => Part::Unsatisfiable,
        (None, Some(suffix), true, _) => Part::Octets(length.saturating_sub(suffix), length - 1),
        _ => Part::Whole,
    }
}
