//! Is one more attempt of this request to be made, and after which wait?
//!
//! Holds: nothing is tried again that somebody nearer to the failure has tried again in vain (`x-remora-no-retry`), or
//! that the server does not want to see again (gRPC's `grpc-retry-pushback-ms`, gRFC A6); so in a row of proxies the one
//! nearest to the failure retries, and the others pass its answer on. A retry holds its place in the cluster's limit
//! until the next one takes its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};

use super::{Ended, RetryLimit, RetryPolicy, RetryTicket};
use crate::cluster::{ClusterLive, RequestPriority};

/// Of a response: who sent it has tried again in vain, or could not bear to. It concerns the next proxy alone, which
/// removes it, and is told to nobody but routers (`x-envoy-expected-rq-timeout-ms` in their request).
pub const NO_RETRY: HeaderName = HeaderName::from_static("x-remora-no-retry");
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// A server that wants a longer wait wants no retry.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(300);

/// The attempts of one request.
#[derive(Debug, Default)]
pub struct Tries {
    left: u32,
    made: u32,
    ticket: Option<RetryTicket>,
    /// Of retries that go on beside a newer one.
    held: Vec<RetryTicket>,
    given_up: Option<GivenUp>,
}

/// Why there is no other attempt though the policy would have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// `num_retries` were made.
    Exhausted,
    /// The cluster could bear no more.
    Overflow,
}

/// One more attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// After this.
    pub wait: Duration,
    /// The server said when.
    pub asked: bool,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Not {
    /// The policy does not speak of this end.
    Covered,
    /// The answer says that it would be in vain.
    Wanted,
    /// The request cannot be sent again.
    Possible,
    /// None is left to a request that was never tried again (its headers are not those of the policy).
    Concerned,
    /// See there.
    Borne(GivenUp),
}

/// Whose limit counts.
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// The cluster's limit.
    pub limit: RetryLimit,
    /// Its counts.
    pub live: &'a Arc<ClusterLive>,
    /// The request's priority.
    pub priority: RequestPriority,
}

/// Now, by the two clocks that are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The steady one.
    pub now: Instant,
    /// Seconds since 1970.
    pub unix_seconds: u64,
}

impl Tries {
    /// Of a request that may be tried again as often as the policy says.
    pub fn new(policy: &RetryPolicy) -> Self {
        Self {
            left: if policy.on.is_empty() { 0 } else { policy.retries },
            ..Self::default()
        }
    }

    /// How many more there may be.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Why there was no other, if that is to be told.
    pub fn given_up(&self) -> Option<GivenUp> {
        self.given_up
    }

    /// There is no other.
    pub fn end(&mut self) {
        self.left = 0;
    }

    /// Whether an attempt is made beside one that is not answered in time and goes on: always, if one is left and the
    /// cluster can bear it, whatever `retry_on` says (Envoy's hedging).
    ///
    /// # Errors
    /// Why not.
    pub fn hedge(
        &mut self,
        policy: &RetryPolicy,
        bearer: Bearer<'_>,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Result<Again, Not> {
        self.is_left(policy)?;
        self.held.extend(self.ticket.take());
        self.take(bearer, now)?;
        Ok(Again {
            wait: policy.back_off.wait(self.made, rng),
            asked: false,
        })
    }

    fn is_left(&mut self, policy: &RetryPolicy) -> Result<(), Not> {
        match (self.left, self.made) {
            (1.., _) => Ok(()),
            (0, 0) if policy.retries > 0 => Err(Not::Concerned),
            (0, _) => Err(self.give_up(GivenUp::Exhausted)),
        }
    }

    /// Whether an attempt that ended this way is made again. `possible`: the request can be sent from its beginning.
    /// The clocks are read only where they count.
    ///
    /// # Errors
    /// Why not.
    pub fn again(
        &mut self,
        policy: &RetryPolicy,
        ended: &Ended<'_>,
        possible: bool,
        bearer: Bearer<'_>,
        clock: impl FnOnce() -> Moment,
        rng: &mut fastrand::Rng,
    ) -> Result<Again, Not> {
        if policy.on.is_empty() || !policy.wants_retry(ended) {
            return Err(Not::Covered);
        }
        let fields = match ended {
            Ended::Answered(_, fields) => Some(*fields),
            Ended::Reset(_) => None,
        };
        let pushback = fields.map_or(Ok(None), pushback).map_err(|_| Not::Wanted)?;
        self.is_left(policy)?;
        if !possible {
            return Err(Not::Possible);
        }
        let moment = clock();
        self.take(bearer, moment.now)?;
        let by_header = || {
            policy
                .rate_limited
                .as_ref()?
                .wait(fields?, moment.unix_seconds, rng)
        };
        let asked = pushback.or_else(by_header);
        Ok(Again {
            wait: asked.unwrap_or_else(|| policy.back_off.wait(self.made, rng)),
            asked: asked.is_some(),
        })
    }

