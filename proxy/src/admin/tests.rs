//! The admin port over a real socket, with a stand-in for the rest of the house.

mod freshness;
mod grpc;
mod sockets;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use remora_model::listener::ListenAddress;
use remora_model::snapshot::Snapshot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::observe::logging::{Logging, LoggingOptions};
use crate::observe::test_world::{TestWorld, WORLD};

/// Says what it is told to say and remembers orders.
struct StandIn {
    world: Arc<Snapshot>,
    readiness: RefCell<Readiness>,
    healthy: Cell<bool>,
    orders: RefCell<Vec<Command>>,
}

impl StandIn {
    fn live() -> Rc<Self> {
        Rc::new(Self {
            world: TestWorld::of(WORLD).snapshot,
            readiness: RefCell::new(Readiness {
                state: ServerState::Live,
                reason: String::new(),
                waiting_for: vec![],
            }),
            healthy: Cell::new(true),
            orders: RefCell::default(),
        })
    }
}

impl Operator for StandIn {
    fn readiness(&self) -> Readiness {
        self.readiness.borrow().clone()
    }
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.world)
    }
    fn resources(&self, kind: ResourceKind) -> Vec<ResourceView> {
        if kind != ResourceKind::Cluster {
            return Vec::new();
        }
        // A cluster named `up` (field 1 of the message).
        let body = Bytes::from_static(b"\x0a\x02up");
        vec![ResourceView {
            kind,
            name: "up".into(),
            accepted: Some(AcceptedVersion {
                version: "v7".into(),
                updated: SystemTime::UNIX_EPOCH,
                body,
            }),
            serving: None,
            error: None,
            state: ResourceState::Active,
            status: ClientStatus::Acked,
        }]
    }
    fn sources(&self) -> Vec<SourceView> {
        let stream = StreamView {
            since: Some(Duration::from_secs(3)),
            last_end: Some(StreamEndView {
                server: "planner".into(),
                reason: "connection refused".into(),
                age: Duration::from_millis(3200),
            }),
            ..StreamView::default()
        };
        vec![SourceView {
            name: "ADS".into(),
            stream,
            types: vec![TypeView {
                kind: ResourceKind::Cluster,
                version: "v7".into(),
                states: [
                    ("acked", 1),
                    ("nacked", 0),
                    ("requested", 0),
                    ("missing", 0),
                    ("received_error", 0),
                ],
                received: 2,
                accepted: 1,
                rejected: 1,
                fetch_timeouts: 0,
                last_update: Some(Duration::from_secs(9)),
                last_rejection: None,
            }],
        }]
    }
    fn warming(&self, kind: ResourceKind) -> Vec<(Name, String)> {
        match kind {
            ResourceKind::Cluster => vec![("up".into(), "ClusterLoadAssignment 'up'".into())],
            _ => Vec::new(),
        }
    }
    fn static_clusters(&self) -> HashSet<Name> {
        HashSet::from(["dead".into()])
    }
    fn version(&self, _: ResourceKind) -> Option<String> {
        Some("v7".into())
    }
    fn encoded_node(&self) -> Bytes {
        // A node with the id `n1`.
        Bytes::from_static(b"\x0a\x02n1")
    }
    fn bootstrap(&self) -> Option<BootstrapView> {
        None
    }
    fn bound(&self) -> Vec<BoundListener> {
        let address = ListenAddress::Socket(([127, 0, 0, 1], 19080).into());
        vec![BoundListener {
            listener: "in".into(),
            address,
        }]
    }
    fn server(&self) -> ServerView {
        ServerView {
            started: Instant::now(),
            concurrency: 2,
            command_line_options: serde_json::json!({ "concurrency": 2, "log_level": "info" }),
            node: serde_json::json!({ "id": "n1" }),
        }
    }
    fn healthy(&self) -> bool {
        self.healthy.get()
    }
    fn command(&self, command: Command) {
        match command {
            Command::HealthcheckFail => self.healthy.set(false),
            Command::HealthcheckOk => self.healthy.set(true),
            Command::DrainListeners { .. } | Command::Quit => {}
        }
        self.orders.borrow_mut().push(command);
    }
}

struct Reply {
    status: StatusCode,
    content_type: String,
    body: String,
}

