//! Chain selection and hand-off, on the listeners that a mesh control plane sends.

use super::*;
use crate::route::ClusterChoice;
use crate::snapshot::ClusterId;

/// A chain that ends in a TCP proxy.
pub(crate) fn chain(name: &str, criteria: ChainMatch, fingerprint: u64) -> Arc<FilterChain> {
    let tcp = TcpProxy {
        labels: None,
        stat_prefix: "t".into(),
        cluster: ClusterChoice::One(ClusterId::from_index(0)),
        idle_timeout: None,
        connection_duration: None,
        connect_attempts: 1,
        hash_source_address: false,
        access_logs: Vec::new(),
        options: None,
    };
    Arc::new(FilterChain {
        name: name.into(),
        criteria,
        tls: None,
        handshake_timeout: None,
        network_filters: Vec::new(),
        terminal: Terminal::Tcp(Arc::new(tcp)),
        security: fingerprint,
        fingerprint,
    })
}

/// A listener with these chains at this address.
pub(crate) fn listener(name: &str, address: &str, chains: Vec<Arc<FilterChain>>) -> Listener {
    let index = ChainIndex::new(&chains).unwrap();
    Listener {
        name: name.into(),
        addresses: vec![ListenAddress::Socket(address.parse().unwrap())],
        bind_to_port: true,
        use_original_dst: false,
        traffic_direction: TrafficDirection::Unspecified,
        stat_prefix: name.into(),
        inspection: Inspection {
            original_destination: false,
            proxy: None,
            tls: None,
            http: None,
            timeout: None,
            continue_on_timeout: false,
        },
        chains,
        index,
        default_chain: None,
        access_logs: Vec::new(),
        tcp_backlog: None,
    }
}

struct Call {
    destination: &'static str,
    source: &'static str,
    sni: Option<&'static str>,
    tls: bool,
    alpn: &'static [&'static str],
}

const PLAIN: Call = Call {
    destination: "10.1.1.1:80",
    source: "10.2.2.2:999",
    sni: None,
    tls: false,
    alpn: &[],
};

fn chosen(listener: &Listener, call: &Call) -> String {
    let alpn: Vec<Box<[u8]>> = call
        .alpn
        .iter()
        .map(|protocol| protocol.as_bytes().into())
        .collect();
    let source = call.source.parse().unwrap();
    let facts = ConnectionFacts {
        destination: call.destination.parse().unwrap(),
        source,
        direct_source: source,
        server_name: call.sni,
        tls: call.tls,
        application_protocols: &alpn,
    };
    listener
        .chain_for(&facts)
        .map_or("none".into(), |chain| chain.name.to_string())
}

fn of(edit: impl FnOnce(&mut ChainMatch)) -> ChainMatch {
    let mut criteria = ChainMatch::default();
    edit(&mut criteria);
    criteria
}

fn protocols(transport: &str, alpn: &[&str]) -> ChainMatch {
    of(|c| {
        c.transport_protocol = transport.into();
        c.application_protocols = alpn.iter().map(|protocol| (*protocol).into()).collect();
    })
}

/// The chains of a port whose protocol is detected and where plaintext is permitted.
fn permissive() -> Listener {
    let chains = [
        (
            "mtls-http",
            protocols("tls", &["istio-http/1.0", "istio-http/1.1", "istio-h2"]),
        ),
        ("plain-http", protocols("raw_buffer", &["http/1.1", "h2c"])),
        ("mtls-tcp", protocols("tls", &["istio-peer-exchange", "istio"])),
        ("plain-tcp", protocols("raw_buffer", &[])),
        ("foreign-tls", protocols("tls", &[])),
    ];
    let chains = chains
        .into_iter()
        .map(|(name, criteria)| chain(name, criteria, 0))
        .collect();
    listener("virtualInbound", "0.0.0.0:15006", chains)
}

