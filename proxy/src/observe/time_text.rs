//! How does an instant read in an access log? strftime in UTC and the C locale, with Envoy's fractions of a second.
//!
//! Holds: every directive that glibc knows is answered; one that it does not know is printed as it stands, as Envoy
//! does. Years are those of the proleptic Gregorian calendar.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remora_model::log::TimePiece;

/// Whole seconds from 1970 to now; 0 before.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment, taken apart.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    seconds: u64,
    nanos: u32,
    year: i64,
    /// 1 to 12.
    month: u32,
    /// 1 to 31.
    day: u32,
    /// 0 is Sunday.
    weekday: u32,
    /// 0 is the first of January.
    yearday: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Moment {
    /// The moment of `time`; anything before 1970 reads as 1970.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = since.as_secs();
        let days = i64::try_from(seconds / 86_400).unwrap_or(0);
        let rest = (seconds % 86_400) as u32;
        let (year, month, day) = civil(days);
        Self {
            seconds,
            nanos: since.subsec_nanos(),
            year,
            month,
            day,
            weekday: ((days + 4) % 7) as u32,
            yearday: (days - days_of(year, 1, 1)) as u32,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// `2026-11-20T09:32:26.603Z`: Envoy's default.
    pub fn write_default(&self, out: &mut String) {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
            ..
        } = self;
        let millis = self.nanos / 1_000_000;
        let _ = write!(
            out,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        );
    }

    /// The pieces of a format; none of them means the default.
    pub fn write(&self, pieces: &[TimePiece], out: &mut String) {
        if pieces.is_empty() {
            return self.write_default(out);
        }
        for piece in pieces {
            match piece {
                TimePiece::Literal(text) => out.push_str(text),
                TimePiece::Fraction(digits) => {
                    let text = format!("{:09}", self.nanos);
                    out.push_str(&text[..usize::from(*digits).clamp(1, 9)]);
                }
                // Envoy's `%3s` prints whole seconds too (seen with 1.40).
                TimePiece::UnixSeconds | TimePiece::UnixFraction(_) => {
                    let _ = write!(out, "{}", self.seconds);
                }
                TimePiece::Directive(letter) => self.directive(*letter, out),
            }
        }
    }

    fn directive(&self, letter: char, out: &mut String) {
        let weekday = DAYS[self.weekday as usize];
        let month = MONTHS[(self.month - 1) as usize];
        let twelve = (self.hour + 11) % 12 + 1;
        let (iso_year, iso_week) = self.iso_week();
        let _ = match letter {
            'a' => write!(out, "{}", &weekday[..3]),
            'A' => write!(out, "{weekday}"),
            'b' | 'h' => write!(out, "{}", &month[..3]),
            'B' => write!(out, "{month}"),
            'C' => write!(out, "{:02}", self.year / 100),
            'd' => write!(out, "{:02}", self.day),
            'e' => write!(out, "{:2}", self.day),
            'g' => write!(out, "{:02}", iso_year % 100),
            'G' => write!(out, "{iso_year}"),
            'H' => write!(out, "{:02}", self.hour),
            'I' => write!(out, "{twelve:02}"),
            'j' => write!(out, "{:03}", self.yearday + 1),
            'k' => write!(out, "{:2}", self.hour),
            'l' => write!(out, "{twelve:2}"),
            'm' => write!(out, "{:02}", self.month),
            'M' => write!(out, "{:02}", self.minute),
            'p' => write!(out, "{}", if self.hour < 12 { "AM" } else { "PM" }),
            'P' => write!(out, "{}", if self.hour < 12 { "am" } else { "pm" }),
            'S' => write!(out, "{:02}", self.second),
            't' => write!(out, "\t"),
            'u' => write!(out, "{}", if self.weekday == 0 { 7 } else { self.weekday }),
            'U' => write!(out, "{:02}", (self.yearday + 7 - self.weekday) / 7),
            'V' => write!(out, "{iso_week:02}"),
            'w' => write!(out, "{}", self.weekday),
            'W' => write!(out, "{:02}", (self.yearday + 7 - (self.weekday + 6) % 7) / 7),
            'y' => write!(out, "{:02}", self.year % 100),
            'Y' => write!(out, "{}", self.year),
            'z' => write!(out, "+0000"),
            'Z' => write!(out, "UTC"),
            _ => return self.compound(letter, out),
        };
    }

    /// Directives that stand for several others.
    fn compound(&self, letter: char, out: &mut String) {
        let letters = match letter {
            'c' => "a b e T Y",
            'D' | 'x' => "m/d/y",
            'F' => "Y-m-d",
            'r' => "I:M:S p",
            'R' => "H:M",
            'T' | 'X' => "H:M:S",
            unknown => {
                out.push('%');
                out.push(unknown);
                return;
            }
        };
        for letter in letters.chars() {
            if letter.is_ascii_alphabetic() {
                self.directive(letter, out);
            } else {
                out.push(letter);
            }
        }
    }

    /// Year and week by ISO 8601: weeks begin on Monday, week 1 holds the first Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let monday_based = i64::from((self.weekday + 6) % 7);
        let week = (i64::from(self.yearday) - monday_based + 10) / 7;
        if week < 1 {
            return (self.year - 1, weeks_in(self.year - 1));
        }
        if week > weeks_in(self.year) {
            (self.year + 1, 1)
        } else {
            (self.year, week)
        }
    }
}

