//! How long does a request wait before it is tried again?

use std::time::Duration;

use http::{HeaderMap, HeaderName};

/// `retry_back_off`: fully jittered exponential (Envoy's router: base 25 ms, at most ten times the base).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// `base_interval`.
    pub base: Duration,
    /// `max_interval`.
    pub max: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        }
    }
}

impl BackOff {
    /// The wait before retry `retry` (1 is the first): uniform below `base * 2^(retry - 1)`, capped.
    pub fn wait(&self, retry: u32, rng: &mut fastrand::Rng) -> Duration {
        let doubled = 1u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.base.saturating_mul(doubled).min(self.max);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.u64(..nanos.max(1)))
    }
}

/// `rate_limited_retry_back_off`: the server says when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitedBackOff {
    /// `reset_headers`, in order.
    pub headers: Vec<ResetHeader>,
    /// `max_interval`, default 300 s: a longer wait is not obeyed.
    pub max: Duration,
}

/// One of `reset_headers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetHeader {
    /// `name`.
    pub name: HeaderName,
    /// `format`.
    pub format: ResetFormat,
}

/// How a reset header counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetFormat {
    /// Seconds from now.
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}

impl RateLimitedBackOff {
    /// The wait that a response asks for, with up to half of it added at random, so that not all come back at once;
    /// `None` if it asks for none that may be obeyed. `now`: seconds since 1970.
    pub fn wait(&self, fields: &HeaderMap, now: u64, rng: &mut fastrand::Rng) -> Option<Duration> {
        self.headers.iter().find_map(|header| {
            let said: u64 = fields.get(&header.name)?.to_str().ok()?.trim().parse().ok()?;
            let seconds = match header.format {
                ResetFormat::Seconds => said,
                ResetFormat::UnixTimestamp => said.checked_sub(now)?,
            };
            let wait = Duration::from_secs(seconds);
            (wait <= self.max).then(|| wait + wait.mul_f64(rng.f64() / 2.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_bound_doubles_up_to_its_maximum() {
        let back_off = BackOff::default();
        let mut rng = fastrand::Rng::with_seed(3);
        for (retry, bound) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (60, 250)] {
            let longest = (0..2000).map(|_| back_off.wait(retry, &mut rng)).max().unwrap();
            let bound = Duration::from_millis(bound);
            assert!(
                longest < bound && longest > bound.mul_f64(0.95),
                "{retry}: {longest:?}"
            );
        }
    }

    #[test]
    fn the_server_says_when() {
        let header = |name: &'static str, format| ResetHeader {
            name: HeaderName::from_static(name),
            format,
        };
        let limited = RateLimitedBackOff {
            headers: vec![
                header("retry-after", ResetFormat::Seconds),
                header("x-reset", ResetFormat::UnixTimestamp),
            ],
            max: Duration::from_secs(10),
        };
        let mut rng = fastrand::Rng::with_seed(3);
        let mut wait = |name: &'static str, value: &'static str| {
            let fields =
                HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            limited.wait(&fields, 1000, &mut rng)
        };
        let two = Duration::from_secs(2);
        assert!(wait("retry-after", "2").is_some_and(|wait| (two..=two.mul_f64(1.5)).contains(&wait)));
        assert!(wait("x-reset", "1002").is_some_and(|wait| (two..=two.mul_f64(1.5)).contains(&wait)));
        assert_eq!(wait("x-reset", "900"), None);
        assert_eq!(wait("retry-after", "11"), None);
        assert_eq!(wait("retry-after", "soon"), None);
    }
}
