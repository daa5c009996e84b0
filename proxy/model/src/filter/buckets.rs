//! Which buckets of a local rate limit does a request take from?
//!
//! Those of the descriptors that it has, the slowest first, then the default one: where no descriptor has a bucket, or
//! always. The first that refuses decides; what was taken before it stays taken, as in Envoy. A descriptor with an empty
//! value stands for any value: each value that comes has a bucket of its own, and beyond a number of them the one that
//! was not asked for longest goes. That memory is behind a lock, which only such descriptors meet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Fill, TokenBucket};
use crate::limit::{Descriptor, Entry, Recent, TellClients};

/// What is taken from.
#[derive(Debug)]
pub struct Buckets {
    /// `token_bucket`; without it nothing is limited but by descriptors.
    default: Option<Arc<TokenBucket>>,
    /// `always_consume_default_token_bucket`.
    always_default: bool,
    /// `descriptors` with all values said.
    exact: HashMap<Box<[Entry]>, Limited>,
    /// The others, in order.
    open: Vec<Open>,
}

/// A descriptor's bucket.
#[derive(Debug, Clone)]
struct Limited {
    bucket: Arc<TokenBucket>,
    /// `shadow_mode`: its refusals are only counted.
    shadow: bool,
}

/// A descriptor that stands for any value at some places.
#[derive(Debug)]
struct Open {
    pattern: Box<[Entry]>,
    fill: Fill,
    shadow: bool,
    /// The buckets of the values that came last.
    made: Recent<TokenBucket>,
}

/// What the buckets say of a request.
#[derive(Debug)]
pub struct LimitVerdict {
    /// It passes.
    pub allowed: bool,
    /// A descriptor in shadow would have refused it.
    pub shadowed: bool,
    /// The bucket that refused it, or the one that clients are told of.
    pub bucket: Option<Arc<TokenBucket>>,
    /// Whether they are told, by the word of its descriptor.
    pub tell: TellClients,
}

/// Two descriptors with the same entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("duplicate descriptor in the local rate descriptor: {0}")]
pub struct DuplicateDescriptor(String);

impl Buckets {
    /// Buckets without descriptors yet.
    pub fn new(default: Option<Fill>, always_default: bool) -> Self {
        Self {
            default: default.map(|fill| Arc::new(TokenBucket::new(fill))),
            always_default,
            exact: HashMap::new(),
            open: Vec::new(),
        }
    }

    /// Adds a descriptor; `capacity` bounds the buckets of one that stands for any value.
    ///
    /// # Errors
    /// There is one with these entries.
    pub fn add(
        &mut self,
        entries: Vec<Entry>,
        fill: Fill,
        shadow: bool,
        capacity: usize,
    ) -> Result<(), DuplicateDescriptor> {
        let entries = entries.into_boxed_slice();
        let known = self.exact.contains_key(&entries) || self.open.iter().any(|open| open.pattern == entries);
        if known {
            let shown = entries
                .iter()
                .map(|entry| format!("{}={}", entry.key, entry.value));
            return Err(DuplicateDescriptor(shown.collect::<Vec<_>>().join(",")));
        }
        if entries.iter().any(|entry| entry.value.is_empty()) {
            self.open.push(Open {
                pattern: entries,
                fill,
                shadow,
                made: Recent::new(capacity),
            });
        } else {
            let bucket = Arc::new(TokenBucket::new(fill));
            self.exact.insert(entries, Limited { bucket, shadow });
        }
        Ok(())
    }

    /// `token_bucket`.
    pub fn of_everything(&self) -> Option<&Arc<TokenBucket>> {
        self.default.as_ref()
    }

    /// Whether requests need descriptors.
    pub fn has_descriptors(&self) -> bool {
        !self.exact.is_empty() || !self.open.is_empty()
    }

    /// The same buckets, full.
    pub fn fresh(&self) -> Self {
        let fresh = |bucket: &Arc<TokenBucket>| Arc::new(TokenBucket::new(bucket.fill()));
        let exact = self.exact.iter().map(|(entries, limited)| {
            let bucket = fresh(&limited.bucket);
            let shadow = limited.shadow;
            (entries.clone(), Limited { bucket, shadow })
        });
        let open = self.open.iter().map(|open| Open {
            pattern: open.pattern.clone(),
            made: Recent::new(open.made.capacity()),
            ..*open
        });
        Self {
            default: self.default.as_ref().map(fresh),
            always_default: self.always_default,
            exact: exact.collect(),
            open: open.collect(),
        }
    }

