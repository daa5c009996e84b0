//! The driver against a real gRPC server in this process, mostly over memory and a clock that waits for us.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use tokio::io::DuplexStream;
use tonic::Status;

use self::control_plane::{in_memory, incoming, serve};
use super::*;
use crate::resource_type::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, LISTENER, SECRET};
use crate::update::{Interest, Rejection, Update};

mod control_plane;

fn server(name: &str) -> Server {
    Server {
        name: name.into(),
        target: Target::Cluster(name.into()),
        authority: "xds.example:15010".into(),
        scheme: http::uri::Scheme::HTTP,
        initial_metadata: vec![("authorization".into(), "Bearer x".into())],
    }
}

fn config(variant: Variant, scope: Scope) -> ClientConfig {
    let node = Node {
        id: "node".into(),
        ..Node::default()
    }
    .encode_to_vec();
    ClientConfig::new(variant, scope, vec![server("one")], node.into())
}

async fn connected(events: &mut mpsc::Receiver<Event>) -> Arc<str> {
    match events.recv().await.expect("a running client") {
        Event::Connected { server } => server,
        other => panic!("expected to be connected, found {other:?}"),
    }
}

async fn disconnected(events: &mut mpsc::Receiver<Event>) -> (Arc<str>, String, bool, Duration) {
    match events.recv().await.expect("a running client") {
        Event::Disconnected {
            server,
            reason,
            had_response,
            retry_in,
        } => (server, reason, had_response, retry_in),
        other => panic!("expected to be disconnected, found {other:?}"),
    }
}

async fn update(events: &mut mpsc::Receiver<Event>) -> Update {
    match events.recv().await.expect("a running client") {
        Event::Update(update) => update,
        other => panic!("expected an update, found {other:?}"),
    }
}

fn cluster(name: &str) -> Any {
    let value = Cluster {
        name: name.into(),
        ..Cluster::default()
    }
    .encode_to_vec();
    Any {
        type_url: CLUSTER.into(),
        value,
    }
}

fn clusters(version: &str, nonce: &str, names: &[&str]) -> discovery::DiscoveryResponse {
    discovery::DiscoveryResponse {
        version_info: version.into(),
        nonce: nonce.into(),
        type_url: CLUSTER.into(),
        resources: names.iter().map(|name| cluster(name)).collect(),
        ..discovery::DiscoveryResponse::default()
    }
}

