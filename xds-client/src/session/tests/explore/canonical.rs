//! What of a state decides about its future? Everything but counters, clocks and the names of nonces.
//!
//! Nonces are told by their distance from the server's newest, so that states which differ only in how many responses
//! went before are one. Time only ever passes as a whole, so a deadline is there or is not.

use super::bounds::Counts;
use super::server::Known;
use super::*;
use crate::subscription::{Answer, Subscription};

/// Writes a state down.
struct Writer<'a> {
    bytes: Vec<u8>,
    state: &'a State<'a>,
}

impl State<'_> {
    /// Equal for states with the same future.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut writer = Writer {
            bytes: Vec::with_capacity(512),
            state: self,
        };
        writer.session();
        writer.others();
        writer.bytes
    }
}

impl Writer<'_> {
    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn flag(&mut self, flag: bool) {
        self.byte(flag.into());
    }

    fn count(&mut self, count: usize) {
        self.byte(u8::try_from(count).expect("a small model"));
    }

    fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.byte(0xff);
    }

    fn names<'n>(&mut self, names: impl Iterator<Item = &'n Arc<str>>) {
        names.for_each(|name| self.text(name));
        self.byte(0xfe);
    }

    fn nonce(&mut self, nonce: u32) {
        let newest = self.state.server.nonces();
        self.byte(if nonce == 0 {
            0xff
        } else {
            u8::try_from(newest - nonce).expect("a short past")
        });
    }

    fn nonce_text(&mut self, nonce: &str) {
        self.nonce(nonce.parse().unwrap_or(0));
    }

    fn session(&mut self) {
        let session = &self.state.session;
        assert!(session.events.is_empty());
        self.flag(session.open);
        self.flag(session.introduced);
        for subscription in &session.subscriptions {
            self.subscription(subscription);
        }
    }

    fn subscription(&mut self, of: &Subscription) {
        self.text(&of.type_url);
        self.names(of.wanted.iter());
        self.names(of.again.iter());
        self.names(of.withdrawals.given_up.iter());
        for (name, attempts) in &of.withdrawals.doubted {
            self.text(name);
            self.byte(*attempts);
        }
        self.nonce_text(&of.withdrawals.under);
        for (name, held) in &of.held {
            self.text(name);
            self.text(&held.version);
            self.text(&format!("{:?}", held.fingerprint));
        }
        self.text(&of.version);
        for name in NAMES_AND_STAR {
            self.flag(of.awaited.contains(&name.into()));
        }
        self.names(of.missing.keys());
        self.flag(of.heard);
        for (name, rejected) in &of.rejected {
            self.text(name);
            self.text(&rejected.version);
        }
        for received in &of.waiting {
            self.nonce_text(&received.nonce);
            // The model's versions say all that is in a response.
            self.text(&received.version);
        }
        self.byte(0xfd);
        if let Some(review) = &of.review {
            self.flag(review.answerable);
            self.nonce_text(&review.nonce);
            self.text(&format!("{:?} {:?}", review.version, review.unreadable));
            for candidate in &review.candidates {
                self.text(&candidate.name);
                self.text(&format!("{:?}", candidate.fingerprint));
            }
            self.names(review.removed.iter());
        }
        self.byte(0xfd);
        match &of.told {
            None => self.byte(0xfc),
            Some(told) => self.names(told.iter()),
        }
        self.flag(of.named);
        self.flag(of.dropped);
        self.nonce_text(&of.nonce);
        of.answers.iter().for_each(|answer| self.answer(answer));
        self.byte(0xfd);
        if let Some((_, answer)) = &of.delayed {
            self.answer(answer);
        }
        self.text(&format!("{:?}", of.repetition.last));
        self.flag(of.unsettled);
    }

    fn answer(&mut self, answer: &Answer) {
        self.nonce_text(&answer.nonce);
        self.text(&answer.version);
        self.text(answer.rejected.as_deref().unwrap_or_default());
    }

    fn others(&mut self) {
        let state = self.state;
        self.bytes.extend_from_slice(state.server.world.as_flattened());
        for watch in &state.server.watches {
            self.flag(watch.asked);
            self.flag(watch.wildcard);
            self.flag(watch.named);
            self.byte(watch.names);
            for known in watch.known {
                self.byte(match known {
                    Known::Nothing => 0xff,
                    Known::ToldGone => 0xfe,
                    Known::Unsure => 0xfd,
                    Known::Has(content) => content,
                });
            }
            self.flag(watch.push_due);
            self.nonce(watch.nonce);
        }
        for heard in &state.to_server {
            self.count(heard.index);
            self.nonce(heard.nonce);
            self.flag(heard.rejects);
            self.flag(heard.star);
            self.byte(heard.names);
            self.byte(heard.unsubscribed);
            self.bytes.extend_from_slice(&heard.initial);
        }
        self.byte(0xfd);
        for push in &state.to_client {
            self.count(push.index);
            self.nonce(push.nonce);
            self.text(&format!("{:?} {:?}", push.resources, push.garbage));
            self.byte(push.removed);
        }
        self.byte(0xfd);
        for account in &state.accounts {
            account.unanswered.iter().for_each(|nonce| self.nonce(*nonce));
            self.nonce(account.newest);
            self.text(&format!("{:?}", account.last));
        }
        self.bytes.extend_from_slice(&state.wanted);
        self.bytes.extend_from_slice(state.applied.as_flattened());
        for in_hand in &state.in_hand {
            let judged = in_hand.as_ref().map(|in_hand| (in_hand.rejects, in_hand.garbage));
            self.text(&format!("{judged:?}"));
        }
        let Counts {
            changes,
            wishes,
            breaks,
            garbage,
            repeats,
        } = state.left;
        self.bytes
            .extend_from_slice(&[changes, wishes, breaks, garbage, repeats]);
    }
}

const NAMES_AND_STAR: [&str; 4] = ["a", "b", "c", "*"];
