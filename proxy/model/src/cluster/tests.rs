//! Picking over whole clusters.

use super::*;
use crate::balance::BalancePolicy;
use crate::endpoint::tests_support::address;
use crate::endpoint::{Assignment, EndpointSpec, Health, Locality, LocalitySpec};

/// A cluster's configuration with the given policy and Envoy's defaults.
pub(crate) fn config(index: u32, balance: BalancePolicy, fingerprint: u64) -> Arc<ClusterConfig> {
    config_with(index, balance, fingerprint, Discovery::Static)
}

/// The same with endpoints from elsewhere.
pub(crate) fn config_with(
    index: u32,
    balance: BalancePolicy,
    fingerprint: u64,
    discovery: Discovery,
) -> Arc<ClusterConfig> {
    let name: Name = format!("cluster-{index}").into();
    Arc::new(ClusterConfig {
        name: name.clone(),
        id: ClusterId::from_index(index),
        stat_name: name,
        discovery,
        connect_timeout: Duration::from_secs(5),
        balance,
        panic_threshold: 50,
        locality_weighted: false,
        session_statuses: HealthStatuses::default(),
        transport: TransportSockets::always(TransportSocket::Plain),
        http: Arc::new(UpstreamHttp {
            protocol: UpstreamProtocol::Http1,
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            idle_timeout: None,
            connection_duration: None,
            stream_duration: None,
            max_requests_per_connection: 0,
            auto_sni: false,
            auto_san_validation: false,
        }),
        bind: None,
        connection: None,
        thresholds: [Thresholds::default(); 2],
        health: None,
        rare: None,
        fingerprint,
    })
}

fn cluster(balance: BalancePolicy, priorities: &[&[Health]]) -> Cluster {
    cluster_of(0, balance, priorities)
}

/// A cluster with endpoints of this health in its priorities.
pub(crate) fn cluster_of(index: u32, balance: BalancePolicy, priorities: &[&[Health]]) -> Cluster {
    let mut number = 0;
    let mut locality = |priority: u32, health: &[Health]| {
        let endpoints = health
            .iter()
            .map(|health| {
                number += 1;
                Arc::new(EndpointSpec {
                    status: (*health).into(),
                    ..EndpointSpec::at(address(number))
                })
            })
            .collect();
        LocalitySpec {
            locality: Locality::default(),
            weight: None,
            priority,
            endpoints,
        }
    };
    let localities = priorities
        .iter()
        .zip(0..)
        .map(|(health, priority)| locality(priority, health))
        .collect();
    let assignment = Assignment {
        name: "c".into(),
        localities,
        overprovisioning: 140,
    };
    let config = config(index, balance, 1);
    let endpoints = EndpointSet::build(Arc::new(assignment), &config.build_options(), |_| None);
    Cluster {
        config,
        endpoints: Arc::new(endpoints),
        live: Arc::default(),
    }
}

use Health::{Healthy as H, Unhealthy as U};

#[test]
fn turns_are_shared_by_all_workers() {
    let cluster = cluster(BalancePolicy::RoundRobin, &[&[H, H, H]]);
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let worker = |seed| {
            let cluster = &cluster;
            move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                let picks = (0..300).map(|_| cluster.pick(&PickFacts::default(), &mut rng).unwrap());
                picks
                    .map(|pick| pick.endpoint.spec.address.clone())
                    .collect::<Vec<_>>()
            }
        };
        let workers = [1, 2].map(|seed| scope.spawn(worker(seed)));
        let picks: Vec<_> = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect();
        (1..=3)
            .map(|n| picks.iter().filter(|picked| **picked == address(n)).count())
            .collect()
    });
    assert_eq!(counts, [200, 200, 200]);
}

#[test]
fn a_weak_priority_shares_with_the_next() {
    let cluster = cluster(BalancePolicy::Random, &[&[H, U], &[H]]);
    let mut rng = fastrand::Rng::with_seed(9);
    let first = (0..20_000)
        .filter(|_| {
            let pick = cluster.pick(&PickFacts::default(), &mut rng).unwrap();
            assert!(!pick.panic && pick.endpoint.spec.health() == H);
            pick.priority == 0
        })
        .count();
    assert!((13_700..14_300).contains(&first), "{first}");
}

#[test]
fn in_panic_all_endpoints_are_used() {
    let cluster = cluster(BalancePolicy::RoundRobin, &[&[H, U, U, U]]);
    let mut rng = fastrand::Rng::with_seed(9);
    let picks: Vec<_> = (0..4)
        .map(|_| cluster.pick(&PickFacts::default(), &mut rng).unwrap())
        .collect();
    assert!(picks.iter().all(|pick| pick.panic));
    assert_eq!(
        picks
            .iter()
            .filter(|pick| pick.endpoint.spec.health() == U)
            .count(),
        3
    );
}

#[test]
fn the_same_hash_finds_the_same_endpoint() {
    let maglev = BalancePolicy::Maglev {
        table_size: 251,
        use_hostname: false,
        balance_factor: None,
    };
    let cluster = cluster(maglev, &[&[H; 5]]);
    let mut rng = fastrand::Rng::with_seed(9);
    let facts = PickFacts {
        hash: Some(77),
        ..PickFacts::default()
    };
    let first = cluster.pick(&facts, &mut rng).unwrap().endpoint.clone();
    assert!((0..50).all(|_| Arc::ptr_eq(cluster.pick(&facts, &mut rng).unwrap().endpoint, &first)));
}

#[test]
fn what_cannot_be_picked_says_why() {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut why = |cluster: &Cluster| cluster.pick(&PickFacts::default(), &mut rng).unwrap_err();
    assert_eq!(why(&cluster(BalancePolicy::Random, &[])), Unpickable::NoEndpoints);
    let mut calm = cluster(BalancePolicy::Random, &[&[U, U]]);
    let options = crate::endpoint::BuildOptions {
        panic_threshold: 0,
        ..calm.config.build_options()
    };
    calm.endpoints = Arc::new(EndpointSet::build(
        calm.endpoints.assignment.clone(),
        &options,
        |_| None,
    ));
    let unhealthy = why(&calm);
    assert_eq!(
        unhealthy,
        Unpickable::NoneUsable {
            total: 2,
            unhealthy: 2
        }
    );
    assert_eq!(
        unhealthy.to_string(),
        "none of the cluster's 2 endpoints may be used: 2 are unhealthy or draining"
    );
}
