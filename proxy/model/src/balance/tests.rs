//! Consistent hashing against choices observed from Envoy 1.40 with the same five endpoints.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::hash::xx64;
use super::*;
use crate::endpoint::{Endpoint, EndpointAddress, EndpointSpec};
use crate::route::{HashPolicy, HashSource, RequestFacts, request_hash};

const WEIGHTS: [u32; 5] = [1, 1, 2, 3, 1];

fn endpoints(weights: [u32; 5]) -> Vec<Arc<Endpoint>> {
    let at = |port: u16| EndpointAddress::Socket(([127, 0, 0, 1], port).into());
    weights
        .iter()
        .zip(21001..)
        .map(|(weight, port)| {
            let spec = EndpointSpec {
                weight: *weight,
                ..EndpointSpec::at(at(port))
            };
            Arc::new(Endpoint::new(Arc::new(spec)))
        })
        .collect()
}

/// The positions chosen for the hashes of `key0` to `key63`, one digit each; localities are endpoints 0-1 and 2-4.
fn choices(policy: &BalancePolicy, weights: [u32; 5], localities: Option<[f64; 2]>) -> String {
    let all = endpoints(weights);
    let group = |range: std::ops::Range<usize>, weight| Group {
        weight,
        endpoints: all[range].iter().collect(),
    };
    let groups = match localities {
        Some([first, second]) => vec![group(0..2, Some(first)), group(2..5, Some(second))],
        None => vec![group(0..5, None)],
    };
    let balancer = Balancer::build(policy, &groups);
    let mut rng = fastrand::Rng::with_seed(1);
    let position = |number: u32| {
        let hash = xx64(format!("key{number}").as_bytes(), 0);
        let chosen = balancer.pick(0, Some(hash), &mut rng).unwrap();
        all.iter()
            .position(|endpoint| Arc::ptr_eq(endpoint, chosen))
            .unwrap()
    };
    (0..64)
        .map(position)
        .map(|position| position.to_string())
        .collect()
}

fn ring(minimum: u64, maximum: u64, function: RingHashFunction) -> BalancePolicy {
    BalancePolicy::RingHash {
        minimum,
        maximum,
        function,
        use_hostname: false,
        balance_factor: None,
    }
}

#[test]
fn rings_are_envoys() {
    let default = ring(1024, 8 << 20, RingHashFunction::XxHash);
    let weighted = "4213223244322432434122422412123222243040042122003033222123210002";
    assert_eq!(choices(&default, WEIGHTS, None), weighted);
    let equal = "1410422244311132410132112412112322203140042122003033222123200002";
    assert_eq!(choices(&default, [1; 5], None), equal);
    let by_locality = "1110100100311132000030110411110320203100000122001013200003100002";
    assert_eq!(choices(&default, WEIGHTS, Some([3.0, 1.0])), by_locality);
    let murmur = "3313212132322334324234034222330310322022233330340200113022212333";
    assert_eq!(
        choices(&ring(1024, 8 << 20, RingHashFunction::MurmurHash2), WEIGHTS, None),
        murmur
    );
    let small = "3023333233332330333333332122331303133323232300330333323233323332";
    assert_eq!(
        choices(&ring(3, 7, RingHashFunction::XxHash), WEIGHTS, None),
        small
    );
}

#[test]
fn maglev_tables_are_envoys() {
    let maglev = |table_size| BalancePolicy::Maglev {
        table_size,
        use_hostname: false,
        balance_factor: None,
    };
    let weighted = "3103033330421134302222432334214230223222201032223032032412222230";
    assert_eq!(choices(&maglev(65537), WEIGHTS, None), weighted);
    let equal = "0232110332234432401141141122314301012432220312102222341004023240";
    assert_eq!(choices(&maglev(251), [1; 5], None), equal);
    let by_locality = "3103033300011134102010432010214130211100201002003031010112200000";
    assert_eq!(choices(&maglev(65537), WEIGHTS, Some([3.0, 1.0])), by_locality);
}

/// The positions chosen on the ring of five equal endpoints for `number` in 0..32.
fn on_equal_ring(hash: impl Fn(u32) -> u64) -> String {
    let all = endpoints([1; 5]);
    let groups = [Group {
        weight: None,
        endpoints: all.iter().collect(),
    }];
    let balancer = Balancer::build(&ring(1024, 8 << 20, RingHashFunction::XxHash), &groups);
    let mut rng = fastrand::Rng::with_seed(1);
    let position = |number| {
        let chosen = balancer.pick(0, Some(hash(number)), &mut rng).unwrap();
        all.iter()
            .position(|endpoint| Arc::ptr_eq(endpoint, chosen))
            .unwrap()
    };
    (0..32)
        .map(position)
        .map(|position| position.to_string())
        .collect()
}

