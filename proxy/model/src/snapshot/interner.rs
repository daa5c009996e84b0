//! Names to ids, for the lifetime of the process.
//!
//! Holds: one name has one id for ever, so a route compiled before its cluster arrived finds it afterwards. Names are
//! never forgotten: the cost is the bytes of every distinct name ever seen. Revisit if control planes appear whose
//! names never repeat.

use std::collections::HashMap;
use std::sync::Arc;

use super::Id;
use crate::Name;

/// Gives each distinct name of one kind a small id.
#[derive(Debug)]
pub struct Interner<M> {
    ids: HashMap<Name, Id<M>, rapidhash::fast::RandomState>,
    names: Vec<Name>,
}

impl<M> Interner<M> {
    /// The id of `name`, new if it was never seen.
    pub fn id(&mut self, name: &str) -> Id<M> {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        self.enter(&Arc::from(name))
    }

    /// The id of `name`, which is kept itself if it was never seen.
    pub fn enter(&mut self, name: &Name) -> Id<M> {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = Id::from_index(self.names.len() as u32);
        self.names.push(name.clone());
        self.ids.insert(name.clone(), id);
        id
    }

    /// The id of `name` if it was ever seen.
    pub fn known(&self, name: &str) -> Option<Id<M>> {
        self.ids.get(name).copied()
    }

    /// The name behind an id that this interner made.
    pub fn name(&self, id: Id<M>) -> Option<&Name> {
        self.names.get(id.index())
    }
}

impl<M> Default for Interner<M> {
    fn default() -> Self {
        Self {
            ids: HashMap::default(),
            names: Vec::new(),
        }
    }
}
