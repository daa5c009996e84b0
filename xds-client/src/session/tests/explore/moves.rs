//! What can happen next?

use super::bounds::{Counts, Kind};
use super::server::{BAD, Content, GONE};
use super::*;

/// One thing that happens. Types and names are indices, sets of names are bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// Not a move: how the search began.
    Start,
    ClientSends,
    ServerReads,
    ServerPushes(usize),
    ClientReads,
    CallerJudges(usize),
    StreamOpens,
    /// Long enough for everything that waits.
    TimePasses,

    Changes(usize, u8, Content),
    Wishes(usize, u8),
    StreamBreaks,
    SendsGarbage(usize, Garbage),
    /// The same state under a new nonce.
    PushesAgain(usize),
    /// The last response once more, nonce and all.
    SendsTwice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Garbage {
    /// Not a message.
    Noise,
    /// A push with one more resource that cannot be decoded.
    BadEntry,
    /// A push that names a resource twice.
    Twice,
    /// A push with a resource that nobody asked for.
    Stranger,
}

const GARBAGE: [Garbage; 4] = [
    Garbage::Noise,
    Garbage::BadEntry,
    Garbage::Twice,
    Garbage::Stranger,
];

impl Move {
    /// Whether it is trouble, or somebody's change of mind; the others are the protocol at work.
    pub(super) fn is_counted(self) -> bool {
        matches!(
            self,
            Self::Changes(..)
                | Self::Wishes(..)
                | Self::StreamBreaks
                | Self::SendsGarbage(..)
                | Self::PushesAgain(_)
                | Self::SendsTwice
        )
    }
}

impl State<'_> {
    /// Every move that changes something here.
    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        self.push_protocol(&mut moves);
        self.push_trouble(&mut moves);
        moves
    }

    fn push_protocol(&self, moves: &mut Vec<Move>) {
        let mut push = |possible: bool, step: Move| {
            if possible {
                moves.push(step);
            }
        };
        push(!self.session.is_open(), Move::StreamOpens);
        push(self.session.has_request(), Move::ClientSends);
        push(!self.to_server.is_empty(), Move::ServerReads);
        push(
            !self.to_client.is_empty() && self.session.wants_messages(),
            Move::ClientReads,
        );
        push(self.session.next_deadline().is_some(), Move::TimePasses);
        for index in 0..self.bounds.kinds.len() {
            push(self.server.owes(self.bounds, index), Move::ServerPushes(index));
            push(self.in_hand[index].is_some(), Move::CallerJudges(index));
        }
    }

    fn push_trouble(&self, moves: &mut Vec<Move>) {
        let Counts {
            changes,
            wishes,
            breaks,
            garbage,
            repeats,
        } = self.left;
        let types = 0..self.bounds.kinds.len();
        let open = self.session.is_open();
        if changes > 0 {
            for index in types.clone() {
                for name in 0..self.bounds.names {
                    let now = self.server.world[index][usize::from(name)];
                    let others = (GONE..=BAD).filter(|content| *content != now);
                    moves.extend(others.map(|content| Move::Changes(index, name, content)));
                }
            }
        }
        if wishes > 0 {
            for index in types
                .clone()
                .filter(|index| self.bounds.kinds[*index] != Kind::Wildcard)
            {
                let others = (0..1_u8 << self.bounds.names).filter(|names| *names != self.wanted[index]);
                moves.extend(others.map(|names| Move::Wishes(index, names)));
            }
        }
        if breaks > 0 && open {
            moves.push(Move::StreamBreaks);
        }
        for index in types.filter(|index| open && self.server.watches[*index].asked) {
            if garbage > 0 {
                // All that is sent is asked for by a wildcard.
                let strange = self.bounds.kinds[index] == Kind::Named;
                let kinds = GARBAGE
                    .into_iter()
                    .filter(|kind| strange || *kind != Garbage::Stranger);
                moves.extend(kinds.map(|kind| Move::SendsGarbage(index, kind)));
            }
            if repeats > 0 {
                moves.push(Move::PushesAgain(index));
            }
        }
        if repeats > 0 && !self.to_client.is_empty() {
            moves.push(Move::SendsTwice);
        }
    }
}
