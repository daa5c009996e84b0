//! When does something fall due, by name? A map of names to instants that also knows the earliest one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What holds: both views list the same pairs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deadlines {
    by_name: HashMap<Arc<str>, Instant>,
    by_time: BTreeSet<(Instant, Arc<str>)>,
}

impl Deadlines {
    /// Sets or moves the deadline of `name`.
    pub(crate) fn set(&mut self, name: &Arc<str>, at: Instant) {
        self.clear(name);
        self.by_name.insert(name.clone(), at);
        self.by_time.insert((at, name.clone()));
    }

    pub(crate) fn clear(&mut self, name: &Arc<str>) {
        if let Some(at) = self.by_name.remove(name) {
            self.by_time.remove(&(at, name.clone()));
            self.let_go();
        }
    }

    /// A first request may wait for ten thousand names, hardly ever again.
    fn let_go(&mut self) {
        if self.by_name.is_empty() {
            self.by_name = HashMap::new();
        }
    }

    pub(crate) fn clear_all(&mut self) {
        self.by_name.clear();
        self.by_time.clear();
    }

    pub(crate) fn contains(&self, name: &Arc<str>) -> bool {
        self.by_name.contains_key(name)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Takes out what is due at `now`, earliest first.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            if let Some((_, name)) = self.by_time.pop_first() {
                self.by_name.remove(&name);
                due.push(name);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moved_deadline_falls_due_once_and_late() {
        let start = Instant::now();
        let name: Arc<str> = "a".into();
        let mut deadlines = Deadlines::default();
        deadlines.set(&name, start + Duration::from_secs(1));
        deadlines.set(&name, start + Duration::from_secs(3));
        assert!(deadlines.take_due(start + Duration::from_secs(2)).is_empty());
        assert_eq!(
            deadlines.take_due(start + Duration::from_secs(3)),
            std::slice::from_ref(&name)
        );
        assert!(!deadlines.contains(&name));
        assert_eq!(deadlines.next(), None);
    }
}