#[tokio::test(start_paused = true)]
async fn state_of_the_world_asks_answers_and_asks_again_after_the_end_of_a_stream() {
    let (mut running, connector) = in_memory();
    let (handle, mut events) = spawn(config(Variant::StateOfTheWorld, Scope::Aggregated), connector).unwrap();
    handle.want(CLUSTER, Interest::Wildcard);
    let mut stream = running.sotw.recv().await.unwrap();
    let first = stream.request().await;
    assert_eq!(
        (&*first.type_url, first.node.unwrap().id),
        (CLUSTER, "node".to_owned())
    );
    assert_eq!(&*connected(&mut events).await, "one");
    assert!(handle.is_connected());

    stream.respond(clusters("c1", "n1", &["a", "b"])).await;
    let update_one = update(&mut events).await;
    assert_eq!(update_one.resources.len(), 2);
    handle.want(CLUSTER_LOAD_ASSIGNMENT, Interest::names(["a", "b"]));
    handle.verdict(update_one.response, Vec::new());
    let (ack, names) = (stream.request().await, stream.request().await);
    assert_eq!(
        (&*ack.version_info, &*ack.response_nonce, ack.error_detail),
        ("c1", "n1", None)
    );
    assert_eq!(names.resource_names, ["a", "b"]);

    stream.respond(clusters("c2", "n2", &["a", "b", "c"])).await;
    let update_two = update(&mut events).await;
    assert_eq!(update_two.resources.len(), 1);
    handle.verdict(update_two.response, vec![Rejection::new("c", "no")]);
    let nack = stream.request().await;
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("c1", "n2"));
    assert_eq!(nack.error_detail.unwrap().message, "c: no");

    drop(stream);
    let (_, reason, had_response, retry_in) = disconnected(&mut events).await;
    assert_eq!((&*reason, had_response), ("the server ended the stream", true));
    assert!(retry_in <= Duration::from_millis(500));
    assert!(!handle.is_connected());
    let status = handle.stream_status();
    let end = status.last_end.unwrap();
    assert_eq!(
        (status.connected_to, status.opened, status.failures),
        (None, 1, 0)
    );
    assert_eq!(
        (&*end.server, end.reason, end.had_response),
        ("one", reason, true)
    );
    assert!(status.last_message.unwrap() <= end.at);
    let mut stream = running.sotw.recv().await.unwrap();
    let (clusters, endpoints) = (stream.request().await, stream.request().await);
    assert_eq!((&*clusters.version_info, &*clusters.response_nonce), ("c1", ""));
    assert!(clusters.node.is_some() && endpoints.node.is_none());
    assert_eq!(endpoints.resource_names, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn delta_tells_a_new_stream_what_is_held() {
    let (mut running, connector) = in_memory();
    let (handle, mut events) = spawn(config(Variant::Delta, Scope::Aggregated), connector).unwrap();
    handle.want(CLUSTER, Interest::Wildcard);
    let mut stream = running.delta.recv().await.unwrap();
    stream.request().await;
    connected(&mut events).await;
    let resource = |name: &str, version: &str| discovery::Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(cluster(name)),
        ..discovery::Resource::default()
    };
    let response = |nonce: &str, resources| discovery::DeltaDiscoveryResponse {
        type_url: CLUSTER.into(),
        nonce: nonce.into(),
        resources,
        ..discovery::DeltaDiscoveryResponse::default()
    };
    stream
        .respond(response("n1", vec![resource("a", "1"), resource("b", "2")]))
        .await;
    let first = update(&mut events).await;
    handle.verdict(first.response, vec![Rejection::new("b", "no")]);
    let nack = stream.request().await;
    assert_eq!(
        (&*nack.response_nonce, &*nack.error_detail.unwrap().message),
        ("n1", "b: no")
    );

    let _ = stream
        .responses
        .send(Err(Status::unavailable("going down")))
        .await;
    let (_, reason, ..) = disconnected(&mut events).await;
    assert!(
        reason.starts_with("gRPC status Unavailable: going down"),
        "{reason}"
    );
    let mut stream = running.delta.recv().await.unwrap();
    let again = stream.request().await;
    assert_eq!(
        again.initial_resource_versions,
        [("a".to_owned(), "1".to_owned())].into()
    );
    assert!(again.node.is_some());
}