    /// Takes tokens for a request with these descriptors.
    pub fn take(&self, descriptors: &[Descriptor], now: Instant) -> LimitVerdict {
        let mut met: Vec<(Limited, &Descriptor)> = Vec::new();
        for descriptor in descriptors {
            met.extend(self.of(&descriptor.entries).map(|limited| (limited, descriptor)));
        }
        met.sort_by(|(a, _), (b, _)| a.bucket.fill().rate().total_cmp(&b.bucket.fill().rate()));
        let mut shadowed = false;
        for (limited, descriptor) in &met {
            let hits = u32::try_from(descriptor.hits.unwrap_or(1)).unwrap_or(u32::MAX);
            // Nothing cannot be taken: Envoy refuses whoever counts as no request.
            if hits > 0 && limited.bucket.take(hits, now) {
                continue;
            }
            if limited.shadow {
                shadowed = true;
                continue;
            }
            return LimitVerdict {
                allowed: false,
                shadowed,
                bucket: Some(Arc::clone(&limited.bucket)),
                tell: descriptor.tell,
            };
        }
        let first = met.first();
        let (bucket, tell) = match first {
            Some((limited, descriptor)) => (Some(Arc::clone(&limited.bucket)), descriptor.tell),
            None => (self.default.clone(), TellClients::AsFilter),
        };
        if (first.is_none() || self.always_default)
            && let Some(default) = &self.default
            && !default.take(1, now)
        {
            return LimitVerdict {
                allowed: false,
                shadowed,
                bucket: Some(Arc::clone(default)),
                tell: TellClients::AsFilter,
            };
        }
        LimitVerdict {
            allowed: true,
            shadowed,
            bucket,
            tell,
        }
    }

    /// The bucket of a descriptor: its own, or that of the first one that stands for it.
    fn of(&self, entries: &[Entry]) -> Option<Limited> {
        if let Some(limited) = self.exact.get(entries) {
            return Some(limited.clone());
        }
        let open = self.open.iter().find(|open| open.stands_for(entries))?;
        Some(Limited {
            bucket: open.bucket(entries),
            shadow: open.shadow,
        })
    }
}

impl Open {
    fn stands_for(&self, entries: &[Entry]) -> bool {
        let same = |(pattern, entry): (&Entry, &Entry)| {
            pattern.key == entry.key && (pattern.value.is_empty() || pattern.value == entry.value)
        };
        self.pattern.len() == entries.len() && self.pattern.iter().zip(entries).all(same)
    }

