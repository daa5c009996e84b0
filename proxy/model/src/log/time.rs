//! Time formats: strftime's letters and Envoy's fractions of a second.

/// A piece of a time format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimePiece {
    /// Printed as it is.
    Literal(Box<str>),
    /// `%Y`, `%m` and so on: the letter of strftime.
    Directive(char),
    /// `%3f`: so many digits of the fraction of the second, 1 to 9 (`%f` has 9).
    Fraction(u8),
    /// `%s`: seconds since 1970.
    UnixSeconds,
    /// `%3s`, `%6s`, `%9s`: seconds since 1970 followed by so many digits of the fraction.
    UnixFraction(u8),
}

/// Reads a time format; `None` if it would print a newline.
pub(super) fn parse_time(format: &str) -> Option<Vec<TimePiece>> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c == '\n' {
            return None;
        }
        if c != '%' {
            literal.push(c);
            continue;
        }
        let piece = match directive(&mut chars) {
            Some(TimePiece::Directive('n')) => return None,
            Some(piece) => piece,
            None => {
                literal.push('%');
                continue;
            }
        };
        if !literal.is_empty() {
            pieces.push(TimePiece::Literal(std::mem::take(&mut literal).into()));
        }
        pieces.push(piece);
    }
    if !literal.is_empty() {
        pieces.push(TimePiece::Literal(literal.into()));
    }
    Some(pieces)
}

/// What follows a `%`; `None` for `%%` and a `%` at the end.
fn directive(chars: &mut std::str::Chars<'_>) -> Option<TimePiece> {
    let ahead = chars.as_str();
    // `%E*S`, `%E3S` and `%Ez` (absl) and glibc's padding flags are read as their plain letters.
    let skipped = ahead.trim_start_matches(['E', 'O', '-', '_', '^', '#', '*']);
    let digits = skipped.len() - skipped.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let letter = skipped[digits..].chars().next()?;
    let width = skipped[..digits]
        .parse::<u8>()
        .ok()
        .map(|width| width.clamp(1, 9));
    for _ in 0..ahead.len() - skipped.len() + digits + 1 {
        chars.next();
    }
    Some(match (letter, width) {
        ('%', _) => return None,
        ('f', width) => TimePiece::Fraction(width.unwrap_or(9)),
        ('s', None) => TimePiece::UnixSeconds,
        ('s', Some(width)) => TimePiece::UnixFraction(width),
        (letter, _) => TimePiece::Directive(letter),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_letters_are_told_apart() {
        let pieces = parse_time("%Y-%m %3f%s%% %3s").unwrap();
        let expected = [
            TimePiece::Directive('Y'),
            TimePiece::Literal("-".into()),
            TimePiece::Directive('m'),
            TimePiece::Literal(" ".into()),
            TimePiece::Fraction(3),
            TimePiece::UnixSeconds,
            TimePiece::Literal("% ".into()),
            TimePiece::UnixFraction(3),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn a_newline_is_refused() {
        assert_eq!(parse_time("%Y%n"), None);
        assert_eq!(parse_time("a\n"), None);
    }
}