impl Reply {
    fn json(&self) -> serde_json::Value {
        assert_eq!(self.content_type, "application/json");
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Runs a test against an admin port of its own.
fn with_admin<F: Future<Output = ()>>(house: &Rc<StandIn>, test: impl FnOnce(ListenAddress) -> F) {
    let operator: Rc<dyn Operator> = Rc::clone(house) as Rc<dyn Operator>;
    let logging = Logging::detached(&LoggingOptions::default()).unwrap();
    let context = AdminContext {
        operator,
        observe: Arc::default(),
        logging,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let any = ListenAddress::Socket(([127, 0, 0, 1], 0).into());
        let server = AdminServer::bind(&any).await.unwrap();
        let address = server.address().clone();
        let serving = tokio::task::spawn_local(server.serve(context));
        test(address).await;
        serving.abort();
    });
}

async fn ask(address: &ListenAddress, method: Method, path: &str) -> Reply {
    let ListenAddress::Socket(socket) = address else {
        panic!("not TCP")
    };
    let stream = tokio::net::TcpStream::connect(socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "admin")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Reply {
        status,
        content_type,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

async fn get(address: &ListenAddress, path: &str) -> Reply {
    ask(address, Method::GET, path).await
}

async fn post(address: &ListenAddress, path: &str) -> Reply {
    ask(address, Method::POST, path).await
}

#[test]
fn readiness_is_envoys_word_and_a_reason() {
    let house = StandIn::live();
    with_admin(&house, |address| async move {
        let reply = get(&address, "/ready").await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "LIVE\n"));
    });
    *house.readiness.borrow_mut() = Readiness {
        state: ServerState::Initializing,
        reason: "waiting for listener in: secret default has not arrived".into(),
        waiting_for: vec!["SDS default".into()],
    };
    with_admin(&house, |address| async move {
        let reply = get(&address, "/ready").await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            reply.body,
            "INITIALIZING\nwaiting for listener in: secret default has not arrived\n"
        );
        let dump = get(&address, "/init_dump").await.json();
        assert_eq!(dump["unready_targets_dumps"][0]["target_names"][0], "SDS default");
        assert!(
            get(&address, "/stats?filter=^server.state$")
                .await
                .body
                .contains("server.state: 3\n")
        );
    });
}

#[test]
fn what_changes_something_must_be_posted() {
    let house = StandIn::live();
    with_admin(&house, |address| async move {
        for path in [
            "/quitquitquit",
            "/drain_listeners",
            "/healthcheck/fail",
            "/logging",
            "/reset_counters",
        ] {
            let reply = get(&address, path).await;
            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(reply.body, "Method GET not allowed, POST required.");
        }
    });
    assert!(house.orders.borrow().is_empty());
}

#[test]
fn orders_reach_the_house() {
    let house = StandIn::live();
    with_admin(&house, |address| async move {
        for path in [
            "/drain_listeners?inboundonly&graceful",
            "/drain_listeners?skip_exit",
            "/healthcheck/fail",
            "/quitquitquit",
        ] {
            let reply = post(&address, path).await;
            assert_eq!(
                (reply.status, reply.body.as_str()),
                (StatusCode::OK, "OK\n"),
                "{path}"
            );
        }
        assert_eq!(
            get(&address, "/ready").await.body,
            "DRAINING\nhealth checks were told to fail\n"
        );
        assert_eq!(get(&address, "/server_info").await.json()["state"], "DRAINING");
        post(&address, "/healthcheck/ok").await;
        assert_eq!(get(&address, "/ready").await.body, "LIVE\n");
        assert_eq!(post(&address, "/reopen_logs").await.body, "OK\n");
    });
    let orders = house.orders.borrow();
    assert_eq!(
        orders[0],
        Command::DrainListeners {
            graceful: true,
            inbound_only: true,
            skip_exit: false
        }
    );
    assert_eq!(
        orders[1],
        Command::DrainListeners {
            graceful: false,
            inbound_only: false,
            skip_exit: true
        }
    );
    assert_eq!(
        orders[2..],
        [Command::HealthcheckFail, Command::Quit, Command::HealthcheckOk]
    );
}

#[test]
fn every_page_of_the_list_is_there() {
    with_admin(&StandIn::live(), |address| async move {
        let list = get(&address, "/help").await.body;
        assert!(list.starts_with("admin commands are:\n"));
        for entry in help::COMMANDS.iter().filter(|entry| !entry.changes) {
            let reply = get(&address, entry.path).await;
            assert_eq!(reply.status, StatusCode::OK, "{}: {}", entry.path, reply.body);
            assert!(!reply.body.is_empty(), "{}", entry.path);
            if reply.content_type == "application/json" {
                reply.json();
            }
        }
        assert!(get(&address, "/").await.content_type.starts_with("text/html"));
        let unknown = get(&address, "/nothing").await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        assert!(unknown.body.starts_with("invalid path. admin commands are:\n"));
    });
}

