//! What does a response change? From its arrival to its answer.
//!
//! ```text
//! received -> waiting -> in review (the caller has it) -> verdict -> answer -> sent
//!                    \-> refused here (duplicate, too large, unreadable) ----^
//! ```
//! What holds: at most one response of a type is in review, so "changed" always means changed since what the caller
//! accepted last; each response leaves exactly one answer, or none once its stream is gone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::reading::{Entry, Reading};
use crate::resource_type::absence_is_removal;
use crate::session::Variant;
use crate::status::{RejectedResource, RejectedResponse, ResourceError};
use crate::subscription::{Absence, Answer, Received, Subscription, WILDCARD};
use crate::update::{Event, Rejection, Resource, ResponseToken, Update};
use crate::wire::Status;
use crate::{delta, sotw};

/// So many new resources in one response are worth tidying up after.
const MANY: usize = 1024;

/// A NACK stays well below the 4 MiB that a server receives by default.
const NACK_MESSAGE_LIMIT: usize = 256 * 1024;

/// One reason in it, bytes: a resource that says too much must not silence the others.
const NACK_REASON_LIMIT: usize = 8 * 1024;

/// An accepted resource.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) version: Arc<str>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) accepted: Instant,
}

/// Length and 64-bit hash of a body: equal for "did not change".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(usize, u64);

impl Fingerprint {
    fn of(body: &[u8]) -> Self {
        Self(body.len(), rapidhash::v3::rapidhash_v3(body))
    }
}

/// The response that the caller is judging.
#[derive(Clone, Debug)]
pub(crate) struct Review {
    pub(crate) serial: u64,
    /// Whether the stream that it came from still stands.
    pub(crate) answerable: bool,
    pub(crate) nonce: String,
    pub(crate) version: Arc<str>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) removed: Vec<Arc<str>>,
    pub(crate) unreadable: Vec<Rejection>,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
    /// Nothing for a heartbeat.
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) ttl: Option<Duration>,
}

impl Review {
    /// Given up while in review: what the verdict says of it no longer counts.
    pub(crate) fn forget(&mut self, name: &Arc<str>) {
        self.candidates.retain(|candidate| candidate.name != *name);
        self.removed.retain(|removed| removed != name);
    }

    pub(crate) fn stream_ended(&mut self) {
        self.answerable = false;
    }
}

impl Subscription {
    /// Takes the next waiting response into review, unless one is there.
    pub(crate) fn review_next(&mut self, variant: Variant, serial: u64, now: Instant) -> Vec<Event> {
        if self.review.is_some() {
            return Vec::new();
        }
        let Some(Received {
            nonce,
            version,
            content,
        }) = self.waiting.pop_front()
        else {
            return Vec::new();
        };
        self.heard = true;
        self.awaited.clear(&WILDCARD.into());
        let reading = content.and_then(|response| match variant {
            Variant::StateOfTheWorld => sotw::read(response, &self.type_url, &version),
            Variant::Delta => delta::read(response, &self.type_url, &version),
        });
        let duplicate = |name: &Arc<str>| format!("{name}: expected once in a response, found twice");
        let reading = reading.and_then(|reading| reading.duplicate().map(duplicate).map_or(Ok(reading), Err));
        if variant == Variant::StateOfTheWorld && !self.withdrawals.doubted.is_empty() {
            let arrived: HashSet<&Arc<str>> = match &reading {
                Ok(reading) => reading.entries.iter().map(|entry| &entry.name).collect(),
                // Nothing arrives in what is refused.
                Err(_) => HashSet::new(),
            };
            self.doubt(|name| arrived.contains(name));
        }
        match reading {
            Ok(reading) => {
                let refused = self.note_errors(&reading.errors, now);
                let update = self.begin_review(reading, nonce, version, variant, serial);
                refused.into_iter().chain([Event::Update(update)]).collect()
            }
            Err(reason) => {
                let rejections = vec![Rejection::new("response", reason.clone())];
                self.answer(nonce, &version, Err((reason.clone(), rejections)), now);
                vec![Event::Refused {
                    type_url: self.type_url.clone(),
                    version,
                    reason,
                }]
            }
        }
    }

