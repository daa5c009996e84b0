//! One resource type on one session: what is wanted, what the server was told, what was accepted, what is in review.
//!
//! ```text
//! received -> waiting -> in review (the caller has it) -> verdict -> answer -> sent
//!                    \-> refused here (duplicate, too large, unreadable) ----^
//! ```
//! What holds: at most one response is in review, so "changed" always means changed since what the caller accepted
//! last; each response leaves exactly one answer, on its own stream or not at all; what is held is wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::deadlines::Deadlines;
use crate::reading::{Entry, Reading};
use crate::resource_type::absence_is_removal;
use crate::session::Variant;
use crate::status::RejectedResponse;
use crate::update::{Event, Interest, Rejection, Resource, ResponseToken, Update};
use crate::{delta, sotw};

/// Stands for all resources among the names, as on the wire.
pub(crate) const WILDCARD: &str = "*";

/// A NACK stays well below the 4 MiB that a server receives by default.
const NACK_MESSAGE_LIMIT: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) type_url: Arc<str>,
    pub(crate) wanted: BTreeSet<Arc<str>>,
    /// Withdrawn and wanted again before the server heard of it: it must hear of both, or it sends nothing.
    again: BTreeSet<Arc<str>>,
    pub(crate) held: BTreeMap<Arc<str>, Held>,
    /// State-of-the-world: the last version that was accepted whole.
    pub(crate) version: Arc<str>,
    pub(crate) fetch_timeout: Option<Duration>,
    awaited: Deadlines,
    expiries: Deadlines,
    /// Known or presumed not to exist.
    pub(crate) missing: BTreeSet<Arc<str>>,
    /// A wildcard needs no fetch timer (any more).
    heard: bool,
    pub(crate) rejected: BTreeMap<Arc<str>, (Rejection, Arc<str>)>,

    waiting: VecDeque<Received>,
    review: Option<Review>,

    /// What the server was told on this stream, if anything.
    pub(crate) told: Option<BTreeSet<Arc<str>>>,
    /// State-of-the-world: an explicit name was sent on this stream, so that an empty list no longer means all.
    pub(crate) named: bool,
    /// The newest on this stream, or empty.
    pub(crate) nonce: String,
    pub(crate) answers: VecDeque<Answer>,
    /// `wanted` may differ from `told`.
    pub(crate) unsettled: bool,

    pub(crate) facts: Facts,
}

/// For `TypeStatus`.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) received: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) fetch_timeouts: u64,
    pub(crate) last_accepted: Option<Instant>,
    pub(crate) last_rejected: Option<RejectedResponse>,
}

/// An accepted resource.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) version: Arc<str>,
    fingerprint: Fingerprint,
    pub(crate) accepted: Instant,
}

/// Length and 64-bit hash of a body: equal for "did not change".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint(usize, u64);

impl Fingerprint {
    fn of(body: &[u8]) -> Self {
        Self(body.len(), rapidhash::v3::rapidhash_v3(body))
    }
}

/// A response that was not looked at yet.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) nonce: String,
    pub(crate) version: Arc<str>,
    /// The whole response, or why it is refused without being read.
    pub(crate) content: Result<Bytes, String>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) nonce: String,
    /// State-of-the-world: the last accepted version.
    pub(crate) version: Arc<str>,
    pub(crate) rejected: Option<String>,
}

/// The response that the caller is judging.
#[derive(Debug)]
struct Review {
    serial: u64,
    /// Whether the stream that it came from still stands.
    answerable: bool,
    nonce: String,
    version: Arc<str>,
    candidates: Vec<Candidate>,
    removed: Vec<Arc<str>>,
    unreadable: Vec<Rejection>,
}

#[derive(Debug)]
struct Candidate {
    name: Arc<str>,
    version: Arc<str>,
    /// Nothing for a heartbeat.
    fingerprint: Option<Fingerprint>,
    ttl: Option<Duration>,
}

