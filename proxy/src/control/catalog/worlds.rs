//! Whatever was pushed, in whatever order: the world is the one that the same final resources make from scratch.
//!
//! Each case is a list of steps drawn from a seed (a resource that is new, changed, bad or gone, a wait that is over, a
//! publication). `PROPTEST_CASES=10000` runs that many; `REMORA_SEED=N` runs the one case with that seed.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use remora_model::cluster::Discovery;
use remora_model::listener::{Routes, Terminal};
use remora_model::route::{Action, ClusterChoice, RouteTable};
use remora_proto::{Pool, ReadOptions};
use remora_translate::config_source::Source;

use super::*;

/// Cases where the environment says nothing.
const CASES: u64 = 200;

/// Steps of the longest case.
const STEPS: usize = 60;

const CLUSTERS: [&str; 3] = ["a", "b", "c"];
const ASSIGNMENTS: [&str; 4] = ["a", "b", "c", "both"];
const LISTENERS: [&str; 2] = ["in", "out"];
const TABLES: [&str; 2] = ["r1", "r2"];
const SECRETS: [&str; 2] = ["s1", "s2"];

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// A version of a resource arrives; some versions are bad.
    Push(Kind, &'static str, u8),
    /// The control plane says that a resource is gone.
    Remove(Kind, &'static str),
    /// Nobody waits for a resource any longer.
    GiveUp(Kind, &'static str),
    /// What came together is published.
    Publish,
}

fn draw(rng: &mut fastrand::Rng) -> Step {
    let kinds: [(Kind, &[&'static str]); 5] = [
        (Kind::Cluster, &CLUSTERS),
        (Kind::Endpoints, &ASSIGNMENTS),
        (Kind::Listener, &LISTENERS),
        (Kind::RouteConfiguration, &TABLES),
        (Kind::Secret, &SECRETS),
    ];
    let (kind, names) = kinds[rng.usize(..kinds.len())];
    let name = names[rng.usize(..names.len())];
    match rng.u8(..10) {
        0..6 => Step::Push(kind, name, rng.u8(..6)),
        6 => Step::Remove(kind, name),
        7 => Step::GiveUp(kind, name),
        _ => Step::Publish,
    }
}

/// The resource as a control plane would write it. Version 5 of everything is bad.
fn yaml(kind: Kind, name: &str, version: u8) -> String {
    match kind {
        Kind::Cluster => cluster(name, version),
        Kind::Endpoints => endpoints(name, version),
        Kind::Listener => listener(name, version),
        Kind::RouteConfiguration => routes(name, version),
        Kind::Secret => format!(
            "{{name: {name}, {}}}",
            match version {
                0 | 1 => "validation_context: {trust_chain_verification: ACCEPT_UNTRUSTED}",
                2 | 3 => "validation_context: {allow_expired_certificate: true}",
                4 => "generic_secret: {secret: {inline_string: x}}",
                _ => "validation_context: {trusted_ca: {inline_string: none}}",
            }
        ),
    }
}

fn cluster(name: &str, version: u8) -> String {
    let eds = |service: &str| {
        format!(
            "type: EDS, eds_cluster_config: {{service_name: {service}, eds_config: {{ads: {{}}, resource_api_version: V3}}}}"
        )
    };
    let tls = "transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, \
               common_tls_context: {validation_context_sds_secret_config: {name: s1, sds_config: {ads: {}, resource_api_version: V3}}}}}";
    let what = match version {
        0 => eds(name),
        1 => format!("{}, connect_timeout: 2s", eds("both")),
        2 => format!(
            "type: STATIC, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{}]}}]}}",
            endpoint(9)
        ),
        3 => format!(
            "{}, lb_policy: RANDOM, common_lb_config: {{locality_weighted_lb_config: {{}}}}",
            eds(name)
        ),
        4 => format!("{}, {tls}", eds(name)),
        _ => format!("{}, connect_timeout: -1s", eds(name)),
    };
    format!("{{name: {name}, {what}}}")
}

fn endpoint(number: u8) -> String {
    format!("{{endpoint: {{address: {{socket_address: {{address: 10.0.0.{number}, port_value: 80}}}}}}}}")
}

fn endpoints(name: &str, version: u8) -> String {
    let all = match version {
        0 => format!("{{lb_endpoints: [{}, {}]}}", endpoint(1), endpoint(2)),
        1 => format!("{{lb_endpoints: [{}], load_balancing_weight: 3}}", endpoint(2)),
        2 => String::new(),
        3 => format!(
            "{{lb_endpoints: [{}]}}, {{priority: 1, lb_endpoints: [{}]}}",
            endpoint(3),
            endpoint(4)
        ),
        4 => format!(
            "{{lb_endpoints: [{{health_status: UNHEALTHY, {}]}}",
            &endpoint(1)[1..]
        ),
        _ => format!(
            "{{lb_endpoints: [{}]}}",
            endpoint(5).replace("10.0.0.5", "not.an.address")
        ),
    };
    format!("{{cluster_name: {name}, endpoints: [{all}]}}")
}

fn listener(name: &str, version: u8) -> String {
    let manager = |routes: &str| {
        format!(
            "{{name: h, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
             stat_prefix: h, {routes}, http_filters: [{{name: r, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}"
        )
    };
    let rds = |table: &str| {
        manager(&format!(
            "rds: {{route_config_name: {table}, config_source: {{ads: {{}}, resource_api_version: V3}}}}"
        ))
    };
    let (port, filter) = match version {
        0 => (1, rds("r1")),
        1 => (1, rds("r2")),
        2 => (2, rds("r1")),
        3 => (1, manager(&format!("route_config: {}", routes("inline", 0)))),
        4 => (
            1,
            "{name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
             stat_prefix: t, cluster: b}}"
                .to_owned(),
        ),
        _ => (1, "{name: no.such.filter}".to_owned()),
    };
    let port = port + if name == "in" { 1000 } else { 2000 };
    format!(
        "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, filter_chains: [{{filters: [{filter}]}}]}}"
    )
}

fn routes(name: &str, version: u8) -> String {
    let host = |name: &str, domain: &str, cluster: &str| {
        format!(
            "{{name: host-{name}, domains: ['{domain}'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}"
        )
    };
    let hosts = match version {
        0 => [host("x", "x", "a"), host("y", "y", "b")].join(", "),
        1 => [host("x", "x", "a"), host("y", "y", "c")].join(", "),
        2 => [host("y", "y", "b"), host("x", "x", "a")].join(", "),
        3 => host("all", "*", "unheard-of"),
        4 => [host("x", "z", "a"), host("y", "y", "b")].join(", "),
        _ => [host("x", "x", "a"), host("y", "x", "b")].join(", "),
    };
    format!("{{name: {name}, virtual_hosts: [{hosts}]}}")
}

/// The bytes of [`yaml`], read once.
fn body(kind: Kind, name: &'static str, version: u8) -> Bytes {
    thread_local! {
        static POOL: Pool = Pool::load().unwrap();
        static BODIES: RefCell<HashMap<(Kind, &'static str, u8), Bytes>> = RefCell::default();
    }
    let read = || {
        let text = yaml(kind, name, version);
        POOL.with(
            |pool| match pool.read(&text, kind.type_url(), ReadOptions::default()) {
                Ok(document) => Bytes::from(document.bytes),
                Err(problems) => panic!("the test's own YAML is wrong: {problems}\n{text}"),
            },
        )
    };
    BODIES.with_borrow_mut(|bodies| bodies.entry((kind, name, version)).or_insert_with(read).clone())
}

fn accept(catalog: &mut Catalog, kind: Kind, name: &str, body: &Bytes) -> Result<(), String> {
    let arrived = Arrived {
        source: &Some(Source::Ads),
        name: &name.into(),
        version: &"v".into(),
        body,
        is_static: false,
    };
    catalog.accept(kind, &arrived, &mut |_| Ok(()))
}

fn carry_out(catalog: &mut Catalog, step: Step) {
    let source = Some(Source::Ads);
    match step {
        Step::Push(kind, name, version) => {
            let verdict = accept(catalog, kind, name, &body(kind, name, version));
            assert!(
                verdict.is_ok() || version == 5 || kind == Kind::Listener,
                "{step:?}: {verdict:?}"
            );
            assert!(verdict.is_err() || version != 5, "{step:?} is bad");
        }
        Step::Remove(kind, name) => catalog.remove(kind, &source, &name.into()),
        // Only what is asked for is waited for.
        Step::GiveUp(kind @ (Kind::Endpoints | Kind::RouteConfiguration | Kind::Secret), name) => {
            if catalog.needs.is_used(&need_of(kind, &source, &name.into())) {
                catalog.give_up(kind, &source, &name.into());
            }
        }
        Step::GiveUp(..) => {}
        Step::Publish => {
            let before = catalog.preview().generation;
            if let (Some(snapshot), _) = catalog.finish() {
                assert_eq!(snapshot.generation, before + 1);
            }
        }
    }
}

/// Nobody waits for anything any longer: whatever warms becomes active.
fn end_all_waits(catalog: &mut Catalog) {
    let dependent: [(Kind, &[&str]); 3] = [
        (Kind::Endpoints, &ASSIGNMENTS),
        (Kind::RouteConfiguration, &TABLES),
        (Kind::Secret, &SECRETS),
    ];
    for (kind, names) in dependent {
        for name in names {
            catalog.give_up(kind, &Some(Source::Ads), &(*name).into());
        }
    }
    // Routes and listeners that wait for clusters are let go when it is published.
    let _ = catalog.finish();
    assert_eq!(
        catalog.warming_count(Kind::Cluster) + catalog.warming_count(Kind::Listener),
        0
    );
}

/// The same resources as they are held, put into an empty world.
fn from_scratch(catalog: &Catalog) -> Catalog {
    let mut fresh = Catalog::new();
    for kind in Kind::ALL {
        for (name, held) in catalog.held.of(kind).filter(|(_, held)| !held.body.is_empty()) {
            if let Err(reason) = accept(&mut fresh, kind, name, &held.body) {
                panic!("{kind:?} {name} was accepted before: {reason}");
            }
        }
    }
    end_all_waits(&mut fresh);
    fresh
}

/// Everything that a request could notice, in words without ids.
fn picture(catalog: &mut Catalog) -> BTreeMap<String, String> {
    let _ = catalog.finish();
    let world = catalog.preview().clone();
    let mut picture = BTreeMap::new();
    for listener in world.listeners.iter() {
        let mut words = format!("{:?}", listener.addresses);
        for chain in &listener.chains {
            let _ = write!(
                words,
                " {} {}",
                chain.fingerprint,
                terminal(catalog, &chain.terminal)
            );
        }
        picture.insert(format!("listener {}", listener.name), words);
    }
    for (id, cluster) in world.clusters.iter() {
        assert_eq!(catalog.cluster_names.name(id), Some(&cluster.config.name));
        let set = &cluster.endpoints;
        let addresses: Vec<_> = set.endpoints.iter().map(|endpoint| &endpoint.spec).collect();
        let service = match &cluster.config.discovery {
            Discovery::Eds { service } => service,
            _ => &cluster.config.name,
        };
        let words = format!(
            "{} {service} {:?} {addresses:?} {:?}",
            cluster.config.fingerprint, set.options, set.loads
        );
        picture.insert(format!("cluster {}", cluster.config.name), words);
        assert!(set.endpoints.iter().all(|endpoint| {
            !endpoint
                .counts()
                .removed
                .load(std::sync::atomic::Ordering::Relaxed)
        }));
    }
    for (_, table) in world.route_tables.iter() {
        picture.insert(format!("routes {}", table.name), table_words(catalog, table));
    }
    for (_, secret) in world.secrets.iter() {
        picture.insert(format!("secret {}", secret.name), format!("{:?}", secret.kind));
    }
    picture
}

fn terminal(catalog: &Catalog, terminal: &Terminal) -> String {
    let name = |id| catalog.cluster_names.name(id).cloned();
    match terminal {
        Terminal::Http(manager) => match &manager.routes {
            Routes::Inline(table) => table_words(catalog, table),
            Routes::Dynamic(id) => format!("{:?}", catalog.route_table_names.name(*id)),
        },
        Terminal::Tcp(proxy) => match &proxy.cluster {
            ClusterChoice::One(id) => format!("{:?}", name(*id)),
            other => format!("{other:?}"),
        },
        Terminal::Close => "close".to_owned(),
    }
}

/// Who answers to which authority.
fn table_words(catalog: &Catalog, table: &RouteTable) -> String {
    let mut words = table.fingerprint.to_string();
    for authority in ["x", "y", "z", "other"] {
        let host = table
            .domains
            .find(authority, false)
            .map(|position| &table.virtual_hosts[position]);
        let _ = write!(words, " {authority}: {:?}", host.map(|host| &host.name));
        for route in host.iter().flat_map(|host| &host.routes) {
            if let Action::Forward(forward) = &route.action
                && let ClusterChoice::One(id) = &forward.cluster
            {
                let _ = write!(words, " {:?}", catalog.cluster_names.name(*id));
            }
        }
    }
    words
}

/// What differs after these steps; `None`: nothing.
fn difference(steps: &[Step]) -> Option<String> {
    let mut catalog = Catalog::new();
    for step in steps {
        carry_out(&mut catalog, *step);
    }
    end_all_waits(&mut catalog);
    let mut fresh = from_scratch(&catalog);
    let (grown, made) = (picture(&mut catalog), picture(&mut fresh));
    (grown != made).then(|| format!("step by step: {grown:#?}\nfrom scratch: {made:#?}"))
}

/// The steps without those that do not matter.
fn shortened(mut steps: Vec<Step>) -> Vec<Step> {
    let mut at = steps.len();
    while at > 0 {
        at -= 1;
        let dropped = steps.remove(at);
        if difference(&steps).is_none() {
            steps.insert(at, dropped);
        }
    }
    steps
}

#[test]
fn any_sequence_of_pushes_ends_in_the_world_of_its_final_resources() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("REMORA_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PROPTEST_CASES").unwrap_or(CASES),
    };
    for seed in seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let steps: Vec<Step> = (0..rng.usize(1..STEPS)).map(|_| draw(&mut rng)).collect();
        if difference(&steps).is_some() {
            let steps = shortened(steps);
            panic!(
                "seed {seed}: REMORA_SEED={seed} cargo test --workspace --lib any_sequence_of_pushes\n{steps:#?}\n{}",
                difference(&steps).unwrap_or_default()
            );
        }
    }
}