#[test]
fn a_permissive_port_tells_five_kinds_of_connections_apart() {
    let listener = permissive();
    for (tls, alpn, expected) in [
        (
            true,
            &["istio-http/1.1", "istio", "http/1.1"] as &[_],
            "mtls-http",
        ),
        (true, &["istio", "istio-http/1.1"], "mtls-tcp"),
        (true, &["h2", "istio-h2"], "mtls-http"),
        (true, &["h2", "http/1.1"], "foreign-tls"),
        (true, &[], "foreign-tls"),
        (false, &["http/1.1"], "plain-http"),
        (false, &["h2c"], "plain-http"),
        (false, &["http/1.0"], "plain-tcp"),
        (false, &[], "plain-tcp"),
    ] {
        assert_eq!(
            chosen(&listener, &Call { tls, alpn, ..PLAIN }),
            expected,
            "{tls} {alpn:?}"
        );
    }
}

#[test]
fn a_more_specific_level_is_never_left_again() {
    let chains = vec![
        chain(
            "port",
            of(|c| {
                c.destination_port = Some(80);
                c.transport_protocol = "tls".into();
            }),
            0,
        ),
        chain("any", ChainMatch::default(), 0),
    ];
    let mut listener = listener("l", "0.0.0.0:1", chains);
    assert_eq!(
        chosen(&listener, &PLAIN),
        "none",
        "port 80 has a chain, so the chain without a port is out"
    );
    assert_eq!(chosen(&listener, &Call { tls: true, ..PLAIN }), "port");
    assert_eq!(
        chosen(
            &listener,
            &Call {
                destination: "10.1.1.1:81",
                ..PLAIN
            }
        ),
        "any"
    );
    listener.default_chain = Some(chain("default", ChainMatch::default(), 0));
    assert_eq!(chosen(&listener, &PLAIN), "default");
}

#[test]
fn the_longest_prefix_wins() {
    let to = |range: &str| of(|c| c.destination_prefixes = vec![range.parse().unwrap()]);
    let chains = vec![
        chain("8", to("10.0.0.0/8"), 0),
        chain("32", to("10.1.1.1/32"), 0),
        chain("v6", to("fd00::/8"), 0),
        chain("rest", ChainMatch::default(), 0),
    ];
    let listener = listener("l", "0.0.0.0:1", chains);
    for (destination, expected) in [
        ("10.1.1.1:80", "32"),
        ("10.1.1.2:80", "8"),
        ("11.1.1.1:80", "rest"),
        ("[fd00::1]:80", "v6"),
        ("[::ffff:10.1.1.1]:80", "32"),
    ] {
        assert_eq!(
            chosen(&listener, &Call { destination, ..PLAIN }),
            expected,
            "{destination}"
        );
    }
}

#[test]
fn server_names_match_exactly_then_by_longest_suffix() {
    let named = |name: &str| of(|c| c.server_names = vec![name.into()]);
    let chains = vec![
        chain("exact", named("www.example.com"), 0),
        chain("suffix", named("*.example.com"), 0),
        chain("com", named("*.com"), 0),
        chain("rest", ChainMatch::default(), 0),
    ];
    let listener = listener("l", "0.0.0.0:1", chains);
    for (sni, expected) in [
        (Some("www.example.com"), "exact"),
        (Some("a.b.example.com"), "suffix"),
        (Some("example.com"), "com"),
        (Some("example.org"), "rest"),
        (None, "rest"),
    ] {
        assert_eq!(
            chosen(
                &listener,
                &Call {
                    sni,
                    tls: true,
                    ..PLAIN
                }
            ),
            expected,
            "{sni:?}"
        );
    }
}

