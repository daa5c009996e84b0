//! The matcher dialect: `xds.type.matcher.v3.Matcher` with actions of `envoy.config.rbac.v3.Action`.
//!
//! Holds: all leaves that some reading of the facts leads to are found, and the strictest decides; where a reading leads
//! to none, the request is refused. A nested tree without a match goes on after itself, as in Envoy.

use std::collections::HashMap;

use super::input::Readings;
use super::{AccessFacts, Action, Condition, Input, Truth, Verdict};
use crate::Name;

/// `Matcher`.
#[derive(Debug, Clone)]
pub struct MatchTree {
    /// What is asked.
    pub selection: Selection,
    /// `on_no_match`.
    pub otherwise: Option<Box<Reaction>>,
    /// A leaf says `LOG` somewhere.
    pub logs: bool,
}

/// `matcher_type`.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Not said: `on_no_match` holds.
    Nothing,
    /// `matcher_list`: the first that holds.
    List(Vec<Branch>),
    /// `exact_match_map`.
    Exact(Input, HashMap<Box<[u8]>, Reaction>),
    /// `prefix_match_map`, the longest first.
    Prefix(Input, Vec<(Box<[u8]>, Reaction)>),
}

/// `FieldMatcher`.
#[derive(Debug, Clone)]
pub struct Branch {
    /// When.
    pub condition: Condition,
    /// What then.
    pub reaction: Reaction,
}

/// `OnMatch`.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// `action`.
    Leaf(Leaf),
    /// `matcher`.
    Tree(Box<MatchTree>),
}

/// `envoy.config.rbac.v3.Action`.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// `name`.
    pub name: Name,
    /// `action`.
    pub action: Action,
}

/// The leaves that were reached.
#[derive(Default)]
struct Reached<'t> {
    strictest: Option<&'t Leaf>,
    /// The search ended early.
    unknown: bool,
}

impl<'t> Reached<'t> {
    fn reach(&mut self, leaf: &'t Leaf) {
        let stricter = self
            .strictest
            .is_none_or(|known| known.action != Action::Deny && leaf.action == Action::Deny);
        if stricter {
            self.strictest = Some(leaf);
        }
    }
}

impl MatchTree {
    pub(super) fn judge(&self, facts: &AccessFacts<'_>) -> Verdict<'_> {
        let mut reached = Reached::default();
        let may_miss = self.walk(facts, &mut reached);
        let leaf = reached
            .strictest
            .filter(|leaf| !(may_miss || reached.unknown) || leaf.action == Action::Deny);
        Verdict {
            allowed: leaf.is_some_and(|leaf| leaf.action != Action::Deny),
            policy: leaf.map(|leaf| &leaf.name),
            log: leaf.filter(|_| self.logs).map(|leaf| leaf.action == Action::Log),
        }
    }

    /// Enters the leaves that may be taken; whether a reading takes none.
    fn walk<'t>(&'t self, facts: &AccessFacts<'_>, reached: &mut Reached<'t>) -> bool {
        let may_miss = match &self.selection {
            Selection::Nothing => true,
            Selection::List(branches) => first_of(branches, facts, reached),
            Selection::Exact(input, map) => every_reading(input, facts, reached, |text, reached| {
                map.get(text).is_none_or(|reaction| reaction.walk(facts, reached))
            }),
            Selection::Prefix(input, prefixes) => every_reading(input, facts, reached, |text, reached| {
                let mut fitting = prefixes.iter().filter(|(prefix, _)| text.starts_with(prefix));
                fitting.all(|(_, reaction)| reaction.walk(facts, reached))
            }),
        };
        match &self.otherwise {
            Some(otherwise) if may_miss && !reached.unknown => otherwise.walk(facts, reached),
            _ => may_miss,
        }
    }
}

fn first_of<'t>(branches: &'t [Branch], facts: &AccessFacts<'_>, reached: &mut Reached<'t>) -> bool {
    for branch in branches {
        let truth = branch.condition.truth(facts);
        match truth {
            Truth::No => continue,
            Truth::Maybe | Truth::Yes => {}
            Truth::Unknown => {
                reached.unknown = true;
                return true;
            }
        }
        let may_miss = branch.reaction.walk(facts, reached);
        if truth == Truth::Yes && !may_miss {
            return false;
        }
    }
    true
}

/// Whether a reading of the input misses; an input that is not there does.
fn every_reading<'t>(
    input: &Input,
    facts: &AccessFacts<'_>,
    reached: &mut Reached<'t>,
    misses: impl Fn(&[u8], &mut Reached<'t>) -> bool,
) -> bool {
    let readings = input.readings(facts);
    reached.unknown |= matches!(readings, Readings::Unknown);
    let (mut any, mut missed) = (false, false);
    for text in readings.iter() {
        any = true;
        missed |= misses(text, reached);
    }
    !any || missed
}

impl Reaction {
    fn walk<'t>(&'t self, facts: &AccessFacts<'_>, reached: &mut Reached<'t>) -> bool {
        match self {
            Self::Leaf(leaf) => {
                reached.reach(leaf);
                false
            }
            Self::Tree(tree) => tree.walk(facts, reached),
        }
    }
}
