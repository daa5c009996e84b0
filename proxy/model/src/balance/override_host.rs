//! Which endpoints does a request name itself (`envoy.extensions.load_balancing_policies.override_host`)?
//!
//! Holds: addresses are tried in the order in which the sources say them, one for each attempt; one that is no endpoint
//! of the cluster is passed over, health is not asked; after the last the inner policy chooses, as in Envoy.

use http::{HeaderMap, HeaderName};

use super::BalancePolicy;
use crate::endpoint::LabelValue;
use crate::limit::MetadataKey;
use crate::metadata::Metadata;

/// `OverrideHost`.
#[derive(Debug, Clone, PartialEq)]
pub struct OverrideHost {
    /// `override_host_sources`.
    pub sources: Vec<HostSource>,
    /// `fallback_policy`.
    pub inner: BalancePolicy,
}

/// `OverrideHostSource`: where a list of addresses stands, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostSource {
    /// The first value of this header.
    Header(HeaderName),
    /// A text in dynamic metadata.
    Metadata(MetadataKey),
}

/// What a request brings along.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bringing<'a> {
    /// Its headers, if it has any.
    pub headers: Option<&'a HeaderMap>,
    /// What filters noted of it.
    pub metadata: Option<&'a Metadata>,
    /// How many attempts were made before this one.
    pub attempts: u32,
}

impl OverrideHost {
    /// All addresses that a request names, in order.
    pub(crate) fn addresses<'a>(&'a self, of: &Bringing<'a>) -> impl Iterator<Item = &'a str> {
        let Bringing {
            headers, metadata, ..
        } = *of;
        let lists = self.sources.iter().filter_map(move |source| match source {
            HostSource::Header(name) => headers?.get(name)?.to_str().ok(),
            HostSource::Metadata(key) => match metadata?.at(&key.namespace, &key.path)? {
                LabelValue::Text(text) => Some(&**text),
                _ => None,
            },
        });
        let addresses = lists.flat_map(|list| list.split(',')).map(str::trim);
        addresses.filter(|address| !address.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Labels;

    #[test]
    fn sources_are_read_in_order_and_lists_are_split() {
        let policy = OverrideHost {
            sources: vec![
                HostSource::Metadata(MetadataKey {
                    namespace: "lb".into(),
                    path: vec!["host".into()],
                }),
                HostSource::Header(HeaderName::from_static("x-host")),
            ],
            inner: BalancePolicy::RoundRobin,
        };
        let mut headers = HeaderMap::new();
        headers.append("x-host", "10.0.0.1:80, ,[::1]:81".parse().unwrap());
        headers.append("x-host", "not read".parse().unwrap());
        let mut metadata = Metadata::default();
        metadata.note(
            "lb",
            Labels::new(vec![("host".into(), LabelValue::Text("10.0.0.2:80".into()))]),
        );
        let mut of = Bringing {
            headers: Some(&headers),
            metadata: None,
            attempts: 0,
        };
        assert_eq!(
            policy.addresses(&of).collect::<Vec<_>>(),
            ["10.0.0.1:80", "[::1]:81"]
        );
        of.metadata = Some(&metadata);
        let all: Vec<_> = policy.addresses(&of).collect();
        assert_eq!(all, ["10.0.0.2:80", "10.0.0.1:80", "[::1]:81"]);
    }
}
