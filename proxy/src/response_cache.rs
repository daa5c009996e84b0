//! The answers that are kept for all workers (`envoy.filters.http.cache`), within a bound.
//!
//! Holds: what may be kept and used is the model's to say; here is the room: at most [`ROOM`] bytes, of one key at most
//! [`VARIANTS`], and what was not used for longest goes first. One lock, taken only by requests of routes that have the
//! filter, and never across a wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use remora_model::filter::Stored;

/// How much is kept, bytes.
pub const ROOM: usize = 64 << 20;
/// How many answers of one key are kept, by what they vary.
pub const VARIANTS: usize = 16;
/// What an answer takes beside its body and headers, bytes.
const OVERHEAD: usize = 512;

/// All that is kept.
#[derive(Debug, Default)]
pub struct ResponseCache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<Arc<str>, Vec<Entry>>,
    /// Keys by their last use.
    uses: BTreeMap<u64, Arc<str>>,
    clock: u64,
    size: usize,
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    size: usize,
    used: u64,
}

impl ResponseCache {
    /// The answer to a request with these headers.
    pub fn find(&self, key: &str, request: &HeaderMap) -> Option<Arc<Stored>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        let (name, _) = kept.by_key.get_key_value(key)?;
        let name = Arc::clone(name);
        let entries = kept.by_key.get_mut(key)?;
        let entry = entries.iter_mut().find(|entry| entry.stored.suits(request))?;
        kept.clock += 1;
        kept.uses.remove(&entry.used);
        kept.uses.insert(kept.clock, name);
        entry.used = kept.clock;
        Some(Arc::clone(&entry.stored))
    }

    /// Keeps an answer in the place of one that the same requests got.
    pub fn keep(&self, key: &str, stored: Stored) {
        let fields = stored
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32);
        let size = OVERHEAD + key.len() + stored.body.len() + fields.sum::<usize>();
        if size > ROOM {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drop_where(key, |entry| entry.stored.varies == stored.varies);
        while kept
            .by_key
            .get(key)
            .is_some_and(|entries| entries.len() >= VARIANTS)
        {
            let oldest = kept.by_key[key].iter().map(|entry| entry.used).min();
            kept.drop_where(key, |entry| Some(entry.used) == oldest);
        }
        while kept.size + size > ROOM {
            let Some((used, oldest)) = kept
                .uses
                .first_key_value()
                .map(|(used, key)| (*used, Arc::clone(key)))
            else {
                break;
            };
            kept.drop_where(&oldest, |entry| entry.used == used);
        }
        kept.clock += 1;
        let (used, name): (u64, Arc<str>) = (kept.clock, key.into());
        kept.uses.insert(used, Arc::clone(&name));
        kept.size += size;
        let entry = Entry {
            stored: Arc::new(stored),
            size,
            used,
        };
        kept.by_key.entry(name).or_default().push(entry);
    }

    /// Forgets every answer of a key (RFC 9111 section 4.4).
    pub fn forget(&self, key: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drop_where(key, |_| true);
    }
}

impl Kept {
    fn drop_where(&mut self, key: &str, goes: impl Fn(&Entry) -> bool) {
        let Some(entries) = self.by_key.get_mut(key) else {
            return;
        };
        entries.retain(|entry| {
            let stays = !goes(entry);
            if !stays {
                self.uses.remove(&entry.used);
                self.size -= entry.size;
            }
            stays
        });
        if entries.is_empty() {
            self.by_key.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};

    use super::*;

    fn stored(size: usize, accept: Option<&'static str>) -> Stored {
        Stored {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![0; size]),
            varies: vec![(http::header::ACCEPT, accept.map(HeaderValue::from_static))],
            received: 0,
            initial_age: 0,
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = ResponseCache::default();
        let request = HeaderMap::new();
        let third = ROOM / 3 - 2 * OVERHEAD;
        for key in ["a", "b", "c"] {
            cache.keep(key, stored(third, None));
        }
        assert!(cache.find("a", &request).is_some());
        cache.keep("d", stored(third, None));
        let left = ["a", "b", "c", "d"].map(|key| cache.find(key, &request).is_some());
        assert_eq!(left, [true, false, true, true]);
        cache.keep("e", stored(ROOM, None));
        assert!(cache.find("e", &request).is_none(), "it never fits");
        cache.forget("a");
        assert!(cache.find("a", &request).is_none());
        assert_eq!(cache.0.lock().unwrap().uses.len(), 2);
    }

    #[test]
    fn variants_stand_beside_each_other_within_a_bound() {
        let cache = ResponseCache::default();
        let mut request = HeaderMap::new();
        cache.keep("a", stored(1, None));
        cache.keep("a", stored(2, Some("x")));
        cache.keep("a", stored(3, Some("x")));
        assert_eq!(cache.find("a", &request).unwrap().body.len(), 1);
        request.insert(http::header::ACCEPT, HeaderValue::from_static("x"));
        assert_eq!(cache.find("a", &request).unwrap().body.len(), 3);
        for number in 0..100 {
            let mut variant = stored(1, None);
            variant.varies[0].1 = HeaderValue::from_str(&number.to_string()).ok();
            cache.keep("a", variant);
        }
        let kept = cache.0.lock().unwrap();
        assert_eq!((kept.by_key["a"].len(), kept.uses.len()), (VARIANTS, VARIANTS));
    }
}
