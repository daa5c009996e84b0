//! HTTP dates as seconds since 1970 (RFC 9110 section 5.6.7).

use http::HeaderValue;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// `Sun, 06 Nov 1994 08:49:37 GMT`; the obsolete forms are not read, and a date before 1970 is not either.
pub(super) fn read(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|known| *known == month)? as u64 + 1;
    let year: u64 = words
        .next()?
        .parse()
        .ok()
        .filter(|year| (1970..10_000).contains(year))?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let whole =
        words.next() == Some("GMT") && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    whole.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// As `read` reads it.
pub(super) fn printed(seconds: u64) -> HeaderValue {
    let days_since = seconds / 86_400;
    let mut year = 1970 + days_since / 366;
    while days(year + 1, 1, 1) <= days_since {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days(year, month + 1, 1) <= days_since {
        month += 1;
    }
    let day = days_since - days(year, month, 1) + 1;
    let (week, name) = (DAYS[(days_since % 7) as usize], MONTHS[(month - 1) as usize]);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let text = format!("{week}, {day:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that a leap day is the last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_years = year * 365 + year / 4 - year / 100 + year / 400;
    of_years + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_printed() {
        let example = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(
            (read(&example), printed(784_111_777)),
            (Some(784_111_777), example)
        );
        for seconds in (0..4_000_000_000).step_by(86_399 * 7) {
            assert_eq!(read(&printed(seconds)), Some(seconds));
        }
        for wrong in [
            "0",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 EST",
            "Sun, 06 Nov 1994 25:00:00 GMT",
        ] {
            assert_eq!(read(&HeaderValue::from_static(wrong)), None, "{wrong}");
        }
    }
}
