//! One resource type on one session: what is wanted, what was the server told, what is held, and what is overdue?
//!
//! What holds: what is held is wanted; what the server was told is forgotten with its stream; a fetch timer runs only
//! for what was requested on the standing stream. What responses do to this state stands in `review.rs`, how it
//! becomes requests in `sotw.rs` and `delta.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::deadlines::Deadlines;
use crate::review::{Held, Review};
use crate::session::Variant;
use crate::status::{RejectedResource, RejectedResponse, ResourceError};
use crate::update::{Event, Interest};
use crate::withdrawals::Withdrawals;

/// Stands for all resources among the names, as on the wire.
pub(crate) const WILDCARD: &str = "*";

#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) type_url: Arc<str>,
    pub(crate) wanted: BTreeSet<Arc<str>>,
    /// Withdrawn and wanted again before the server heard of it: it must hear of both, or it sends nothing.
    pub(crate) again: BTreeSet<Arc<str>>,
    pub(crate) withdrawals: Withdrawals,
    pub(crate) held: BTreeMap<Arc<str>, Held>,
    /// State-of-the-world: the last version that was accepted whole.
    pub(crate) version: Arc<str>,
    pub(crate) fetch_timeout: Option<Duration>,
    pub(crate) awaited: Deadlines,
    pub(crate) expiries: Deadlines,
    /// Known or presumed not to exist.
    pub(crate) missing: BTreeMap<Arc<str>, Absence>,
    /// What the server said instead of sending the resource, until the resource arrives.
    pub(crate) errors: BTreeMap<Arc<str>, ResourceError>,
    /// A wildcard needs no fetch timer (any more).
    pub(crate) heard: bool,
    pub(crate) rejected: BTreeMap<Arc<str>, RejectedResource>,

    pub(crate) waiting: VecDeque<Received>,
    pub(crate) review: Option<Review>,

    /// What the server was told on this stream, if anything.
    pub(crate) told: Option<BTreeSet<Arc<str>>>,
    /// State-of-the-world: an explicit name was sent on this stream, so that an empty list no longer means all.
    pub(crate) named: bool,
    /// State-of-the-world: a response on this stream brought what nobody wanted. The server may think that we have it
    /// (go-control-plane answers an empty list of names by everything), so what is asked for next claims no version.
    pub(crate) dropped: bool,
    /// The newest on this stream, or empty.
    pub(crate) nonce: String,
    pub(crate) answers: VecDeque<Answer>,
    /// An answer that waits for its time, see [`Repetition`].
    pub(crate) delayed: Option<(Instant, Answer)>,
    pub(crate) repetition: Repetition,
    /// `wanted` may differ from `told`.
    pub(crate) unsettled: bool,

    pub(crate) facts: Facts,
}

/// Slows a conversation that goes in circles: some servers answer a NACK at once with the very response that was
/// rejected (go-control-plane does in state of the world). The first NACK leaves at once, its repetitions wait from
/// 100 ms up to 1 s each, which is also the longest that such a server can keep a better version back for want of an
/// answer; a change of interest, another response or an ACK ends the waiting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repetition {
    pub(crate) last: Option<(Arc<str>, String)>,
    count: u32,
}

impl Repetition {
    pub(crate) fn delay(&mut self, version: &Arc<str>, rejected: Option<&String>) -> Duration {
        let this = rejected.map(|message| (version.clone(), message.clone()));
        if this.is_none() || this != self.last {
            *self = Self { last: this, count: 0 };
            return Duration::ZERO;
        }
        self.count = self.count.saturating_add(1);
        let doubled = Duration::from_millis(100).saturating_mul(1 << (self.count - 1).min(10));
        doubled.min(Duration::from_secs(1))
    }
}

/// Why a resource is taken not to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The server said so.
    Told,
    /// The fetch timeout passed.
    TimedOut,
}

/// For `TypeStatus`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) last_received: Option<Instant>,
    pub(crate) received: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) fetch_timeouts: u64,
    pub(crate) last_accepted: Option<Instant>,
    pub(crate) last_rejected: Option<RejectedResponse>,
}