/// The positions that these policies choose; `#` in the path is the number of the request.
fn by_policies(
    policies: &[HashPolicy],
    path: &str,
    headers: impl Fn(u32) -> Vec<(&'static str, String)>,
) -> String {
    on_equal_ring(|number| {
        let headers: HeaderMap = headers(number)
            .into_iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::try_from(value).unwrap(),
                )
            })
            .collect();
        let facts = RequestFacts {
            method: &http::Method::GET,
            scheme: "http",
            authority: "h",
            path_and_query: &path.replace('#', &number.to_string()),
            headers: &headers,
            certificate: Default::default(),
            internal: false,
            metadata: None,
        };
        request_hash(policies, &facts, Some([127, 0, 0, 1].into()), || 0)
            .hash
            .unwrap()
    })
}

#[test]
fn hash_policies_combine_as_envoys_do() {
    let policy = |source| HashPolicy {
        source,
        terminal: false,
    };
    let header = || policy(HashSource::Header(HeaderName::from_static("x-h")));
    let query = || policy(HashSource::Query("q".into()));
    let one = |number| vec![("x-h", format!("k{number}"))];
    let two = |number| vec![("x-h", format!("b{number}")), ("x-h", format!("a{number}"))];
    let none = |_| Vec::new();
    assert_eq!(
        by_policies(&[header(), query()], "/?q=v#", one),
        "13324012430444140142233244443441"
    );
    assert_eq!(
        by_policies(&[header(), query()], "/?q=v%20#&q=z", none),
        "01013342444444041043220114424231"
    );
    assert_eq!(
        by_policies(&[header()], "/", two),
        "24311142002021122440214410300013"
    );
    let terminal = [
        HashPolicy {
            terminal: true,
            ..header()
        },
        query(),
    ];
    assert_eq!(
        by_policies(&terminal, "/?q=v#", one),
        "20030032003124000132124411040340"
    );
    assert_eq!(
        by_policies(&terminal, "/?q=v#", none),
        "44033310314340002311144012234231"
    );
    let three = [header(), policy(HashSource::SourceAddress), query()];
    assert_eq!(
        by_policies(&three, "/?q=v#", one),
        "21114121403044004201330223113310"
    );
    let cookie = [policy(HashSource::Cookie {
        name: "c".into(),
        ttl: None,
        path: "".into(),
    })];
    let cookies = |number| vec![("cookie", format!("z=1; c=v{number}; d=2"))];
    assert_eq!(
        by_policies(&cookie, "/", cookies),
        "44033310314340002311144012234231"
    );
}

#[test]
fn a_table_whose_size_is_no_prime_is_filled_all_the_same() {
    for table_size in [2, 4, 12, 1000] {
        let policy = BalancePolicy::Maglev {
            table_size,
            use_hostname: false,
            balance_factor: None,
        };
        assert_eq!(choices(&policy, WEIGHTS, None).len(), 64);
    }
}

#[test]
fn losing_an_endpoint_moves_only_its_share() {
    let all = endpoints([1; 5]);
    for policy in [
        ring(1024, 8 << 20, RingHashFunction::XxHash),
        BalancePolicy::Maglev {
            table_size: 65537,
            use_hostname: false,
            balance_factor: None,
        },
    ] {
        let over = |count: usize| {
            Balancer::build(
                &policy,
                &[Group {
                    weight: None,
                    endpoints: all[..count].iter().collect(),
                }],
            )
        };
        let (before, after) = (over(5), over(4));
        let mut rng = fastrand::Rng::with_seed(1);
        let moved = (0..10_000u64)
            .map(|n| xx64(&n.to_le_bytes(), 0))
            .filter(|hash| {
                let was = before
                    .pick(0, Some(*hash), &mut rng)
                    .unwrap()
                    .spec
                    .address
                    .clone();
                was != all[4].spec.address
                    && was != after.pick(0, Some(*hash), &mut rng).unwrap().spec.address
            })
            .count();
        // A ring of fewer endpoints gives each more entries, so a few more than its own share move.
        assert!(moved < 1_500, "{moved} of 10000 moved without need");
    }
}

#[test]
fn locality_and_endpoint_weights_multiply() {
    let all = endpoints(WEIGHTS);
    let group = |range: std::ops::Range<usize>, weight| Group {
        weight,
        endpoints: all[range].iter().collect(),
    };
    let groups = [group(0..2, Some(3.0)), group(2..5, Some(1.0))];
    let balancer = Balancer::build(&BalancePolicy::RoundRobin, &groups);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut counts = [0.0_f64; 5];
    for sequence in 0..48_000 {
        let chosen = balancer.pick(sequence, None, &mut rng).unwrap();
        counts[all.iter().position(|e| Arc::ptr_eq(e, chosen)).unwrap()] += 1.0 / 48_000.0;
    }
    let expected = [3.0 / 8.0, 3.0 / 8.0, 1.0 / 12.0, 1.0 / 8.0, 1.0 / 24.0];
    for (share, expected) in counts.iter().zip(expected) {
        assert!((share - expected).abs() < 0.0005, "{counts:?}");
    }
}
