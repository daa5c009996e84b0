//! The server of the model: as strict as the specification lets it be, and no kinder than real ones.

use super::bounds::{Bounds, Kind, Pushes};
use super::moves::Garbage;
use super::*;

/// What there is of a resource: nothing, one of two good versions, or one that the caller refuses.
pub(super) type Content = u8;
pub(super) const GONE: Content = 0;
pub(super) const BAD: Content = 3;

pub(super) const NAMES: [&str; 3] = ["a", "b", "c"];
/// The most types, and the most names, that a model has.
pub(super) const TYPES: usize = 2;
pub(super) type ByName<T> = [T; 3];

pub(super) fn bits(names: u8) -> impl Iterator<Item = usize> {
    (0..NAMES.len()).filter(move |name| names & (1 << name) != 0)
}

pub(super) fn bit_of(name: &str) -> u8 {
    1 << NAMES
        .iter()
        .position(|known| *known == name)
        .expect("a name of the model")
}

/// What the client is known to have of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Has(Content),
    ToldGone,
    /// Given up by name under a wildcard: it is owed the resource or its removal, to know whether the wildcard covers it.
    Unsure,
}

/// What one stream says of one type.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) asked: bool,
    pub(super) wildcard: bool,
    /// An explicit name was seen: an empty list is an empty list from now on.
    pub(super) named: bool,
    pub(super) names: u8,
    pub(super) known: ByName<Known>,
    pub(super) push_due: bool,
    /// The newest; 0 before the first.
    pub(super) nonce: u32,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            asked: false,
            wildcard: false,
            named: false,
            names: 0,
            known: [Known::Nothing; 3],
            push_due: false,
            nonce: 0,
        }
    }
}

/// A request as the server reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Heard {
    pub(super) index: usize,
    pub(super) nonce: u32,
    pub(super) rejects: bool,
    /// State of the world: all names. Delta: new ones.
    pub(super) names: u8,
    pub(super) star: bool,
    pub(super) unsubscribed: u8,
    pub(super) initial: ByName<Content>,
}

/// A response on its way.
#[derive(Clone, Debug)]
pub(super) struct Push {
    pub(super) index: usize,
    pub(super) nonce: u32,
    pub(super) resources: Vec<(usize, Content)>,
    pub(super) removed: u8,
    pub(super) garbage: Option<Garbage>,
}

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) world: [ByName<Content>; TYPES],
    pub(super) watches: [Watch; TYPES],
    nonces: u32,
}

impl Server {
    /// It has one version of everything.
    pub(super) fn new(bounds: &Bounds) -> Self {
        let mut world = [[GONE; 3]; TYPES];
        for contents in &mut world[..bounds.kinds.len()] {
            contents[..usize::from(bounds.names)].fill(1);
        }
        Self {
            world,
            watches: Default::default(),
            nonces: 0,
        }
    }

    /// The newest nonce of all.
    pub(super) fn nonces(&self) -> u32 {
        self.nonces
    }

    pub(super) fn stream_ends(&mut self) {
        self.watches = Default::default();
    }

    pub(super) fn change(&mut self, index: usize, name: u8, content: Content) {
        self.world[index][usize::from(name)] = content;
        self.watches[index].push_due = self.watches[index].asked;
    }

    /// Whether there is something to say to the client.
    pub(super) fn owes(&self, bounds: &Bounds, index: usize) -> bool {
        let watch = &self.watches[index];
        watch.asked
            && match whole(bounds, index) {
                true => watch.push_due,
                false => {
                    let (fresh, gone) = self.news(bounds, index);
                    !fresh.is_empty() || gone != 0
                }
            }
    }

    fn is_wanted(&self, index: usize, name: usize) -> bool {
        let watch = &self.watches[index];
        watch.wildcard || watch.names & (1 << name) != 0
    }

    /// What the client is not known to know.
    fn news(&self, bounds: &Bounds, index: usize) -> (Vec<(usize, Content)>, u8) {
        let watch = &self.watches[index];
        let (mut fresh, mut gone) = (Vec::new(), 0);
        for name in 0..usize::from(bounds.names) {
            let (content, known) = (self.world[index][name], watch.known[name]);
            if !self.is_wanted(index, name) {
                continue;
            }
            if content != GONE && known != Known::Has(content) {
                fresh.push((name, content));
            }
            let named = watch.names & (1 << name) != 0;
            let unaware =
                matches!(known, Known::Has(_) | Known::Unsure) || (named && known == Known::Nothing);
            if bounds.variant == Variant::Delta && content == GONE && unaware {
                gone |= 1 << name;
            }
        }
        (fresh, gone)
    }

