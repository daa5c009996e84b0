//! What many resources say in the same words is kept once.
//!
//! Holds: sharing never changes what a part says; what is remembered here is bounded, so that names which never repeat
//! cost nothing for long.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use remora_model::Name;
use remora_model::cluster::UpstreamHttp;
use remora_model::filter::{Fill, TokenBucket};
use remora_model::retry::RetryPolicy;

use crate::pb::envoy::config::route::v3 as api;

/// More than these and the words are forgotten: sharing begins anew.
const WORDS: usize = 1024;

/// Different protocol options that are remembered.
const OPTIONS: usize = 16;

/// Words and options of earlier resources. Belongs to the caller and lives across resources.
#[derive(Debug, Default)]
pub struct Repeated {
    words: HashSet<Name, rapidhash::fast::RandomState>,
    http: Vec<Arc<UpstreamHttp>>,
    /// The last policy, and what it was made from.
    retry: Option<(api::RetryPolicy, Arc<RetryPolicy>)>,
    /// Buckets by `share_key`, as long as somebody has them.
    buckets: Vec<(Box<str>, Weak<TokenBucket>)>,
}

impl Repeated {
    /// A word that few resources have alone: a region, the name of a route.
    pub(crate) fn word(&mut self, text: &str) -> Name {
        if let Some(known) = self.words.get(text) {
            return Arc::clone(known);
        }
        if self.words.len() >= WORDS {
            self.words.clear();
        }
        let word: Name = text.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    /// Protocol options of a cluster.
    pub(crate) fn http(&mut self, options: UpstreamHttp) -> Arc<UpstreamHttp> {
        if let Some(known) = self.http.iter().find(|known| ***known == options) {
            return Arc::clone(known);
        }
        if self.http.len() >= OPTIONS {
            self.http.remove(0);
        }
        let options = Arc::new(options);
        self.http.push(Arc::clone(&options));
        options
    }
}

impl Repeated {
    /// A retry policy: most routes of a mesh have the same.
    pub(crate) fn retry(&mut self, said: &api::RetryPolicy, policy: RetryPolicy) -> Arc<RetryPolicy> {
        if let Some((_, same)) = self.retry.as_ref().filter(|(last, _)| last == said) {
            return Arc::clone(same);
        }
        let policy = Arc::new(policy);
        self.retry = Some((said.clone(), Arc::clone(&policy)));
        policy
    }
}

impl Repeated {
    /// The bucket that all limits with this `share_key` and these settings have in common.
    pub(crate) fn bucket(&mut self, key: &str, fill: Fill) -> Arc<TokenBucket> {
        self.buckets.retain(|(_, bucket)| bucket.strong_count() > 0);
        let named = self.buckets.iter().filter(|(known, _)| **known == *key);
        let mut same = named.filter_map(|(_, bucket)| bucket.upgrade());
        if let Some(bucket) = same.find(|bucket| bucket.fill() == fill) {
            return bucket;
        }
        let bucket = Arc::new(TokenBucket::new(fill));
        self.buckets.push((key.into(), Arc::downgrade(&bucket)));
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_kept_once_and_strangers_are_forgotten() {
        let mut repeated = Repeated::default();
        let first = repeated.word("zone-a");
        assert!(Arc::ptr_eq(&first, &repeated.word("zone-a")));
        for number in 0..WORDS {
            repeated.word(&number.to_string());
        }
        assert!(repeated.words.len() <= WORDS);
        assert_eq!(*first, *repeated.word("zone-a"));
    }
}