    /// Remembers what the server cannot give. What is held stays in use; what it says not to have for us is not waited
    /// for (gRFC A88: NOT_FOUND and PERMISSION_DENIED are about the resource, everything else may pass).
    fn note_errors(&mut self, errors: &[(Arc<str>, Status)], now: Instant) -> Option<Event> {
        let mut given_up = Vec::new();
        for (name, Status { code, message }) in errors {
            if !self.is_wanted(name) {
                continue;
            }
            let error = ResourceError {
                code: *code,
                message: message.clone(),
                at: now,
            };
            let known = self.held.contains_key(name) || self.missing.contains_key(name);
            if error.is_data_error() && !known {
                self.awaited.clear(name);
                self.missing.insert(name.clone(), Absence::Told);
                given_up.push(name.clone());
            }
            self.errors.insert(name.clone(), error);
        }
        (!given_up.is_empty()).then(|| Event::Missing {
            type_url: self.type_url.clone(),
            names: given_up,
        })
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
                self.dropped |= self.told.as_ref().is_some_and(|told| !told.contains(&name));
                continue;
            }
            // The name that the caller gave, so that there is one of each.
            let name = self.wanted.get(&name).cloned().unwrap_or(name);
            self.awaited.clear(&name);
            self.errors.remove(&name);
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
                let present = reading.present();
                let asked = self
                    .told
                    .iter()
                    .flatten()
                    .filter(|name| self.wanted.contains(*name));
                let asked = asked.filter(|name| &***name != WILDCARD && !self.missing.contains_key(*name));
                let known = self.held.keys().chain(self.rejected.keys()).chain(asked);
                let absent: BTreeSet<_> = known.filter(|name| !present.contains(name)).collect();
                absent.into_iter().cloned().collect()
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
        let before = self.held.len();
        for candidate in review.candidates {
            match bad.get(&*candidate.name) {
                None => self.accept(candidate, now),
                Some(&rejection) => {
                    self.rejected.insert(
                        candidate.name,
                        RejectedResource {
                            version: candidate.version,
                            reason: rejection.reason.clone(),
                            at: now,
                        },
                    );
                }
            }
        }
        if self.held.len() >= before + MANY {
            // A map that grew name by name is half empty.
            self.held = std::mem::take(&mut self.held).into_iter().collect();
        }
        for name in &review.removed {
            self.held.remove(name);
            self.expiries.clear(name);
            self.rejected.remove(name);
            self.errors.remove(name);
            if self.wanted.contains(name) {
                self.missing.insert(name.clone(), Absence::Told);
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
        let delay = self.repetition.delay(version, rejected.as_ref());
        let answer = Answer {
            nonce,
            version: self.version.clone(),
            rejected,
        };
        self.push_answer(answer, delay, now);
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
}

/// Every bad resource as `name: reason`, one per line; cut with a count where the list is absurdly long.
fn nack_message(rejections: &[Rejection]) -> String {
    let mut message = String::new();
    for (index, Rejection { name, reason }) in rejections.iter().enumerate() {
        let reason = &reason[..reason.floor_char_boundary(NACK_REASON_LIMIT)];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_names_as_many_as_fit_and_counts_the_rest() {
        let mut rejections = vec![Rejection::new("first", "\u{e9}".repeat(NACK_REASON_LIMIT))];
        rejections.extend((0..10_000).map(|index| Rejection::new(format!("r{index}"), "x".repeat(100))));
        let message = nack_message(&rejections);
        assert!(message.len() < NACK_MESSAGE_LIMIT + 100);
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(lines[0].len(), "first: ".len() + NACK_REASON_LIMIT);
        assert!(lines[1].starts_with("r0: x"));
        assert_eq!(
            lines[lines.len() - 1],
            format!("(and {} more)", rejections.len() + 1 - lines.len())
        );
    }
}