    fn take(&mut self, bearer: Bearer<'_>, now: Instant) -> Result<(), Not> {
        // The one that is over makes room for the next.
        self.ticket = None;
        self.ticket = bearer.limit.take(bearer.live, bearer.priority, now);
        if self.ticket.is_none() {
            return Err(self.give_up(GivenUp::Overflow));
        }
        self.left -= 1;
        self.made += 1;
        Ok(())
    }

    fn give_up(&mut self, why: GivenUp) -> Not {
        self.given_up = Some(why);
        Not::Borne(why)
    }
}

/// The server wants no retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unwanted;

/// What an answer says of another attempt.
fn pushback(fields: &HeaderMap) -> Result<Option<Duration>, Unwanted> {
    if fields.contains_key(NO_RETRY) {
        return Err(Unwanted);
    }
    let Some(said) = fields.get(PUSHBACK) else {
        return Ok(None);
    };
    // gRFC A6: negative, or anything that is not a number, is a refusal.
    let millis: u64 = said
        .to_str()
        .ok()
        .and_then(|said| said.parse().ok())
        .ok_or(Unwanted)?;
    let wait = Duration::from_millis(millis);
    if wait > LONGEST_PUSHBACK {
        Err(Unwanted)
    } else {
        Ok(Some(wait))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::retry::{Conditions, Reset};

    fn policy(retries: u32) -> RetryPolicy {
        RetryPolicy {
            on: Conditions::parse("5xx,unavailable", |_| {}),
            retries,
            ..RetryPolicy::default()
        }
    }

    fn ask(
        tries: &mut Tries,
        policy: &RetryPolicy,
        limit: RetryLimit,
        ended: &Ended<'_>,
    ) -> Result<Again, Not> {
        let live = Arc::new(ClusterLive::default());
        let bearer = Bearer {
            limit,
            live: &live,
            priority: RequestPriority::Default,
        };
        let clock = || Moment {
            now: Instant::now(),
            unix_seconds: 0,
        };
        tries.again(
            policy,
            ended,
            true,
            bearer,
            clock,
            &mut fastrand::Rng::with_seed(1),
        )
    }

    fn answered(fields: &[(HeaderName, &'static str)]) -> Result<Again, Not> {
        let fields: HeaderMap = fields
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        let policy = policy(1);
        let ended = Ended::Answered(StatusCode::SERVICE_UNAVAILABLE, &fields);
        ask(&mut Tries::new(&policy), &policy, RetryLimit::Unsaid, &ended)
    }

    #[test]
    fn what_was_tried_in_vain_nearer_to_the_failure_is_not_tried_again() {
        assert!(answered(&[]).is_ok_and(|again| !again.asked));
        assert_eq!(answered(&[(NO_RETRY, "1")]), Err(Not::Wanted));
    }

    #[test]
    fn a_grpc_server_says_when_or_never() {
        let when = |said| answered(&[(PUSHBACK, said)]);
        let wait = Duration::from_millis(1500);
        assert_eq!(when("1500"), Ok(Again { wait, asked: true }));
        for never in ["-1", "", "soon", "300001"] {
            assert_eq!(when(never), Err(Not::Wanted), "{never}");
        }
    }

    #[test]
    fn enough_is_enough_and_is_remembered() {
        let reset = Ended::Reset(Reset::Connect);
        let two = policy(2);
        let mut tries = Tries::new(&two);
        assert!(ask(&mut tries, &two, RetryLimit::Unsaid, &reset).is_ok());
        assert!(ask(&mut tries, &two, RetryLimit::Unsaid, &reset).is_ok());
        let exhausted = Err(Not::Borne(GivenUp::Exhausted));
        assert_eq!(ask(&mut tries, &two, RetryLimit::Unsaid, &reset), exhausted);
        assert_eq!(tries.given_up(), Some(GivenUp::Exhausted));
        let mut borne = Tries::new(&two);
        let overflow = Err(Not::Borne(GivenUp::Overflow));
        assert_eq!(ask(&mut borne, &two, RetryLimit::Fixed(0), &reset), overflow);
        assert_eq!(borne.given_up(), Some(GivenUp::Overflow));
        assert_eq!(
            ask(&mut Tries::default(), &two, RetryLimit::Unsaid, &reset),
            Err(Not::Concerned)
        );
        assert_eq!(borne.left(), 2);
    }

    #[test]
    fn attempts_that_go_on_keep_their_places() {
        let live = Arc::new(ClusterLive::default());
        let bearer = Bearer {
            limit: RetryLimit::Fixed(2),
            live: &live,
            priority: RequestPriority::Default,
        };
        let (policy, mut rng) = (policy(5), fastrand::Rng::with_seed(1));
        let mut tries = Tries::new(&policy);
        let mut hedge = || tries.hedge(&policy, bearer, Instant::now(), &mut rng);
        assert!(hedge().is_ok() && hedge().is_ok());
        assert_eq!(hedge(), Err(Not::Borne(GivenUp::Overflow)));
    }
}