#[test]
fn sources_are_told_apart() {
    let chains = vec![
        chain("local", of(|c| c.source_type = SourceType::SameIpOrLoopback), 0),
        chain(
            "port",
            of(|c| {
                c.source_type = SourceType::External;
                c.source_ports = vec![999];
            }),
            0,
        ),
        chain(
            "net",
            of(|c| {
                c.source_type = SourceType::External;
                c.source_prefixes = vec!["10.3.0.0/16".parse().unwrap()];
            }),
            0,
        ),
        chain("rest", of(|c| c.source_type = SourceType::External), 0),
    ];
    let listener = listener("l", "0.0.0.0:1", chains);
    for (source, expected) in [
        ("127.0.0.1:5", "local"),
        ("127.0.0.9:5", "rest"),
        ("10.1.1.1:5", "local"),
        ("10.2.2.2:999", "port"),
        ("10.2.2.2:5", "rest"),
        ("10.3.2.2:5", "net"),
        ("10.3.2.2:999", "net"),
    ] {
        assert_eq!(chosen(&listener, &Call { source, ..PLAIN }), expected, "{source}");
    }
}

#[test]
fn chains_that_could_both_be_meant_are_refused() {
    let both = |first: ChainMatch, second: ChainMatch| {
        ChainIndex::new(&[chain("a", first, 0), chain("", second, 0)])
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    let equal = "filter chain '#1' has the same matching rules defined as 'a'";
    let overlapping = "multiple filter chains with overlapping matching rules are defined: 'a' and '#1'";
    assert_eq!(
        both(ChainMatch::default(), ChainMatch::default()),
        Err(equal.into())
    );
    let overlap = both(
        protocols("tls", &["h2", "http/1.1"]),
        protocols("tls", &["http/1.1"]),
    );
    assert_eq!(overlap, Err(overlapping.into()));
    assert_eq!(both(protocols("tls", &["h2"]), protocols("tls", &[])), Ok(()));
}

#[test]
fn a_redirected_connection_is_handed_to_the_listener_of_its_destination() {
    let mut outbound = listener("virtualOutbound", "0.0.0.0:15001", vec![]);
    outbound.use_original_dst = true;
    let outbound = Arc::new(outbound);
    let mut table = ListenerTable::default();
    table.insert(outbound.clone());
    for (name, address) in [
        ("vip", "10.96.0.1:80"),
        ("wildcard", "0.0.0.0:80"),
        ("wildcard6", "[::]:80"),
    ] {
        table.insert(Arc::new(listener(name, address, vec![])));
    }
    for (destination, expected) in [
        ("10.96.0.1:80", "vip"),
        ("10.96.0.2:80", "wildcard"),
        ("10.96.0.1:81", "virtualOutbound"),
        ("[fd00::1]:80", "wildcard6"),
        ("[::ffff:10.96.0.1]:80", "vip"),
        ("10.0.0.1:15001", "virtualOutbound"),
    ] {
        let found = table.hand_off(&outbound, destination.parse().unwrap());
        assert_eq!(found.name.as_ref(), expected, "{destination}");
    }
    let plain = Arc::new(listener("plain", "0.0.0.0:9", vec![]));
    assert_eq!(
        table
            .hand_off(&plain, "10.96.0.1:80".parse().unwrap())
            .name
            .as_ref(),
        "plain"
    );
    let rival = listener("rival", "0.0.0.0:80", vec![]);
    assert_eq!(
        table.conflict(&rival).map(|other| other.name.as_ref()),
        Some("wildcard")
    );
    table.remove("vip");
    let found = table.hand_off(&outbound, "10.96.0.1:80".parse().unwrap());
    assert_eq!((found.name.as_ref(), table.len()), ("wildcard", 3));
}

#[test]
fn an_address_goes_to_who_is_left() {
    let at = |table: &ListenerTable, address: &str| {
        let address = ListenAddress::Socket(address.parse().unwrap());
        table.bound(&address).map(|listener| listener.name.to_string())
    };
    let mut table = ListenerTable::default();
    table.insert(Arc::new(listener("a", "0.0.0.0:1", vec![])));
    table.insert(Arc::new(listener("b", "0.0.0.0:1", vec![])));
    assert_eq!(
        at(&table, "0.0.0.0:1").as_deref(),
        Some("a"),
        "the first keeps it"
    );
    table.insert(Arc::new(listener("a", "0.0.0.0:2", vec![])));
    assert_eq!(at(&table, "0.0.0.0:1").as_deref(), Some("b"));
    assert_eq!(at(&table, "0.0.0.0:2").as_deref(), Some("a"));
    assert!(table.remove("a").is_some() && table.remove("a").is_none());
    assert_eq!(at(&table, "0.0.0.0:2"), None);
}

/// The same chain with another end.
fn ending(chain: &FilterChain, terminal: Terminal) -> Arc<FilterChain> {
    Arc::new(FilterChain {
        name: chain.name.clone(),
        criteria: chain.criteria.clone(),
        tls: None,
        handshake_timeout: None,
        network_filters: Vec::new(),
        terminal,
        security: 0,
        fingerprint: 0,
    })
}

/// The same chain to another cluster.
fn to(cluster: u32, like: &FilterChain) -> Arc<FilterChain> {
    let Terminal::Tcp(proxy) = &like.terminal else {
        panic!("a tunnel")
    };
    let proxy = TcpProxy {
        cluster: ClusterChoice::One(ClusterId::from_index(cluster)),
        stat_prefix: proxy.stat_prefix.clone(),
        access_logs: Vec::new(),
        options: None,
        labels: None,
        ..**proxy
    };
    ending(like, Terminal::Tcp(Arc::new(proxy)))
}

/// The cluster that is common to all candidates of a connection to this port.
fn common(listener: &Listener, destination: &str) -> Option<usize> {
    let address = destination.parse().unwrap();
    let facts = ConnectionFacts {
        destination: address,
        source: address,
        direct_source: address,
        server_name: None,
        tls: false,
        application_protocols: &[],
    };
    let common = listener.common_upstream(&facts, &crate::snapshot::Snapshot::default());
    common.map(|common| common.cluster.index())
}

#[test]
fn a_cluster_is_common_only_if_no_first_byte_could_lead_elsewhere() {
    let at = "10.1.1.1:80";
    let shared = permissive();
    assert_eq!(common(&shared, at), Some(0), "all five lead there");
    for position in 0..shared.chains.len() {
        let mut chains = shared.chains.clone();
        chains[position] = to(1, &chains[position]);
        assert_eq!(
            common(&listener("l", "0.0.0.0:1", chains), at),
            None,
            "{position} differs"
        );
    }
    let mut chains = shared.chains;
    chains[4] = ending(&chains[4], Terminal::Close);
    assert_eq!(
        common(&listener("l", "0.0.0.0:1", chains), at),
        None,
        "one closes"
    );
}

#[test]
fn what_other_ports_lead_to_does_not_matter() {
    let port = |number| of(|c| c.destination_port = Some(number));
    let any = chain("any", ChainMatch::default(), 0);
    let chains = vec![to(7, &chain("other", port(81), 0)), any];
    let mut listener = listener("l", "0.0.0.0:1", chains);
    assert_eq!(common(&listener, "10.1.1.1:80"), Some(0));
    assert_eq!(common(&listener, "10.1.1.1:81"), Some(7));
    // Without a chain of its own a connection may fall to the default one.
    listener.chains.truncate(1);
    listener.index = ChainIndex::new(&listener.chains).unwrap();
    assert_eq!(common(&listener, "10.1.1.1:80"), None, "it would be closed");
    listener.default_chain = Some(chain("default", ChainMatch::default(), 0));
    assert_eq!(common(&listener, "10.1.1.1:80"), Some(0));
}

#[test]
fn a_name_that_is_not_matched_may_still_come() {
    let named = of(|c| c.server_names = vec!["a.example".into()]);
    let chains = vec![to(1, &chain("named", named, 0))];
    let mut listener = listener("l", "0.0.0.0:1", chains);
    listener.default_chain = Some(chain("default", ChainMatch::default(), 0));
    assert_eq!(common(&listener, "10.1.1.1:80"), None);
    listener.default_chain = Some(to(1, &chain("default", ChainMatch::default(), 0)));
    assert_eq!(common(&listener, "10.1.1.1:80"), Some(1));
}