    fn bucket(&self, entries: &[Entry]) -> Arc<TokenBucket> {
        self.made.of(entries, || TokenBucket::new(self.fill))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn fill(max_tokens: u32, interval: Duration) -> Fill {
        Fill {
            max_tokens,
            tokens_per_fill: 1,
            interval,
        }
    }

    fn descriptor(entries: &[(&str, &str)]) -> Descriptor {
        Descriptor {
            entries: entries
                .iter()
                .map(|(key, value)| Entry::new(key, value))
                .collect(),
            ..Descriptor::default()
        }
    }

    fn add(buckets: &mut Buckets, entries: &[(&str, &str)], tokens: u32) {
        let entries = descriptor(entries).entries;
        buckets.add(entries, fill(tokens, HOUR), false, 2).unwrap();
    }

    #[test]
    fn a_request_takes_from_its_descriptor_and_from_the_default() {
        let mut buckets = Buckets::new(Some(fill(3, HOUR)), true);
        add(&mut buckets, &[("user", "a")], 2);
        let now = Instant::now();
        let a = [descriptor(&[("user", "a")])];
        let b = [descriptor(&[("user", "b")])];
        let told = buckets.take(&a, now).bucket.unwrap();
        assert_eq!(told.fill().max_tokens, 2, "clients are told of the descriptor's");
        assert!(buckets.take(&a, now).allowed);
        assert!(!buckets.take(&a, now).allowed, "the descriptor's bucket is empty");
        assert!(
            buckets.take(&b, now).allowed,
            "a refusal took nothing of the default's"
        );
        let refused = buckets.take(&b, now);
        assert!(!refused.allowed);
        assert_eq!(refused.bucket.unwrap().fill().max_tokens, 3);
    }

    #[test]
    fn the_default_is_spared_where_it_is_said() {
        let mut buckets = Buckets::new(Some(fill(0, HOUR)), false);
        add(&mut buckets, &[("user", "a")], 1);
        let now = Instant::now();
        let a = [descriptor(&[("user", "a")])];
        assert!(buckets.take(&a, now).allowed);
        assert!(!buckets.take(&a, now).allowed);
        assert!(
            !buckets.take(&[], now).allowed,
            "without a descriptor the default counts"
        );
    }

    #[test]
    fn without_a_default_only_descriptors_limit() {
        let mut buckets = Buckets::new(None, true);
        add(&mut buckets, &[("user", "a")], 0);
        let now = Instant::now();
        assert!(buckets.take(&[], now).allowed);
        assert!(!buckets.take(&[descriptor(&[("user", "a")])], now).allowed);
    }

    #[test]
    fn the_slowest_bucket_is_taken_from_first() {
        let mut buckets = Buckets::new(None, true);
        let second = Duration::from_secs(1);
        let one = descriptor(&[("k", "fast")]);
        let other = descriptor(&[("k", "slow")]);
        buckets
            .add(one.entries.clone(), fill(5, second), false, 1)
            .unwrap();
        buckets
            .add(other.entries.clone(), fill(1, HOUR), false, 1)
            .unwrap();
        let now = Instant::now();
        let both = [one.clone(), other];
        assert_eq!(buckets.take(&both, now).bucket.unwrap().fill().max_tokens, 1);
        assert!(!buckets.take(&both, now).allowed);
        let fast = buckets.take(&[one], now).bucket.unwrap();
        assert_eq!(fast.remaining(now), 3, "the refusal came before it");
    }

    #[test]
    fn every_entry_counts_and_their_order_too() {
        let mut buckets = Buckets::new(None, true);
        add(&mut buckets, &[("a", "1"), ("b", "2")], 0);
        let now = Instant::now();
        let passes = |entries: &[(&str, &str)]| buckets.take(&[descriptor(entries)], now).allowed;
        assert!(!passes(&[("a", "1"), ("b", "2")]));
        assert!(passes(&[("b", "2"), ("a", "1")]));
        assert!(passes(&[("a", "1")]));
        assert!(passes(&[("a", "1"), ("b", "2"), ("c", "3")]));
    }

    #[test]
    fn any_value_has_a_bucket_of_its_own_and_the_oldest_is_forgotten() {
        let mut buckets = Buckets::new(None, true);
        add(&mut buckets, &[("user", "")], 1);
        let now = Instant::now();
        let passes = |user: &str| buckets.take(&[descriptor(&[("user", user)])], now).allowed;
        assert!(passes("a") && passes("b"));
        assert!(!passes("a") && !passes("b"));
        assert!(!passes("a"), "now b is the one that was not asked for longest");
        assert!(passes("c"), "c takes the place of b");
        assert!(!passes("a"));
        assert!(passes("b"), "b was forgotten, and begins anew");
    }

    #[test]
    fn hits_count_all_or_nothing_and_none_is_refused() {
        let mut buckets = Buckets::new(None, true);
        add(&mut buckets, &[("k", "v")], 3);
        let now = Instant::now();
        let takes = |hits: u64| {
            let mut one = descriptor(&[("k", "v")]);
            one.hits = Some(hits);
            buckets.take(&[one], now).allowed
        };
        assert!(!takes(0));
        assert!(takes(2));
        assert!(!takes(2));
        assert!(takes(1));
        assert!(!takes(u64::MAX));
    }

    #[test]
    fn a_shadow_refuses_nobody() {
        let mut buckets = Buckets::new(None, true);
        let one = descriptor(&[("k", "v")]);
        buckets.add(one.entries.clone(), fill(0, HOUR), true, 1).unwrap();
        let verdict = buckets.take(&[one], Instant::now());
        assert!(verdict.allowed && verdict.shadowed);
    }

    #[test]
    fn entries_may_stand_once() {
        let mut buckets = Buckets::new(None, true);
        add(&mut buckets, &[("a", "1")], 1);
        let again = buckets.add(descriptor(&[("a", "1")]).entries, fill(1, HOUR), false, 1);
        let sentence = again.unwrap_err().to_string();
        assert_eq!(sentence, "duplicate descriptor in the local rate descriptor: a=1");
    }

    #[test]
    fn a_connection_begins_with_full_buckets() {
        let mut buckets = Buckets::new(Some(fill(1, HOUR)), false);
        add(&mut buckets, &[("a", "1")], 1);
        add(&mut buckets, &[("b", "")], 1);
        let now = Instant::now();
        let all = [descriptor(&[("a", "1")]), descriptor(&[("b", "x")])];
        assert!(buckets.take(&all, now).allowed);
        let fresh = buckets.fresh();
        assert!(fresh.take(&all, now).allowed && fresh.take(&[], now).allowed);
        assert!(!buckets.take(&all, now).allowed);
    }
}
