//! How tunnels end, and what is said of it, compared with the real Envoy.
//!
//! Both proxies get one bootstrap and the same servers. For each case the client's view, the server's view and the
//! lines of the access log must be the same.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use harness::bootstrap::{self, type_url};
use harness::peers;
use harness::process::{Port, Proxy};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::endpoints::{Endpoint, Manner};
use crate::stage::{WITHIN, start, timely};

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Say(&'static str),
    /// Reads this many bytes.
    Hear(usize),
    /// Ends its own direction.
    Finish,
    Reset,
    /// Reads to the end.
    HearOut,
    Leave,
}

use Step::{Finish, Hear, HearOut, Leave, Reset, Say};

struct Case {
    name: &'static str,
    /// Fields over those of a TCP proxy to `cluster`.
    fields: Value,
    steps: &'static [Step],
    /// Whether a server hears of it, and then how the connection ended is compared too.
    reaches: bool,
    lines: usize,
}

fn case(name: &'static str, fields: Value, steps: &'static [Step]) -> Case {
    Case {
        name,
        fields,
        steps,
        reaches: false,
        lines: 1,
    }
}

fn reaching(name: &'static str, fields: Value, steps: &'static [Step]) -> Case {
    Case {
        reaches: true,
        ..case(name, fields, steps)
    }
}

fn cases() -> Vec<Case> {
    [unreached(), ending(), choosing(), inside_http()]
        .into_iter()
        .flatten()
        .collect()
}

/// Nothing is connected to.
fn unreached() -> Vec<Case> {
    vec![
        case("no cluster", json!({"cluster": "missing"}), &[HearOut]),
        case("no endpoint", json!({"cluster": "empty"}), &[HearOut]),
        case("refused", json!({"cluster": "nobody"}), &[HearOut]),
        case(
            "refused thrice",
            json!({"cluster": "nobody", "max_connect_attempts": 3, "backoff_options": {"base_interval": "0.01s"}}),
            &[HearOut],
        ),
        case("overflow", json!({"cluster": "full"}), &[HearOut]),
    ]
}

/// One side ends, or a limit does.
fn ending() -> Vec<Case> {
    vec![
        reaching(
            "idle",
            json!({"cluster": "echo", "idle_timeout": "0.3s"}),
            &[Say("hi"), HearOut],
        ),
        reaching(
            "too old",
            json!({"cluster": "echo", "max_downstream_connection_duration": "0.3s",
                "max_downstream_connection_duration_jitter_percentage": {"value": 1}}),
            &[Say("hi"), HearOut],
        ),
        reaching(
            "reset by the server",
            json!({"cluster": "resets"}),
            &[Say("x"), HearOut],
        ),
        reaching(
            "closed by the server",
            json!({"cluster": "closes"}),
            &[Say("x"), HearOut],
        ),
        reaching(
            "client leaves",
            json!({"cluster": "echo"}),
            &[Say("x"), Hear(1), Leave],
        ),
        reaching(
            "client resets",
            json!({"cluster": "echo"}),
            &[Say("x"), Hear(1), Reset],
        ),
        reaching(
            "half-close",
            json!({"cluster": "late"}),
            &[Say("x"), Finish, HearOut],
        ),
    ]
}