#[test]
fn clusters_read_as_envoys() {
    with_admin(&StandIn::live(), |address| async move {
        let text = get(&address, "/clusters").await.body;
        for line in [
            "up::observability_name::up\n",
            "up::default_priority::max_connections::1024\n",
            "up::high_priority::max_retries::3\n",
            "up::added_via_api::true\n",
            "dead::added_via_api::false\n",
            "up::127.0.0.1:19081::cx_active::0\n",
            "dead::127.0.0.1:1::hostname::hn\n",
            "dead::127.0.0.1:1::health_flags::healthy\n",
            "dead::127.0.0.1:2::health_flags::/failed_eds_health\n",
            "dead::127.0.0.1:1::zone::z1\n",
            "dead::127.0.0.1:1::success_rate::-1\n",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        let json = get(&address, "/clusters?format=json").await.json();
        let statuses = json["cluster_statuses"].as_array().unwrap();
        assert_eq!(
            (statuses.len(), &statuses[0]["name"]),
            (2, &serde_json::json!("dead"))
        );
        let host = &statuses[0]["host_statuses"][0];
        assert_eq!(host["address"]["socket_address"]["port_value"], 1);
        assert_eq!(host["health_status"]["eds_health_status"], "HEALTHY");
        assert_eq!(
            statuses[0]["circuit_breakers"]["thresholds"][1]["priority"],
            "HIGH"
        );
        assert_eq!(
            get(&address, "/clusters?filter=^up$&format=json").await.json()["cluster_statuses"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    });
}

#[test]
fn listeners_and_server_info_read_as_envoys() {
    with_admin(&StandIn::live(), |address| async move {
        assert_eq!(get(&address, "/listeners").await.body, "in::127.0.0.1:19080\n");
        let listeners = get(&address, "/listeners?format=json").await.json();
        let local = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        assert_eq!(
            (&local["address"], &local["port_value"]),
            (&serde_json::json!("127.0.0.1"), &serde_json::json!(19080))
        );
        let info = get(&address, "/server_info").await.json();
        assert_eq!(
            (&info["state"], &info["node"]["id"]),
            (&serde_json::json!("LIVE"), &serde_json::json!("n1"))
        );
        assert_eq!(info["command_line_options"]["concurrency"], 2);
    });
}

#[test]
fn a_dump_shows_what_the_control_plane_sent() {
    with_admin(&StandIn::live(), |address| async move {
        let dump = get(&address, "/config_dump").await.json();
        let clusters = &dump["configs"][0];
        assert_eq!(clusters["version_info"], "v7");
        assert_eq!(clusters["dynamic_active_clusters"][0]["cluster"]["name"], "up");
        let part = get(&address, "/config_dump?resource=dynamic_active_clusters")
            .await
            .json();
        assert_eq!(
            part["configs"][0]["@type"],
            "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster"
        );
        let unknown = get(&address, "/config_dump?resource=nope").await;
        assert_eq!(
            (unknown.status, unknown.body.as_str()),
            (StatusCode::NOT_FOUND, "nope not found in config dump")
        );
        let endpoints = get(
            &address,
            "/config_dump?include_eds&resource=static_endpoint_configs",
        )
        .await
        .json();
        let assignment = &endpoints["configs"][0]["endpoint_config"];
        assert_eq!(assignment["cluster_name"], "dead");
        assert_eq!(
            assignment["endpoints"][0]["lb_endpoints"][0]["health_status"],
            "HEALTHY"
        );
    });
}

#[test]
fn a_wrong_query_is_refused_with_its_reason() {
    with_admin(&StandIn::live(), |address| async move {
        for (path, words) in [
            ("/stats?filter=(", "Invalid re2 regex"),
            ("/stats?type=bogus", "invalid &type= param"),
            ("/stats?format=bogus", "usage: /stats?format="),
            (
                "/config_dump?name_regex=(",
                "INVALID_ARGUMENT: Error while parsing name_regex from (: ",
            ),
            (
                "/config_dump?resource=version_info",
                "version_info is not a repeated field. Use ?mask=version_info to get only this field",
            ),
            (
                "/config_dump?mask=nope",
                "FieldMask nope could not be successfully applied to any configs.",
            ),
        ] {
            let reply = get(&address, path).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}");
            assert!(reply.body.starts_with(words), "{path}: {}", reply.body);
        }
    });
}

#[test]
fn log_levels_are_shown_and_changed() {
    with_admin(&StandIn::live(), |address| async move {
        assert!(post(&address, "/logging").await.body.contains("  http: info\n"));
        assert!(
            post(&address, "/logging?paths=http:debug,tls:error")
                .await
                .body
                .contains("  http: debug\n")
        );
        assert!(
            post(&address, "/logging?level=warning")
                .await
                .body
                .contains("  http: warning\n")
        );
        let wrong = post(&address, "/logging?level=loud").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        assert!(wrong.body.starts_with("error: unknown logger level\n"));
        assert!(
            post(&address, "/logging?nothing=debug")
                .await
                .body
                .starts_with("error: unknown logger name\n")
        );
    });
}