/// A response that was not looked at yet.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) nonce: String,
    pub(crate) version: Arc<str>,
    /// The whole response, or why it is refused without being read.
    pub(crate) content: Result<Bytes, String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) nonce: String,
    /// State-of-the-world: the last accepted version.
    pub(crate) version: Arc<str>,
    pub(crate) rejected: Option<String>,
}

impl Subscription {
    pub(crate) fn new(type_url: Arc<str>, fetch_timeout: Option<Duration>) -> Self {
        Self {
            type_url,
            wanted: BTreeSet::new(),
            again: BTreeSet::new(),
            withdrawals: Withdrawals::default(),
            held: BTreeMap::new(),
            version: "".into(),
            fetch_timeout,
            awaited: Deadlines::default(),
            expiries: Deadlines::default(),
            missing: BTreeMap::new(),
            errors: BTreeMap::new(),
            heard: false,
            rejected: BTreeMap::new(),
            waiting: VecDeque::new(),
            review: None,
            told: None,
            named: false,
            dropped: false,
            nonce: String::new(),
            answers: VecDeque::new(),
            delayed: None,
            repetition: Repetition::default(),
            unsettled: false,
            facts: Facts::default(),
        }
    }

    pub(crate) fn want(&mut self, interest: Interest) {
        let wanted = match interest {
            Interest::Wildcard => BTreeSet::from([Arc::from(WILDCARD)]),
            Interest::Names(names) => names,
        };
        if wanted == self.wanted {
            return;
        }
        let before = std::mem::replace(&mut self.wanted, wanted);
        let told = self.told.as_ref();
        let added = self.wanted.difference(&before);
        self.again.extend(
            added
                .filter(|name| told.is_some_and(|told| told.contains(*name)))
                .cloned(),
        );
        if before.contains(WILDCARD) {
            let unwanted: Vec<_> = self
                .held
                .keys()
                .filter(|name| !self.is_wanted(name))
                .cloned()
                .collect();
            for name in &unwanted {
                self.forget(name);
            }
        }
        for name in &before {
            if !self.wanted.contains(name) {
                self.forget(name);
            }
        }
        self.unsettled = true;
        self.hurry();
    }

    pub(crate) fn is_wanted(&self, name: &Arc<str>) -> bool {
        self.wanted.contains(name) || self.wanted.contains(WILDCARD)
    }

    /// Nobody wants it now; if somebody does later, it is new.
    fn forget(&mut self, name: &Arc<str>) {
        self.again.remove(name);
        self.withdrawals.forget(name);
        self.awaited.clear(name);
        if self.is_wanted(name) {
            return;
        }
        self.held.remove(name);
        self.expiries.clear(name);
        self.missing.remove(name);
        self.errors.remove(name);
        self.rejected.remove(name);
        if let Some(review) = &mut self.review {
            review.forget(name);
        }
    }

    // --- streams

    pub(crate) fn on_stream_open(&mut self) {
        self.unsettled = true;
    }

    pub(crate) fn on_stream_end(&mut self) {
        self.told = None;
        self.named = false;
        self.dropped = false;
        self.nonce.clear();
        self.again.clear();
        self.withdrawals = Withdrawals::default();
        self.answers.clear();
        self.delayed = None;
        self.waiting.clear();
        self.awaited.clear_all();
        if let Some(review) = &mut self.review {
            review.stream_ended();
        }
    }

    // --- requests

    /// Whether asking for the next request is worth it.
    pub(crate) fn has_request(&self, variant: Variant) -> bool {
        !self.answers.is_empty() || (self.unsettled && !self.is_held_back(variant))
    }

    /// A change of interest must wait for the answer that is due: in state of the world because it would be taken
    /// for one, and at the beginning of any stream because the verdict decides what we say that we hold.
    fn is_held_back(&self, variant: Variant) -> bool {
        let first = self.told.is_none();
        let answer_is_due = self.review.is_some() || self.delayed.is_some();
        answer_is_due && (variant == Variant::StateOfTheWorld || first)
    }

