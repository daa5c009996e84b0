//! Does the session keep its word in *every* order of events? All reachable states of a small world, one by one.
//!
//! A [`State`] holds one session, a server, the messages between them and a caller. From each state every [`Move`]
//! that is possible is made. Moves that do harm or change somebody's mind are counted against [`Bounds`], so the
//! states are finitely many, and the search ends only when none is left unvisited.
//!
//! What is proven for the bounds: each move keeps the invariants (an answer per response, the newest nonce, what is
//! held is what the caller applied); the moves that are not counted form no cycle, so that without further trouble
//! everything comes to rest in any order; and every state of rest is one where the client has what the server has.
//!
//! The search is deterministic: a failure prints the moves that lead to it, and the same test finds it again.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};

use super::*;

mod bounds;
mod canonical;
mod moves;
mod server;
mod state;

use bounds::{Bounds, Counts, Kind, Pushes};
use moves::Move;
use state::State;

/// What a search saw.
struct Report {
    states: usize,
    transitions: usize,
    at_rest: usize,
    depth: usize,
}

/// A state that was found, and how.
struct Found {
    parent: u32,
    by: Move,
    depth: u32,
}

/// Prints the way to a state when the check of it panics.
struct Way<'a> {
    bounds: &'a Bounds,
    found: &'a [Found],
    at: u32,
    then: Option<Move>,
}

impl<'a> Way<'a> {
    fn to(bounds: &'a Bounds, found: &'a [Found], at: u32, then: Option<Move>) -> Self {
        Self {
            bounds,
            found,
            at,
            then,
        }
    }
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut moves: Vec<Move> = self.then.into_iter().collect();
        let mut at = self.at;
        while at != 0 {
            let found = &self.found[at as usize];
            moves.push(found.by);
            at = found.parent;
        }
        eprintln!("the way to the failure, in {:?}:", self.bounds);
        for step in moves.iter().rev() {
            eprintln!("  {step:?}");
        }
    }
}

fn explore(bounds: &Bounds) -> Report {
    let start = State::new(bounds);
    let mut ids = HashMap::from([(fingerprint(&start), 0_u32)]);
    let mut found = vec![Found {
        parent: 0,
        by: Move::Start,
        depth: 0,
    }];
    let mut frontier = VecDeque::from([(0_u32, start)]);
    // Uncounted moves between states, for the search for cycles.
    let mut free = Vec::new();
    let (mut transitions, mut at_rest) = (0, 0);
    while let Some((id, state)) = frontier.pop_front() {
        let mut rest = true;
        for step in state.moves() {
            let way = Way::to(bounds, &found, id, Some(step));
            let mut next = state.clone();
            next.make(step);
            next.assert_invariants();
            drop(way);
            transitions += 1;
            let fresh = u32::try_from(found.len()).unwrap();
            let to = *ids.entry(fingerprint(&next)).or_insert(fresh);
            if !step.is_counted() {
                rest = false;
                free.push((id, to));
            }
            if to == fresh {
                let depth = found[id as usize].depth + 1;
                found.push(Found {
                    parent: id,
                    by: step,
                    depth,
                });
                frontier.push_back((to, next));
            }
        }
        if rest {
            at_rest += 1;
            let way = Way::to(bounds, &found, id, None);
            state.assert_converged();
            drop(way);
        }
    }
    assert!(frontier.is_empty(), "states were left unvisited");
    assert_eq!(ids.len(), found.len());
    assert_no_cycle(bounds, &found, &free);
    let depth = found.last().map_or(0, |last| last.depth as usize);
    Report {
        states: found.len(),
        transitions,
        at_rest,
        depth,
    }
}

/// Takes away states without an uncounted move into them until none is left; what cannot be taken away is a cycle.
fn assert_no_cycle(bounds: &Bounds, found: &[Found], free: &[(u32, u32)]) {
    let mut incoming = vec![0_u32; found.len()];
    let mut outgoing: Vec<Vec<u32>> = vec![Vec::new(); found.len()];
    for &(from, to) in free {
        incoming[to as usize] += 1;
        outgoing[from as usize].push(to);
    }
    let mut without: Vec<u32> = (0_u32..)
        .zip(&incoming)
        .filter(|(_, count)| **count == 0)
        .map(|(id, _)| id)
        .collect();
    let mut taken = 0;
    while let Some(id) = without.pop() {
        taken += 1;
        for &to in &outgoing[id as usize] {
            incoming[to as usize] -= 1;
            if incoming[to as usize] == 0 {
                without.push(to);
            }
        }
    }
    if let Some(at) = incoming.iter().position(|count| *count > 0) {
        let at = u32::try_from(at).unwrap();
        let _way = Way::to(bounds, found, at, None);
        panic!(
            "{} states can go round for ever without any trouble",
            found.len() - taken
        );
    }
}

/// 128 bits of everything that decides about the future of a state, so that two states are confused once in an age.
fn fingerprint(state: &State<'_>) -> u128 {
    let bytes = state.canonical();
    let mut other = DefaultHasher::new();
    other.write(&bytes);
    (u128::from(rapidhash::v3::rapidhash_v3(&bytes)) << 64) | u128::from(other.finish())
}