/// Where to and when, and when it is told.
fn choosing() -> Vec<Case> {
    vec![
        reaching(
            "one of weighted clusters",
            json!({"cluster": null, "weighted_clusters": {"clusters": [{"name": "echo", "weight": 5}]}}),
            &[Say("x"), Hear(1), Leave],
        ),
        Case {
            lines: 3,
            ..reaching(
                "lines while it is open",
                json!({"cluster": "echo", "access_log_options":
                    {"flush_access_log_on_start": true, "flush_access_log_on_connected": true}}),
                &[Say("x"), Hear(1), Leave],
            )
        },
        Case {
            lines: 2,
            ..reaching(
                "a line now and then",
                json!({"cluster": "echo", "idle_timeout": "0.6s",
                    "access_log_options": {"access_log_flush_interval": "0.4s"}}),
                &[Say("x"), HearOut],
            )
        },
        reaching(
            "after the first bytes",
            json!({"cluster": "echo", "upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 10}),
            &[Say("x"), Hear(1), Leave],
        ),
        case(
            "no first bytes",
            json!({"cluster": "echo", "upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 10}),
            &[Leave],
        ),
    ]
}

/// Bytes inside a request.
fn inside_http() -> Vec<Case> {
    let inside = |fields: Value| json!({"cluster": "http1", "tunneling_config": fields});
    vec![
        reaching(
            "inside CONNECT",
            inside(
                json!({"hostname": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:5432",
                "headers_to_add": [{"header": {"key": "x-from", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}]}),
            ),
            &[Say("x"), Hear(1), Finish, HearOut],
        ),
        reaching(
            "inside POST",
            inside(json!({"hostname": "db.example", "use_post": true, "post_path": "/tunnel"})),
            &[Say("x"), Hear(1), Leave],
        ),
        reaching(
            "inside CONNECT over HTTP/2",
            json!({"cluster": "http2", "tunneling_config": {"hostname": "db.example:1"}}),
            &[Say("x"), Hear(1), Finish, HearOut],
        ),
        reaching(
            "inside POST over HTTP/2",
            json!({"cluster": "http2", "tunneling_config": {"hostname": "db.example", "use_post": true}}),
            &[Say("x"), Hear(1), Finish, HearOut],
        ),
        reaching(
            "CONNECT refused",
            json!({"cluster": "forbids", "tunneling_config": {"hostname": "db.example:1"}}),
            &[Say("x"), HearOut],
        ),
    ]
}

/// Servers, by the name of their cluster.
struct Servers {
    all: Vec<(&'static str, Endpoint)>,
    nobody: Port,
}

impl Servers {
    async fn start() -> Result<Self> {
        let mut all = Vec::new();
        for (name, manner) in [
            ("echo", Manner::Echo),
            ("late", Manner::AnswersAtTheEnd),
            ("resets", Manner::Resets),
            ("closes", Manner::Closes),
            ("http1", Manner::Http1 { status: 200 }),
            ("forbids", Manner::Http1 { status: 403 }),
            ("http2", Manner::Http2),
        ] {
            all.push((name, Endpoint::start(manner).await?));
        }
        Ok(Self {
            all,
            nobody: Port::reserve()?,
        })
    }

    fn clusters(&self) -> Vec<Value> {
        let mut clusters = vec![
            bootstrap::cluster("empty", &[]),
            bootstrap::cluster("nobody", &[self.nobody.address()]),
        ];
        for (name, endpoint) in &self.all {
            let make = if *name == "http2" {
                bootstrap::http2_cluster
            } else {
                bootstrap::cluster
            };
            clusters.push(make(name, &[endpoint.address]));
        }
        let mut full = bootstrap::cluster("full", &[self.nobody.address()]);
        full["circuit_breakers"] = json!({"thresholds": [{"max_connections": 0}]});
        clusters.push(full);
        clusters
    }

    /// What the one server that heard something says.
    async fn heard(&self) -> Result<String> {
        timely(async {
            loop {
                for (name, endpoint) in &self.all {
                    if let Some(said) = endpoint.take_one() {
                        return Ok(format!("{name}: {said}"));
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
        .context("no server heard of it")
    }
}

const FORMAT: &str = "%ACCESS_LOG_TYPE% flags=%RESPONSE_FLAGS% long=%RESPONSE_FLAGS_LONG% code=%RESPONSE_CODE% \
    details=%RESPONSE_CODE_DETAILS% failure=%UPSTREAM_TRANSPORT_FAILURE_REASON% \
    attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% host=%UPSTREAM_HOST% \
    cluster=%UPSTREAM_CLUSTER%\n";

fn listener(case: &Case, port: &Port, folder: &Path) -> Value {
    let mut filter = bootstrap::tcp_proxy("");
    let config = &mut filter["typed_config"];
    bootstrap::merge(config, &case.fields);
    if config["cluster"].is_null() {
        config.as_object_mut().map(|config| config.remove("cluster"));
    }
    config["access_log"] = json!([{"name": "envoy.access_loggers.file", "typed_config": {
        "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"),
        "path": folder.join(case.name.replace('/', "")).to_string_lossy(),
        "log_format": {"text_format_source": {"inline_string": FORMAT}},
    }}]);
    bootstrap::listener(case.name, port.address(), filter)
}

/// What was seen of each case, by its name.
type Seen = BTreeMap<&'static str, Vec<String>>;

async fn observe(proxy: Proxy, servers: &Servers, cases: &[Case]) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let ports = cases
        .iter()
        .map(|_| Port::reserve())
        .collect::<Result<Vec<_>>>()?;
    let listeners = cases.iter().zip(&ports);
    let listeners = listeners.map(|(case, port)| listener(case, port, folder.path()));
    let mut process = start(proxy, listeners.collect(), servers.clusters()).await?;
    let mut seen = Seen::new();
    for (case, port) in cases.iter().zip(&ports) {
        let mut views = vec![act(port, case.steps).await.context(case.name)?];
        if case.reaches {
            views.push(servers.heard().await.context(case.name)?);
        }
        seen.insert(case.name, views);
    }
    // A buffered log is whole once its proxy has left.
    process.terminate()?;
    process.wait_exit(WITHIN).await?;
    for case in cases {
        let log = std::fs::read_to_string(folder.path().join(case.name.replace('/', ""))).unwrap_or_default();
        let lines = log.lines().map(str::to_owned);
        seen.entry(case.name).or_default().extend(lines);
    }
    Ok(seen)
}

/// What a client sees.
async fn act(port: &Port, steps: &[Step]) -> Result<String> {
    let mut stream = TcpStream::connect(port.address()).await?;
    stream.set_nodelay(true)?;
    let mut heard = Vec::new();
    timely(async {
        for step in steps {
            match step {
                Say(words) => stream.write_all(words.as_bytes()).await?,
                Hear(count) => {
                    let mut bytes = vec![0; *count];
                    stream.read_exact(&mut bytes).await?;
                    heard.extend(bytes);
                }
                Finish => stream.shutdown().await?,
                Reset => {
                    stream.set_zero_linger()?;
                    return Ok("it reset".to_owned());
                }
                HearOut => {
                    let how = match stream.read_to_end(&mut heard).await {
                        Ok(_) => "end",
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "reset",
                        Err(error) => bail!(error),
                    };
                    return Ok(format!("heard {:?}, then {how}", String::from_utf8_lossy(&heard)));
                }
                Leave => return Ok("it left".to_owned()),
            }
        }
        Ok(String::new())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_end_as_envoys_do_and_the_log_says_the_same() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("tunnels beside Envoy", &missing);
    }
    let (servers, cases) = (Servers::start().await?, cases());
    let theirs = observe(Proxy::Envoy, &servers, &cases).await?;
    let ours = observe(Proxy::Remora, &servers, &cases).await?;
    let mut differences = Vec::new();
    for case in &cases {
        let (theirs, ours) = (&theirs[case.name], &ours[case.name]);
        let expected = 1 + usize::from(case.reaches) + case.lines;
        ensure!(
            theirs.len() >= expected,
            "{}: Envoy was seen to do {theirs:#?}",
            case.name
        );
        if theirs != ours {
            differences.push(format!(
                "{}:\n  Envoy  {theirs:#?}\n  Remora {ours:#?}",
                case.name
            ));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}