#[tokio::test(start_paused = true)]
async fn s1_a_type_with_a_stream_of_its_own_calls_its_own_service() {
    let (mut running, connector) = in_memory();
    let scope = Scope::Only(SECRET.into());
    let (handle, mut events) = spawn(config(Variant::StateOfTheWorld, scope), connector).unwrap();
    handle.want(SECRET, Interest::names(["default", "ROOTCA"]));
    let mut stream = running.secrets.recv().await.unwrap();
    assert_eq!(stream.request().await.resource_names, ["ROOTCA", "default"]);
    assert_eq!(stream.metadata.get("authorization").unwrap(), "Bearer x");
    let uri = running.uris.lock().unwrap()[0].to_string();
    assert_eq!(
        uri,
        "http://xds.example:15010/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
    );
    connected(&mut events).await;
    let secret = Secret {
        name: "default".into(),
        ..Secret::default()
    }
    .encode_to_vec();
    let secret = Any {
        type_url: SECRET.into(),
        value: secret,
    };
    let response = discovery::DiscoveryResponse {
        resources: vec![secret],
        ..discovery::DiscoveryResponse::default()
    };
    stream.respond(response).await;
    assert_eq!(&*update(&mut events).await.resources[0].name, "default");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_implemented_is_a_disconnection_with_its_status() {
    let (_running, connector) = in_memory();
    let (handle, mut events) = spawn(config(Variant::Delta, Scope::Only(SECRET.into())), connector).unwrap();
    handle.want(SECRET, Interest::names(["default"]));
    connected(&mut events).await;
    let (_, reason, had_response, _) = disconnected(&mut events).await;
    assert_eq!(
        (&*reason, had_response),
        ("gRPC status Unimplemented: as istio's agent", false)
    );
}

#[tokio::test(start_paused = true)]
async fn f2_f5_failures_back_off_and_go_on_to_the_next_server() {
    let connector = Connector::new(|target| async move {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, format!("{target:?}"));
        Err::<DuplexStream, _>(refused)
    });
    let mut config = config(Variant::Delta, Scope::Aggregated);
    config.servers.push(server("two"));
    config.back_off = BackOff::new(Duration::from_millis(500), Duration::from_secs(4)).with_seed(1);
    let (_handle, mut events) = spawn(config, connector).unwrap();
    let mut expected = Duration::from_millis(500);
    let mut before = tokio::time::Instant::now();
    for turn in 0..8 {
        let (server, reason, had_response, retry_in) = disconnected(&mut events).await;
        assert_eq!(&*server, ["one", "two"][turn % 2]);
        assert!(
            reason.starts_with("cannot connect: ") && reason.contains(&format!("Cluster(\"{server}\")")),
            "{reason}"
        );
        assert!(!had_response);
        assert!(
            retry_in >= expected / 2 && retry_in <= expected,
            "{retry_in:?} for {expected:?}"
        );
        if turn > 0 {
            assert!(before.elapsed() >= expected / 4, "the wait was kept");
        }
        before = tokio::time::Instant::now();
        expected = (expected * 2).min(Duration::from_secs(4));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_stands_is_given_up() {
    let connector = Connector::new(|_| std::future::pending::<std::io::Result<DuplexStream>>());
    let (_handle, mut events) = spawn(config(Variant::Delta, Scope::Aggregated), connector).unwrap();
    let start = tokio::time::Instant::now();
    let (_, reason, ..) = disconnected(&mut events).await;
    assert_eq!(reason, "cannot connect: no connection within 5s");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_found_out_by_a_ping() {
    let (mut running, connector) = in_memory();
    let (cut, is_cut) = tokio::sync::watch::channel(false);
    let connector = Connector::new(move |target| {
        let (connector, mut is_cut) = (connector.clone(), is_cut.clone());
        async move {
            let mut far = connector.connect(target).await?;
            let (ours, mut near) = tokio::io::duplex(1 << 20);
            tokio::spawn(async move {
                let stopped = async {
                    let _ = is_cut.wait_for(|cut| *cut).await;
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = stopped => {}
                }
                // Neither end is closed: the network just stops.
                std::future::pending::<()>().await;
            });
            Ok(ours)
        }
    });
    let mut config = config(Variant::Delta, Scope::Aggregated);
    config.keepalive_interval = Some(Duration::from_secs(30));
    let (handle, mut events) = spawn(config, connector).unwrap();
    handle.want(CLUSTER, Interest::Wildcard);
    handle.set_fetch_timeout(CLUSTER, None);
    connected(&mut events).await;
    let mut stream = running.delta.recv().await.unwrap();
    stream.request().await;
    let start = tokio::time::Instant::now();
    cut.send(true).unwrap();
    loop {
        match events.recv().await.unwrap() {
            Event::Missing { .. } => {}
            Event::Disconnected { .. } => break,
            other => panic!("expected to be disconnected, found {other:?}"),
        }
    }
    assert!(
        start.elapsed() <= Duration::from_secs(51),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn w7_a_fetch_timeout_is_told_while_the_stream_is_quiet() {
    let (mut running, connector) = in_memory();
    let (handle, mut events) = spawn(config(Variant::Delta, Scope::Aggregated), connector).unwrap();
    handle.want(LISTENER, Interest::Wildcard);
    connected(&mut events).await;
    let mut stream = running.delta.recv().await.unwrap();
    stream.request().await;
    let start = tokio::time::Instant::now();
    assert!(matches!(events.recv().await.unwrap(), Event::Missing { names, .. } if names.is_empty()));
    assert!(start.elapsed() <= Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn a9_a_delayed_nack_leaves_when_its_time_has_come() {
    let (mut running, connector) = in_memory();
    let (handle, mut events) = spawn(config(Variant::StateOfTheWorld, Scope::Aggregated), connector).unwrap();
    handle.want(CLUSTER, Interest::Wildcard);
    let mut stream = running.sotw.recv().await.unwrap();
    stream.request().await;
    connected(&mut events).await;
    let start = tokio::time::Instant::now();
    for nonce in ["n1", "n2", "n3"] {
        stream.respond(clusters("c1", nonce, &["a"])).await;
        let update = update(&mut events).await;
        handle.verdict(update.response, vec![Rejection::new("a", "no")]);
        assert_eq!(stream.request().await.response_nonce, nonce);
    }
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_millis(300) && waited < Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn f7_a_response_of_twenty_megabytes_arrives() {
    let (mut running, connector) = in_memory();
    let (handle, mut events) = spawn(config(Variant::StateOfTheWorld, Scope::Aggregated), connector).unwrap();
    handle.want(CLUSTER, Interest::Wildcard);
    let mut stream = running.sotw.recv().await.unwrap();
    stream.request().await;
    connected(&mut events).await;
    let mut response = clusters("c1", "n1", &[]);
    let large = Cluster {
        name: "a".into(),
        alt_stat_name: "x".repeat(20 << 20),
        ..Cluster::default()
    };
    response.resources.push(Any {
        type_url: CLUSTER.into(),
        value: large.encode_to_vec(),
    });
    stream.respond(response).await;
    assert!(update(&mut events).await.resources[0].body.len() > 20 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_client_ends_with_its_events() {
    let (mut running, connector) = in_memory();
    let (handle, events) = spawn(config(Variant::Delta, Scope::Aggregated), connector).unwrap();
    handle.want(CLUSTER, Interest::Wildcard);
    let mut stream = running.delta.recv().await.unwrap();
    stream.request().await;
    drop(events);
    assert!(!matches!(stream.requests.message().await, Ok(Some(_))));
}

#[tokio::test]
async fn the_plain_connector_reaches_tcp_and_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds");
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let unix = serve(incoming(unix, |unix| {
        Box::pin(async { Ok(unix.accept().await?.0) })
    }));
    let tcp = serve(incoming(tcp, |tcp| Box::pin(async { Ok(tcp.accept().await?.0) })));
    let targets = [
        Target::Unix(path),
        Target::Tcp {
            host: "127.0.0.1".into(),
            port,
        },
    ];
    for (mut running, target) in [unix, tcp].into_iter().zip(targets) {
        let mut config = config(Variant::Delta, Scope::Aggregated);
        config.servers[0].target = target;
        let (handle, _events) = spawn(config, Connector::plain()).unwrap();
        handle.want(CLUSTER, Interest::Wildcard);
        let mut stream = running.delta.recv().await.unwrap();
        assert_eq!(stream.request().await.type_url, CLUSTER);
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let refused = |config| spawn(config, Connector::plain()).unwrap_err().to_string();
    let mut none = config(Variant::Delta, Scope::Aggregated);
    none.servers.clear();
    assert_eq!(refused(none), "expected at least one server, found none");
    let unknown = config(Variant::Delta, Scope::Only("type.googleapis.com/a.B".into()));
    assert!(refused(unknown).contains("'type.googleapis.com/a.B'"));
    let mut authority = config(Variant::Delta, Scope::Aggregated);
    authority.servers[0].authority = "no authority".into();
    assert!(refused(authority).contains("found 'no authority'"));
    let mut metadata = config(Variant::Delta, Scope::Aggregated);
    metadata.servers[0].initial_metadata = vec![("bad key".into(), String::new())];
    assert!(refused(metadata).contains("found 'bad key'"));
}

#[test]
fn s1_the_paths_of_the_services_are_those_of_the_generated_ones() {
    use envoy_types::pb::envoy::service as services;
    let names = [
        (
            LISTENER,
            services::listener::v3::listener_discovery_service_server::SERVICE_NAME,
        ),
        (
            CLUSTER,
            services::cluster::v3::cluster_discovery_service_server::SERVICE_NAME,
        ),
        (
            crate::resource_type::ROUTE_CONFIGURATION,
            services::route::v3::route_discovery_service_server::SERVICE_NAME,
        ),
        (
            crate::resource_type::SCOPED_ROUTE,
            services::route::v3::scoped_routes_discovery_service_server::SERVICE_NAME,
        ),
        (
            crate::resource_type::VIRTUAL_HOST,
            services::route::v3::virtual_host_discovery_service_server::SERVICE_NAME,
        ),
        (
            CLUSTER_LOAD_ASSIGNMENT,
            services::endpoint::v3::endpoint_discovery_service_server::SERVICE_NAME,
        ),
        (
            SECRET,
            services::secret::v3::secret_discovery_service_server::SERVICE_NAME,
        ),
        (
            crate::resource_type::EXTENSION_CONFIG,
            services::extension::v3::extension_config_discovery_service_server::SERVICE_NAME,
        ),
        (
            crate::resource_type::RUNTIME,
            services::runtime::v3::runtime_discovery_service_server::SERVICE_NAME,
        ),
    ];
    for (type_url, name) in names {
        let path = own_path(type_url, Variant::Delta).unwrap();
        assert!(
            path.starts_with(&format!("/{name}/Delta")),
            "{path} is not of {name}"
        );
    }
    assert_eq!(
        own_path(crate::resource_type::VIRTUAL_HOST, Variant::StateOfTheWorld),
        None
    );
}

#[test]
fn a_server_that_is_pinged_too_often_is_pinged_half_as_often() {
    let seconds = Duration::from_secs;
    let go = "gRPC status Unavailable: h2 protocol error: detected excessive load: too_many_pings";
    assert_eq!(after_complaints(seconds(30), go), seconds(60));
    assert_eq!(after_complaints(seconds(240), go), seconds(310));
    assert_eq!(after_complaints(seconds(600), go), seconds(600));
    assert_eq!(
        after_complaints(seconds(30), "the server ended the stream"),
        seconds(30)
    );
}

#[tokio::test(start_paused = true)]
async fn f6_requests_wait_for_tokens_and_are_merged_meanwhile() {
    let (mut running, connector) = in_memory();
    let mut config = config(Variant::StateOfTheWorld, Scope::Aggregated);
    config.rate_limit = Some(RateLimit {
        max_tokens: 1,
        fill_interval: Duration::from_secs(5),
    });
    let (handle, mut events) = spawn(config, connector).unwrap();
    handle.want(CLUSTER_LOAD_ASSIGNMENT, Interest::names(["a"]));
    connected(&mut events).await;
    let mut stream = running.sotw.recv().await.unwrap();
    assert_eq!(stream.request().await.resource_names, ["a"]);
    let start = tokio::time::Instant::now();
    handle.want(CLUSTER_LOAD_ASSIGNMENT, Interest::names(["a", "b"]));
    // Let the driver see it before there is more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    handle.want(CLUSTER_LOAD_ASSIGNMENT, Interest::names(["a", "b", "c"]));
    assert_eq!(stream.request().await.resource_names, ["a", "b", "c"]);
    assert!(start.elapsed() >= Duration::from_secs(4));
}
