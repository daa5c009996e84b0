//! The things that keys were given, for the keys asked for last.
//!
//! Holds: never more than the capacity; who was not asked for longest goes first. A lock for all workers, held for a
//! look and never across a wait.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::Entry;

/// Values by entries.
pub struct Recent<V> {
    capacity: usize,
    kept: Mutex<Kept<V>>,
}

struct Kept<V> {
    values: HashMap<Box<[Entry]>, (Arc<V>, u64)>,
    by_use: BTreeMap<u64, Box<[Entry]>>,
    uses: u64,
}

impl<V> fmt::Debug for Recent<V> {
    /// The capacity only: what is kept is no setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.capacity, f)
    }
}

impl<V> Recent<V> {
    /// Room for so many keys, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            kept: Mutex::new(Kept {
                values: HashMap::new(),
                by_use: BTreeMap::new(),
                uses: 0,
            }),
        }
    }

    /// How many keys there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The value of a key, made where it has none.
    pub fn of(&self, key: &[Entry], make: impl FnOnce() -> V) -> Arc<V> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        let Kept { values, by_use, .. } = &mut *kept;
        if let Some((value, used)) = values.get_mut(key) {
            if let Some(key) = by_use.remove(used) {
                by_use.insert(now, key);
            }
            *used = now;
            return Arc::clone(value);
        }
        if values.len() >= self.capacity
            && let Some((_, oldest)) = by_use.pop_first()
        {
            values.remove(&oldest);
        }
        let value = Arc::new(make());
        values.insert(key.into(), (Arc::clone(&value), now));
        by_use.insert(now, key.into());
        value
    }
}
