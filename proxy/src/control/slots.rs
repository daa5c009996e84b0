//! Clusters or listeners by name, each with the references of its version in use and the version that warms.
//!
//! Holds: how many are warming is known without looking at them.

use std::collections::HashMap;
use std::sync::Arc;

use remora_model::Name;
use remora_translate::Subscription;

/// A part that waits for what it refers to.
#[derive(Debug)]
pub struct Waiting<T> {
    /// The part.
    pub part: T,
    /// What it refers to.
    pub needs: Vec<Subscription>,
}

/// A cluster or a listener under one name.
#[derive(Debug)]
pub struct Slot<T> {
    /// References of the version in use.
    pub active: Option<Vec<Subscription>>,
    /// The version that waits.
    pub warming: Option<Waiting<T>>,
}

impl<T> Slot<T> {
    /// Whether one version serves while another warms.
    pub fn replaces(&self) -> bool {
        self.active.is_some() && self.warming.is_some()
    }

    /// Whether a version warms.
    pub fn is_warming(&self) -> bool {
        self.warming.is_some()
    }

    /// Whether no version was in use yet.
    pub fn is_new(&self) -> bool {
        self.active.is_none()
    }
}

/// A part that became active.
#[derive(Debug)]
pub struct Activated<T> {
    /// The part.
    pub part: T,
    /// What it refers to.
    pub needs: Vec<Subscription>,
    /// What the version that it replaces referred to.
    pub before: Vec<Subscription>,
}

/// All clusters, or all listeners.
#[derive(Debug)]
pub struct Slots<T> {
    by_name: HashMap<Name, Slot<T>>,
    warming: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            by_name: HashMap::new(),
            warming: 0,
        }
    }
}

impl<T> Slots<T> {
    /// The slot under a name.
    pub fn get(&self, name: &str) -> Option<&Slot<T>> {
        self.by_name.get(name)
    }

    /// The version under a name that warms.
    pub fn warming_mut(&mut self, name: &str) -> Option<&mut T> {
        let waiting = self.by_name.get_mut(name)?.warming.as_mut()?;
        Some(&mut waiting.part)
    }

    /// Lets a new version warm. If it replaces one that warmed too: the references of that one that neither the new
    /// version nor the one in use has are `dropped` with what is `kept`.
    pub fn warm(&mut self, name: &Name, waiting: Waiting<T>) -> Option<Superseded> {
        let slot = self.by_name.entry(Arc::clone(name)).or_insert(Slot {
            active: None,
            warming: None,
        });
        let mut kept = waiting.needs.clone();
        let Some(before) = slot.warming.replace(waiting) else {
            self.warming += 1;
            return None;
        };
        kept.extend(slot.active.iter().flatten().cloned());
        Some(Superseded {
            dropped: before.needs,
            kept,
        })
    }

    /// The version that warms becomes the one in use.
    pub fn activate(&mut self, name: &str) -> Option<Activated<T>> {
        let slot = self.by_name.get_mut(name)?;
        let Waiting { part, needs } = slot.warming.take()?;
        self.warming -= 1;
        let before = slot.active.replace(needs.clone()).unwrap_or_default();
        Some(Activated { part, needs, before })
    }

    /// All versions under a name refer to more.
    pub fn refer(&mut self, name: &str, needs: &[Subscription]) {
        for of_version in self.referring(name) {
            of_version.extend_from_slice(needs);
        }
    }

    /// No version under a name refers to these any more.
    pub fn refer_no_more(&mut self, name: &str, needs: &[Subscription]) {
        for of_version in self.referring(name) {
            of_version.retain(|need| !needs.contains(need));
        }
    }

    fn referring(&mut self, name: &str) -> impl Iterator<Item = &mut Vec<Subscription>> {
        let slot = self.by_name.get_mut(name).into_iter();
        slot.flat_map(|slot| {
            let warming = slot.warming.as_mut().map(|waiting| &mut waiting.needs);
            slot.active.as_mut().into_iter().chain(warming)
        })
    }

    /// Removes a name; returns everything that its versions referred to.
    pub fn remove(&mut self, name: &str) -> Option<Vec<Subscription>> {
        let slot = self.by_name.remove(name)?;
        let mut needs = slot.active.unwrap_or_default();
        if let Some(waiting) = slot.warming {
            self.warming -= 1;
            needs.extend(waiting.needs);
        }
        Some(needs)
    }

    /// All that are warming.
    pub fn warming(&self) -> impl Iterator<Item = (&Name, &Waiting<T>)> {
        self.by_name
            .iter()
            .filter_map(|(name, slot)| Some((name, slot.warming.as_ref()?)))
    }

    /// How many are warming.
    pub fn warming_count(&self) -> usize {
        self.warming
    }
}

/// A version that never became active, because the next one came first.
#[derive(Debug)]
pub struct Superseded {
    /// What it referred to.
    pub dropped: Vec<Subscription>,
    /// What is still referred to.
    pub kept: Vec<Subscription>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(part: u8) -> Waiting<u8> {
        Waiting {
            part,
            needs: Vec::new(),
        }
    }

    #[test]
    fn a_version_warms_until_it_is_active_or_gone() {
        let mut slots = Slots::default();
        let [a, b]: [Name; 2] = ["a".into(), "b".into()];
        assert!(slots.warm(&a, waiting(1)).is_none());
        assert!(slots.warm(&a, waiting(2)).is_some());
        assert!(slots.warm(&b, waiting(3)).is_none());
        assert_eq!(slots.warming_count(), 2);
        assert_eq!(slots.activate("a").unwrap().part, 2);
        assert!(slots.activate("a").is_none());
        assert_eq!(slots.warming_count(), 1);
        assert!(slots.remove("b").is_some() && slots.remove("b").is_none());
        assert_eq!(slots.warming_count(), 0);
        slots.warm(&a, waiting(4));
        assert!(slots.remove("a").is_some());
        assert_eq!(slots.warming_count(), 0);
    }
}