impl Subscription {
    pub(crate) fn new(type_url: Arc<str>, fetch_timeout: Option<Duration>) -> Self {
        Self {
            type_url,
            wanted: BTreeSet::new(),
            again: BTreeSet::new(),
            held: BTreeMap::new(),
            version: "".into(),
            fetch_timeout,
            awaited: Deadlines::default(),
            expiries: Deadlines::default(),
            missing: BTreeSet::new(),
            heard: false,
            rejected: BTreeMap::new(),
            waiting: VecDeque::new(),
            review: None,
            told: None,
            named: false,
            nonce: String::new(),
            answers: VecDeque::new(),
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
    }

    fn is_wanted(&self, name: &Arc<str>) -> bool {
        self.wanted.contains(name) || self.wanted.contains(WILDCARD)
    }

    /// Nobody wants it now; if somebody does later, it is new.
    fn forget(&mut self, name: &Arc<str>) {
        self.again.remove(name);
        self.awaited.clear(name);
        if self.is_wanted(name) {
            return;
        }
        self.held.remove(name);
        self.expiries.clear(name);
        self.missing.remove(name);
        self.rejected.remove(name);
        if let Some(review) = &mut self.review {
            review.candidates.retain(|candidate| candidate.name != *name);
        }
    }

    // --- streams

    pub(crate) fn on_stream_open(&mut self) {
        self.unsettled = true;
    }

    pub(crate) fn on_stream_end(&mut self) {
        self.told = None;
        self.named = false;
        self.nonce.clear();
        self.again.clear();
        self.answers.clear();
        self.waiting.clear();
        self.awaited.clear_all();
        if let Some(review) = &mut self.review {
            review.answerable = false;
        }
    }

    // --- requests

    /// Whether asking for the next request is worth it.
    pub(crate) fn has_request(&self, variant: Variant) -> bool {
        !self.answers.is_empty() || (self.unsettled && !self.is_held_back(variant))
    }

    /// A change of interest must wait for the verdict that is due: in state of the world because it would be taken
    /// for the answer, and at the beginning of any stream because the verdict decides what we say that we hold.
    pub(crate) fn is_held_back(&self, variant: Variant) -> bool {
        self.review.is_some() && (variant == Variant::StateOfTheWorld || self.told.is_none())
    }

    /// What to tell the server next: what is wanted, in two steps where it must first hear of a withdrawal.
    pub(crate) fn target(&self) -> BTreeSet<Arc<str>> {
        self.wanted.difference(&self.again).cloned().collect()
    }

    /// The server hears of the withdrawals in what is sent now.
    pub(crate) fn withdrawals_are_heard(&mut self) {
        self.again.clear();
    }

    /// `target` was sent: starts the fetch timers of what is new in it.
    pub(crate) fn tell(&mut self, target: BTreeSet<Arc<str>>, now: Instant) {
        if let Some(deadline) = self.fetch_timeout.map(|timeout| now + timeout) {
            for name in &target {
                let known = self.held.contains_key(name) || self.missing.contains(name);
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

    pub(crate) fn receive(&mut self, received: Received) {
        self.facts.received += 1;
        self.nonce.clone_from(&received.nonce);
        self.waiting.push_back(received);
    }

    /// Takes the next waiting response into review, unless one is there.
    pub(crate) fn review_next(&mut self, variant: Variant, serial: u64, now: Instant) -> Option<Event> {
        if self.review.is_some() {
            return None;
        }
        let Received {
            nonce,
            version,
            content,
        } = self.waiting.pop_front()?;
        self.heard = true;
        self.awaited.clear(&WILDCARD.into());
        let reading = content.and_then(|response| match variant {
            Variant::StateOfTheWorld => sotw::read(response, &self.type_url, &version),
            Variant::Delta => delta::read(response, &self.type_url, &version),
        });
        let duplicate = |name: &Arc<str>| format!("{name}: expected once in a response, found twice");
        match reading.and_then(|reading| reading.duplicate().map(duplicate).map_or(Ok(reading), Err)) {
            Ok(reading) => Some(Event::Update(
                self.begin_review(reading, nonce, version, variant, serial),
            )),
            Err(reason) => {
                let rejections = vec![Rejection::new("response", reason.clone())];
                self.answer(nonce, &version, Err((reason.clone(), rejections)), now);
                Some(Event::Refused {
                    type_url: self.type_url.clone(),
                    version,
                    reason,
                })
            }
        }
    }

    fn begin_review(
        &mut self,
        reading: Reading,
        nonce: String,
        version: Arc<str>,
        variant: Variant,
        serial: u64,
    ) -> Update {
        let removed = self.removals(&reading, variant);
        let mut candidates = Vec::new();
        let mut resources = Vec::new();
        for Entry {
            name,
            version,
            body,
            ttl,
        } in reading.entries
        {
            if !self.is_wanted(&name) {
                continue;
            }
            self.awaited.clear(&name);
            let held = self.held.get(&name);
            let fingerprint = body.as_deref().map(Fingerprint::of);
            if let Some(body) = body.filter(|_| held.map(|held| held.fingerprint) != fingerprint) {
                resources.push(Resource {
                    name: name.clone(),
                    version: version.clone(),
                    body,
                });
            }
            candidates.push(Candidate {
                name,
                version,
                fingerprint,
                ttl,
            });
        }
        let unreadable = reading.unreadable;
        removed
            .iter()
            .chain(unreadable.iter().map(|bad| &bad.name))
            .for_each(|name| self.awaited.clear(name));
        self.review = Some(Review {
            serial,
            answerable: true,
            nonce,
            version: version.clone(),
            candidates,
            removed: removed.clone(),
            unreadable: unreadable.clone(),
        });
        let response = ResponseToken {
            type_url: self.type_url.clone(),
            serial,
        };
        Update {
            type_url: self.type_url.clone(),
            version,
            resources,
            removed,
            unreadable,
            response,
        }
    }

    /// What the response says does not exist, among what is held, rejected or wanted by name.
    fn removals(&self, reading: &Reading, variant: Variant) -> Vec<Arc<str>> {
        let seen = |name: &Arc<str>| self.held.contains_key(name) || self.rejected.contains_key(name);
        let concerns_us = |name: &Arc<str>| seen(name) || self.wanted.contains(name);
        match variant {
            Variant::Delta => reading
                .removed
                .iter()
                .filter(|name| concerns_us(name))
                .cloned()
                .collect(),
            Variant::StateOfTheWorld if absence_is_removal(&self.type_url) && !reading.nameless => {
                let readable = reading.entries.iter().map(|entry| &entry.name);
                let present: HashSet<_> = readable
                    .chain(reading.unreadable.iter().map(|bad| &bad.name))
                    .collect();
                let asked = self
                    .told
                    .iter()
                    .flatten()
                    .filter(|name| self.wanted.contains(*name));
                let asked = asked.filter(|name| &***name != WILDCARD && !self.missing.contains(*name));
                let known: BTreeSet<_> = self
                    .held
                    .keys()
                    .chain(self.rejected.keys())
                    .chain(asked)
                    .collect();
                known
                    .into_iter()
                    .filter(|name| !present.contains(name))
                    .cloned()
                    .collect()
            }
            Variant::StateOfTheWorld => Vec::new(),
        }
    }

    /// The caller's verdict: everything that it did not reject is held from now on.
    pub(crate) fn verdict(&mut self, serial: u64, rejections: Vec<Rejection>, now: Instant) {
        let Some(review) = self.review.take_if(|review| review.serial == serial) else {
            debug_assert!(false, "a token exists only while its response is in review");
            return;
        };
        let mut all = review.unreadable;
        all.extend(rejections);
        let bad: HashMap<&str, &Rejection> = all
            .iter()
            .map(|rejection| (&*rejection.name, rejection))
            .collect();
        for candidate in review.candidates {
            match bad.get(&*candidate.name) {
                None => self.accept(candidate, now),
                Some(&rejection) => {
                    self.rejected
                        .insert(candidate.name, (rejection.clone(), candidate.version));
                }
            }
        }
        for name in &review.removed {
            self.held.remove(name);
            self.expiries.clear(name);
            self.rejected.remove(name);
            if self.wanted.contains(name) {
                self.missing.insert(name.clone());
            }
        }
        let outcome = if all.is_empty() {
            Ok(())
        } else {
            Err((nack_message(&all), all))
        };
        if review.answerable {
            self.answer(review.nonce, &review.version, outcome, now);
        } else {
            self.conclude(
                &review.version,
                outcome.map_err(|(_, rejections)| rejections),
                now,
            );
        }
    }

    fn accept(&mut self, candidate: Candidate, now: Instant) {
        let Candidate {
            name,
            version,
            fingerprint,
            ttl,
        } = candidate;
        match (fingerprint, self.held.get_mut(&name)) {
            (Some(fingerprint), Some(held)) if held.fingerprint == fingerprint => held.version = version,
            (Some(fingerprint), _) => {
                self.held.insert(
                    name.clone(),
                    Held {
                        version,
                        fingerprint,
                        accepted: now,
                    },
                );
            }
            (None, Some(held)) if held.version == version => {}
            // A heartbeat for a version that we do not have says nothing about what we have.
            (None, _) => return,
        }
        self.missing.remove(&name);
        if fingerprint.is_some() {
            self.rejected.remove(&name);
        }
        match ttl {
            Some(ttl) => self.expiries.set(&name, now + ttl),
            None if fingerprint.is_some() => self.expiries.clear(&name),
            None => {}
        }
    }

    fn answer(
        &mut self,
        nonce: String,
        version: &Arc<str>,
        outcome: Result<(), (String, Vec<Rejection>)>,
        now: Instant,
    ) {
        let (rejected, outcome) = match outcome {
            Ok(()) => (None, Ok(())),
            Err((message, rejections)) => (Some(message), Err(rejections)),
        };
        self.conclude(version, outcome, now);
        self.answers.push_back(Answer {
            nonce,
            version: self.version.clone(),
            rejected,
        });
    }

    fn conclude(&mut self, version: &Arc<str>, outcome: Result<(), Vec<Rejection>>, now: Instant) {
        match outcome {
            Ok(()) => {
                self.version = version.clone();
                self.facts.accepted += 1;
                self.facts.last_accepted = Some(now);
            }
            Err(rejections) => {
                self.facts.rejected += 1;
                self.facts.last_rejected = Some(RejectedResponse {
                    version: version.clone(),
                    rejections,
                    at: now,
                });
            }
        }
    }

    /// A response that never became one, from a source that cannot be answered.
    pub(crate) fn refuse(&mut self, reason: String, now: Instant) -> Event {
        self.facts.received += 1;
        let version: Arc<str> = "".into();
        self.conclude(
            &version,
            Err(vec![Rejection::new("response", reason.clone())]),
            now,
        );
        Event::Refused {
            type_url: self.type_url.clone(),
            version,
            reason,
        }
    }

    // --- time

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.awaited.next(), self.expiries.next()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn on_time(&mut self, now: Instant) -> [Option<Event>; 2] {
        let expired = self.expiries.take_due(now);
        for name in &expired {
            self.held.remove(name);
        }
        let overdue = self.awaited.take_due(now);
        self.facts.fetch_timeouts += overdue.len() as u64;
        let all = overdue.iter().any(|name| &**name == WILDCARD);
        self.heard |= all;
        let names: Vec<_> = overdue.into_iter().filter(|name| &**name != WILDCARD).collect();
        self.missing.extend(names.iter().cloned());
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

/// Every bad resource as `name: reason`, one per line; cut with a count where the list is absurdly long.
fn nack_message(rejections: &[Rejection]) -> String {
    let mut message = String::new();
    for (index, Rejection { name, reason }) in rejections.iter().enumerate() {
        if message.len() + name.len() + reason.len() > NACK_MESSAGE_LIMIT {
            message.push_str(&format!("\n(and {} more)", rejections.len() - index));
            break;
        }
        if index > 0 {
            message.push('\n');
        }
        message.push_str(&format!("{name}: {reason}"));
    }
    message
}