    /// Answers at once, or after `delay`.
    pub(crate) fn push_answer(&mut self, answer: Answer, delay: Duration, now: Instant) {
        if delay.is_zero() || self.unsettled || !self.waiting.is_empty() {
            self.answers.push_back(answer);
        } else {
            self.delayed = Some((now + delay, answer));
        }
    }

    /// There is news for the server: what was to be said later is said now, before it.
    fn hurry(&mut self) {
        self.answers.extend(self.delayed.take().map(|(_, answer)| answer));
    }

    /// What to tell the server next: what is wanted, in two steps where it must first hear of a withdrawal.
    pub(crate) fn target(&self) -> BTreeSet<Arc<str>> {
        self.wanted.difference(&self.again).cloned().collect()
    }

    /// State of the world: the server must hear again of a withdrawal that it may have missed.
    pub(crate) fn doubt(&mut self, arrived: impl Fn(&Arc<str>) -> bool) {
        let missing = self.withdrawals.still_missing(arrived);
        self.unsettled |= !missing.is_empty();
        self.again.extend(missing);
    }

    /// The server hears of the withdrawals in what is sent now.
    pub(crate) fn withdrawals_are_heard(&mut self) {
        self.again.clear();
    }

    /// State of the world: the next answer has nothing to say but what was said last, by names, and no fetch timer is to
    /// be started for any of them.
    pub(crate) fn is_said(&self) -> bool {
        let Some(told) = &self.told else { return false };
        let newest = self
            .answers
            .front()
            .is_some_and(|answer| answer.nonce == self.nonce);
        // Each name is in one of these at most.
        let heard_of = self.held.len() + self.missing.len() + self.awaited.len();
        newest
            && !self.unsettled
            && self.again.is_empty()
            && heard_of == told.len()
            && !told.contains(WILDCARD)
    }

    /// `target` was sent: starts the fetch timers of what is new in it.
    pub(crate) fn tell(&mut self, target: BTreeSet<Arc<str>>, now: Instant) {
        if let Some(deadline) = self.fetch_timeout.map(|timeout| now + timeout) {
            for name in &target {
                let known = self.held.contains_key(name) || self.missing.contains_key(name);
                let known = if &**name == WILDCARD { self.heard } else { known };
                if !known && !self.awaited.contains(name) {
                    self.awaited.set(name, deadline);
                }
            }
        }
        self.unsettled = target != self.wanted;
        self.told = Some(target);
    }

    // --- responses

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn receive(&mut self, received: Received, now: Instant) {
        self.facts.received += 1;
        self.facts.last_received = Some(now);
        self.hurry();
        self.nonce.clone_from(&received.nonce);
        self.waiting.push_back(received);
    }

    // --- time

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let delayed = self.delayed.as_ref().map(|(at, _)| *at);
        [self.awaited.next(), self.expiries.next(), delayed]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn on_time(&mut self, now: Instant) -> [Option<Event>; 2] {
        if self.delayed.as_ref().is_some_and(|(at, _)| *at <= now) {
            self.hurry();
        }
        let expired = self.expiries.take_due(now);
        for name in &expired {
            self.held.remove(name);
        }
        let overdue = self.awaited.take_due(now);
        self.facts.fetch_timeouts += overdue.len() as u64;
        let all = overdue.iter().any(|name| &**name == WILDCARD);
        self.heard |= all;
        let names: Vec<_> = overdue.into_iter().filter(|name| &**name != WILDCARD).collect();
        self.missing
            .extend(names.iter().map(|name| (name.clone(), Absence::TimedOut)));
        let type_url = || self.type_url.clone();
        [
            (!expired.is_empty()).then(|| Event::Expired {
                type_url: type_url(),
                names: expired,
            }),
            (all || !names.is_empty()).then(|| Event::Missing {
                type_url: type_url(),
                names,
            }),
        ]
    }
}
