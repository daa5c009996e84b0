//! The routes of a virtual host, in order, and a short way to those that can match a path.
//!
//! Holds: the first route in order that matches is the one that is taken, whichever way it was found. The index is a
//! superset by the literal that a path must begin with, so routes are still asked themselves. Where there are few
//! routes, or their literals have nearly as many lengths, there is none: asking each is cheaper then.

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Route;

/// From so many routes on an index may pay.
const MANY: usize = 32;

/// One look into the index costs about as much as asking so many routes.
const LOOK: usize = 4;

/// Routes in order.
#[derive(Debug, Default)]
pub struct RouteList {
    routes: Box<[Arc<Route>]>,
    index: Option<Box<Index>>,
}

/// Positions of routes by what a path must begin with.
#[derive(Debug)]
struct Index {
    /// Lengths of literals, rising.
    lengths: Box<[usize]>,
    /// By the hash of a literal; what shares one is asked in vain.
    by_literal: HashMap<u64, SmallVec<[u32; 2]>, rapidhash::fast::RandomState>,
    /// Routes without a literal.
    others: Box<[u32]>,
}

impl From<Vec<Arc<Route>>> for RouteList {
    fn from(routes: Vec<Arc<Route>>) -> Self {
        Self {
            index: Index::over(&routes),
            routes: routes.into(),
        }
    }
}

impl Deref for RouteList {
    type Target = [Arc<Route>];

    fn deref(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

impl<'l> IntoIterator for &'l RouteList {
    type Item = &'l Arc<Route>;
    type IntoIter = std::slice::Iter<'l, Arc<Route>>;

    fn into_iter(self) -> Self::IntoIter {
        self.routes.iter()
    }
}

impl RouteList {
    /// The first route for which `matches` says so; it is only asked for routes that a request with this path (without
    /// query) can take.
    pub fn first(&self, path: &str, mut matches: impl FnMut(&Route) -> bool) -> Option<&Arc<Route>> {
        let Some(index) = &self.index else {
            return self.routes.iter().find(|route| matches(route));
        };
        let mut lists = index.candidates(path.as_bytes());
        loop {
            let next = lists.iter().filter_map(|list| list.first()).min().copied()?;
            for list in &mut lists {
                if list.first() == Some(&next) {
                    *list = &list[1..];
                }
            }
            let route = self.routes.get(next as usize)?;
            if matches(route) {
                return Some(route);
            }
        }
    }
}

impl Index {
    fn over(routes: &[Arc<Route>]) -> Option<Box<Self>> {
        if routes.len() < MANY {
            return None;
        }
        let mut lengths = BTreeSet::new();
        let mut others = Vec::new();
        let mut by_literal: HashMap<u64, SmallVec<[u32; 2]>, _> = HashMap::default();
        for (position, route) in routes.iter().enumerate() {
            let position = u32::try_from(position).ok()?;
            match route.criteria.path.literal() {
                Some(literal) => {
                    lengths.insert(literal.len());
                    by_literal
                        .entry(hash(literal.as_bytes()))
                        .or_default()
                        .push(position);
                }
                None => others.push(position),
            }
        }
        if lengths.len() * LOOK + others.len() > routes.len() {
            return None;
        }
        by_literal.shrink_to_fit();
        Some(Box::new(Self {
            lengths: lengths.into_iter().collect(),
            by_literal,
            others: others.into(),
        }))
    }

    /// Rising positions, by literal.
    fn candidates(&self, path: &[u8]) -> SmallVec<[&[u32]; 8]> {
        let beginnings = self.lengths.iter().map_while(|length| path.get(..*length));
        beginnings
            .filter_map(|beginning| self.by_literal.get(&hash(beginning)))
            .map(SmallVec::as_slice)
            .chain([&*self.others])
            .collect()
    }
}

fn hash(literal: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(literal)
}