    /// Forgets what the client knows, so that it is told again.
    pub(super) fn forget(&mut self, index: usize) {
        let watch = &mut self.watches[index];
        watch.push_due = true;
        let present = watch.known.iter_mut().zip(self.world[index]);
        for (known, _) in present.filter(|(_, content)| *content != GONE) {
            *known = Known::Nothing;
        }
    }

    pub(super) fn push(&mut self, bounds: &Bounds, index: usize, garbage: Option<Garbage>) -> Push {
        let (resources, removed) = if whole(bounds, index) {
            let present = (0..usize::from(bounds.names)).map(|name| (name, self.world[index][name]));
            let present = present.filter(|(name, content)| *content != GONE && self.is_wanted(index, *name));
            (present.collect(), 0)
        } else {
            self.news(bounds, index)
        };
        self.nonces += 1;
        let watch = &mut self.watches[index];
        watch.nonce = self.nonces;
        // What cannot be applied as it stands is corrected by another push.
        let whole_garbage = garbage.is_some_and(|garbage| garbage != Garbage::Stranger);
        watch.push_due = whole_garbage;
        if garbage != Some(Garbage::Twice) {
            for (name, content) in &resources {
                watch.known[*name] = Known::Has(*content);
            }
            for name in bits(removed) {
                watch.known[name] = Known::ToldGone;
            }
        }
        Push {
            index,
            nonce: self.nonces,
            resources,
            removed,
            garbage,
        }
    }

    pub(super) fn read(&mut self, bounds: &Bounds, heard: &Heard) {
        match bounds.variant {
            Variant::StateOfTheWorld => self.read_sotw(heard),
            Variant::Delta => self.read_delta(heard),
        }
    }

    fn read_sotw(&mut self, heard: &Heard) {
        let watch = &mut self.watches[heard.index];
        if heard.nonce != watch.nonce {
            return; // Stale: servers drop it.
        }
        watch.named |= heard.star || heard.names != 0;
        let wildcard = heard.star || !watch.named;
        let added = heard.names & !watch.names;
        // Also when it wants less: servers that look at nothing but "changed" do that.
        watch.push_due |= !watch.asked || heard.names != watch.names || wildcard != watch.wildcard;
        for name in bits(!heard.names).filter(|_| !wildcard) {
            watch.known[name] = Known::Nothing;
        }
        for name in bits(added) {
            watch.known[name] = Known::Nothing;
        }
        watch.asked = true;
        watch.wildcard = wildcard;
        watch.names = heard.names;
    }

    fn read_delta(&mut self, heard: &Heard) {
        let watch = &mut self.watches[heard.index];
        if !watch.asked {
            watch.asked = true;
            watch.wildcard = heard.star || heard.names == 0;
            watch.names = heard.names;
            for (known, held) in watch.known.iter_mut().zip(heard.initial) {
                *known = if held == GONE {
                    Known::Nothing
                } else {
                    Known::Has(held)
                };
            }
            return;
        }
        assert_eq!(
            heard.initial, [GONE; 3],
            "initial versions belong to the first request"
        );
        assert_eq!(
            heard.unsubscribed & !watch.names,
            0,
            "unsubscribed from what was not subscribed"
        );
        watch.wildcard |= heard.star;
        watch.names = (watch.names & !heard.unsubscribed) | heard.names;
        for name in bits(heard.names) {
            watch.known[name] = Known::Nothing;
        }
        for name in bits(heard.unsubscribed) {
            watch.known[name] = if watch.wildcard {
                Known::Unsure
            } else {
                Known::Nothing
            };
        }
    }

    /// Whether the client's wishes have come across.
    pub(super) fn assert_knows(&self, index: usize, wanted: u8, kind: Kind) {
        let watch = &self.watches[index];
        if watch.asked || wanted != 0 {
            assert_eq!(watch.names, wanted, "a subscription was lost, or lives on");
        }
        assert_eq!(watch.wildcard, watch.asked && kind != Kind::Named);
    }
}

/// Whether a response says everything.
fn whole(bounds: &Bounds, index: usize) -> bool {
    bounds.variant == Variant::StateOfTheWorld
        && (bounds.kinds[index] != Kind::Named || bounds.pushes == Pushes::Whole)
}