/// Explores, and says aloud what was seen.
fn explored(name: &str, bounds: &Bounds) {
    let Report {
        states,
        transitions,
        at_rest,
        depth,
    } = explore(bounds);
    eprintln!(
        "{name}, {:?}: {states} states, {transitions} transitions, {at_rest} at rest, {depth} deep; none left",
        bounds.counts
    );
    assert!(at_rest > 1, "expected several ways to end, found {at_rest}");
}

/// [changes, wishes, breaks, garbage, repeats]: in every run, and with `REMORA_EXPLORE=deep`.
type Sizes = (&'static [[u8; 5]], &'static [[u8; 5]]);

/// Explores a world with each of the sizes that are asked for.
fn every_order(name: &str, world: &Bounds, (quick, deep): Sizes) {
    let is_deep = std::env::var_os("REMORA_EXPLORE").is_some_and(|how| how == "deep");
    for &[changes, wishes, breaks, garbage, repeats] in if is_deep { deep } else { quick } {
        let counts = Counts {
            changes,
            wishes,
            breaks,
            garbage,
            repeats,
        };
        explored(
            name,
            &Bounds {
                counts,
                ..world.clone()
            },
        );
    }
}

fn world(variant: Variant, kinds: &[Kind], names: u8) -> Bounds {
    Bounds {
        variant,
        kinds: kinds.to_vec(),
        pushes: Pushes::Whole,
        names,
        counts: Counts::default(),
        fetch_timeout: false,
    }
}

const SOTW: Variant = Variant::StateOfTheWorld;

#[test]
fn every_order_of_a_wildcard_in_state_of_the_world() {
    let sizes: Sizes = (
        &[[2, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 1, 1, 1]],
        &[[1, 0, 1, 1, 1], [3, 0, 2, 0, 0]],
    );
    every_order("sotw, wildcard", &world(SOTW, &[Kind::Wildcard], 2), sizes);
}

#[test]
fn every_order_of_a_wildcard_in_delta() {
    let sizes: Sizes = (
        &[[2, 0, 1, 0, 0], [1, 0, 0, 1, 1]],
        &[[1, 0, 1, 1, 1], [3, 0, 2, 0, 0]],
    );
    every_order(
        "delta, wildcard",
        &world(Variant::Delta, &[Kind::Wildcard], 2),
        sizes,
    );
}

#[test]
fn every_order_of_names_in_state_of_the_world() {
    let sizes: Sizes = (
        &[[1, 2, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1]],
        &[[1, 2, 1, 0, 0], [1, 1, 0, 1, 0], [0, 2, 1, 1, 0], [0, 4, 0, 0, 0]],
    );
    every_order("sotw, names", &world(SOTW, &[Kind::Named], 2), sizes);
}

#[test]
fn every_order_of_names_with_partial_pushes() {
    let sizes: Sizes = (
        &[[1, 2, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [0, 2, 0, 1, 0]],
        &[[1, 2, 1, 0, 0], [1, 1, 0, 1, 0], [0, 2, 1, 1, 0], [0, 4, 0, 0, 0]],
    );
    let world = Bounds {
        pushes: Pushes::Partial,
        ..world(SOTW, &[Kind::Named], 2)
    };
    every_order("sotw, names, partial pushes", &world, sizes);
}

#[test]
fn every_order_of_names_in_delta() {
    let sizes: Sizes = (
        &[[1, 2, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]],
        &[[1, 2, 1, 0, 0], [1, 1, 0, 1, 0], [0, 2, 1, 1, 0], [0, 4, 0, 0, 0]],
    );
    every_order("delta, names", &world(Variant::Delta, &[Kind::Named], 2), sizes);
}

#[test]
fn every_order_of_three_names() {
    let sizes: Sizes = (&[[0, 2, 0, 0, 0]], &[[1, 2, 0, 0, 0], [0, 3, 1, 0, 0]]);
    every_order("sotw, three names", &world(SOTW, &[Kind::Named], 3), sizes);
    every_order(
        "delta, three names",
        &world(Variant::Delta, &[Kind::Named], 3),
        sizes,
    );
}

#[test]
fn every_order_of_a_wildcard_and_names() {
    let sizes: Sizes = (
        &[[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]],
        &[[1, 2, 1, 0, 0], [1, 1, 0, 1, 0]],
    );
    every_order("sotw, wildcard and names", &world(SOTW, &[Kind::Both], 2), sizes);
    every_order(
        "delta, wildcard and names",
        &world(Variant::Delta, &[Kind::Both], 2),
        sizes,
    );
}

#[test]
fn every_order_of_two_types_on_one_stream() {
    let sizes: Sizes = (
        &[[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0]],
        &[[1, 2, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0]],
    );
    let kinds = [Kind::Wildcard, Kind::Named];
    every_order("sotw, two types", &world(SOTW, &kinds, 1), sizes);
    every_order("delta, two types", &world(Variant::Delta, &kinds, 1), sizes);
}

#[test]
fn every_order_with_fetch_timeouts() {
    let sizes: Sizes = (
        &[[1, 1, 0, 0, 0], [0, 0, 1, 0, 1]],
        &[[1, 2, 1, 0, 0], [1, 1, 0, 1, 0]],
    );
    for variant in [SOTW, Variant::Delta] {
        let world = Bounds {
            fetch_timeout: true,
            ..world(variant, &[Kind::Named], 2)
        };
        every_order(&format!("{variant:?}, fetch timeouts"), &world, sizes);
    }
}