/// 53 where the year begins or ends on a Thursday.
fn weeks_in(year: i64) -> i64 {
    let thursday = |days: i64| (days + 4).rem_euclid(7) == 4;
    if thursday(days_of(year, 1, 1)) || thursday(days_of(year, 12, 31)) {
        53
    } else {
        52
    }
}

/// Days since 1970-01-01 of a date (Howard Hinnant's `days_from_civil`, in eras of 400 years that begin in March).
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970-01-01; the inverse of [`days_of`].
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (
        year_of_era + era * 400 + i64::from(month <= 2),
        month as u32,
        day as u32,
    )
}

/// RFC 3339 with milliseconds, as `/config_dump` writes `last_updated`.
pub fn rfc3339(time: SystemTime) -> String {
    let mut text = String::with_capacity(24);
    Moment::of(time).write_default(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> Moment {
        Moment::of(UNIX_EPOCH + Duration::new(seconds, nanos))
    }

    #[test]
    fn every_directive_reads_as_envoy_1_40_prints_it() {
        let letters = "aAbBcdDeFgGHIjmMpRSTuUVwWxXyYZhCrklqP";
        let mut text = String::new();
        for letter in letters.chars() {
            at(1_795_167_146, 603_138_000).write(
                &[TimePiece::Directive(letter), TimePiece::Literal("|".into())],
                &mut text,
            );
        }
        // Taken from a run of Envoy 1.40 at that instant.
        let envoy = "Fri|Friday|Nov|November|Fri Nov 20 09:32:26 2026|20|11/20/26|20|2026-11-20|26|2026|09|09|324|11|32|AM|\
                     09:32|26|09:32:26|5|46|47|5|46|11/20/26|09:32:26|26|2026|UTC|Nov|20|09:32:26 AM| 9| 9|%q|am|";
        assert_eq!(text, envoy);
    }

    #[test]
    fn fractions_are_cut_not_rounded() {
        let mut text = String::new();
        let pieces = [
            TimePiece::Fraction(3),
            TimePiece::Literal(" ".into()),
            TimePiece::Fraction(9),
        ];
        at(1, 603_999_999).write(&pieces, &mut text);
        assert_eq!(text, "603 603999999");
    }

    #[test]
    fn the_default_is_iso_8601_with_milliseconds() {
        assert_eq!(
            rfc3339(UNIX_EPOCH + Duration::from_millis(1_795_167_146_603)),
            "2026-11-20T09:32:26.603Z"
        );
    }

    #[test]
    fn dates_and_days_are_inverse_over_a_thousand_years() {
        for day in (0..366_000).step_by(17) {
            let (year, month, date) = civil(day);
            assert_eq!(days_of(year, i64::from(month), i64::from(date)), day);
        }
        assert_eq!(civil(days_of(2000, 2, 29)), (2000, 2, 29));
    }

    #[test]
    fn iso_weeks_cross_the_year() {
        // 2027-01-01 is a Friday in week 53 of 2026; 2024-12-30 is a Monday in week 1 of 2025.
        assert_eq!(at(1_798_761_600, 0).iso_week(), (2026, 53));
        assert_eq!(at(1_735_516_800, 0).iso_week(), (2025, 1));
    }
}
