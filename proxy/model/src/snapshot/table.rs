//! A table of parts by small id whose copy costs one pointer per 128 entries.
//!
//! Holds: reading is two loads; a changed copy shares every untouched chunk with its original.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

/// Entries per chunk: a change copies this many pointers, and one pointer per chunk of the table.
const CHUNK: usize = 128;

/// A small number that stands for a name; `M` keeps ids of different kinds apart.
pub struct Id<M> {
    index: u32,
    mark: PhantomData<fn() -> M>,
}

impl<M> Id<M> {
    /// The id with this index; only an [`super::Interner`] should make new ones.
    pub const fn from_index(index: u32) -> Self {
        Self {
            index,
            mark: PhantomData,
        }
    }

    /// The index, for arrays that run parallel to the table.
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

impl<M> Clone for Id<M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for Id<M> {}
impl<M> PartialEq for Id<M> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index
    }
}
impl<M> Eq for Id<M> {}
impl<M> PartialOrd for Id<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<M> Ord for Id<M> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.index.cmp(&other.index)
    }
}
impl<M> Hash for Id<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.index.hash(state);
    }
}
impl<M> fmt::Debug for Id<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.index)
    }
}

/// Parts by id. `T` is an `Arc` or something as cheap to clone.
pub struct IdTable<M, T> {
    chunks: Vec<Arc<[Option<T>; CHUNK]>>,
    len: usize,
    mark: PhantomData<fn() -> M>,
}

impl<M, T: Clone> IdTable<M, T> {
    /// The part with this id.
    pub fn at(&self, id: Id<M>) -> Option<&T> {
        self.chunks.get(id.index() / CHUNK)?[id.index() % CHUNK].as_ref()
    }

    /// How many parts are there.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no part is there.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether both are the same version: every chunk is shared, so nothing was set between them.
    pub fn is_same(&self, other: &Self) -> bool {
        let pairs = self.chunks.iter().zip(&other.chunks);
        self.chunks.len() == other.chunks.len()
            && pairs.into_iter().all(|(own, other)| Arc::ptr_eq(own, other))
    }

    /// Sets or clears one part and returns what stood there. Copies the one chunk if it is shared.
    pub fn set(&mut self, id: Id<M>, part: Option<T>) -> Option<T> {
        let (chunk, slot) = (id.index() / CHUNK, id.index() % CHUNK);
        if part.is_none() && chunk >= self.chunks.len() {
            return None;
        }
        while self.chunks.len() <= chunk {
            self.chunks.push(Arc::new([const { None }; CHUNK]));
        }
        let before = std::mem::replace(&mut Arc::make_mut(&mut self.chunks[chunk])[slot], part);
        let now = self.chunks[chunk][slot].is_some();
        self.len = self.len + usize::from(now) - usize::from(before.is_some());
        before
    }

    /// All parts in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Id<M>, &T)> {
        self.chunks.iter().enumerate().flat_map(|(c, chunk)| {
            chunk
                .iter()
                .enumerate()
                .filter_map(move |(s, part)| Some((Id::from_index((c * CHUNK + s) as u32), part.as_ref()?)))
        })
    }
}

impl<M, T> Clone for IdTable<M, T> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
            mark: PhantomData,
        }
    }
}

impl<M, T> Default for IdTable<M, T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            mark: PhantomData,
        }
    }
}

impl<M, T> fmt::Debug for IdTable<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdTable")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Mark {}
    type Table = IdTable<Mark, Arc<u32>>;

    #[test]
    fn a_changed_copy_leaves_the_original_and_shares_the_rest() {
        let mut first = Table::default();
        for i in 0..300 {
            first.set(Id::from_index(i), Some(Arc::new(i)));
        }
        let mut second = first.clone();
        assert_eq!(second.set(Id::from_index(5), None).as_deref(), Some(&5));
        assert_eq!((first.len(), second.len()), (300, 299));
        assert!(first.at(Id::from_index(5)).is_some() && second.at(Id::from_index(5)).is_none());
        assert!(Arc::ptr_eq(&first.chunks[1], &second.chunks[1]));
        assert!(!Arc::ptr_eq(&first.chunks[0], &second.chunks[0]));
        assert_eq!(second.iter().count(), 299);
    }
}
