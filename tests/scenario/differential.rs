//! The same bootstrap and the same requests: does Remora do what Envoy does?
//!
//! Every row of the table goes to Envoy and to the proxy under test; what the client got and what the upstream
//! received must be the same, but for the differences that `conformance/differences.md` names with their reasons.
//! With `REMORA_SHOW_TABLE=1` what Envoy did is printed for every row. Envoy's status is checked against the table as well, so that a row says what it is about.

#[path = "differential/announce.rs"]
mod announce;
#[path = "differential/authorization.rs"]
mod authorization;
#[path = "differential/bodies.rs"]
mod bodies;
#[path = "differential/cache.rs"]
mod cache;
#[path = "differential/compression.rs"]
mod compression;
#[path = "differential/conditions.rs"]
mod conditions;
#[path = "differential/config.rs"]
mod config;
#[path = "differential/descriptors.rs"]
mod descriptors;
#[path = "differential/filters.rs"]
mod filters;
#[path = "differential/generated.rs"]
mod generated;
#[path = "differential/headers.rs"]
mod headers;
#[path = "differential/http2.rs"]
mod http2;
#[path = "differential/limits.rs"]
mod limits;
#[path = "differential/managers.rs"]
mod managers;
#[path = "differential/matching.rs"]
mod matching;
#[path = "differential/mirrors.rs"]
mod mirrors;
#[path = "differential/observe.rs"]
mod observe;
#[path = "differential/policies.rs"]
mod policies;
#[path = "differential/protocol.rs"]
mod protocol;
#[path = "differential/redirects.rs"]
mod redirects;
#[path = "differential/replies.rs"]
mod replies;
#[path = "differential/retries.rs"]
mod retries;
#[path = "differential/services.rs"]
mod services;
#[path = "differential/state.rs"]
mod state;
#[path = "differential/table.rs"]
mod table;
#[path = "differential/templates.rs"]
mod templates;
#[path = "differential/timeouts.rs"]
mod timeouts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::services::Services;
use harness::upstream::Upstream;
use serde_json::Value;

use config::Addresses;
use table::{Listener, Row};

const DIFFERENCES: &str = include_str!("../conformance/differences.md");

fn rows() -> Vec<&'static Row> {
    let parts = [
        matching::HOSTS,
        matching::ROUTES,
        matching::ACTIONS,
        headers::RULES,
        headers::FORWARDING,
        headers::HOP_BY_HOP,
        protocol::BODIES,
        protocol::CONVERSATIONS,
        protocol::FAILURES,
        protocol::REFUSALS,
        http2::ROWS,
        filters::ROWS,
        limits::ROWS,
        descriptors::ROWS,
        descriptors::CONVERSATIONS,
        authorization::ROWS,
        services::ROWS,
        state::ROWS,
        retries::ROWS,
        mirrors::ROWS,
        redirects::ROWS,
        templates::ROWS,
        announce::ROWS,
        replies::ROWS,
        conditions::ROWS,
        generated::rows(),
        bodies::BUFFER,
        bodies::CHANGED,
        bodies::HEALTH,
        bodies::CALLS,
        bodies::WEB,
        timeouts::ROWS,
        managers::ROWS,
        compression::RESPONSES,
        compression::CHOICES,
        compression::REQUESTS,
    ];
    parts.into_iter().flatten().collect()
}

/// Counters that are not compared: times, sizes that every compressor has its own of, one that Envoy counts twice, and a
/// gauge that is not kept here.
const NOT_COMPARED: [&str; 4] = [
    "time",
    "compressed_bytes",
    "told.gzip.response.content_length_too_small",
    "active_faults",
];

/// A proxy with everything that its bootstrap names.
struct Stage {
    process: ProxyProcess,
    ports: [Port; 9],
    closed: Port,
    a: Upstream,
    b: Upstream,
    services: Services,
}

impl Stage {
    async fn start(proxy: Proxy) -> Result<Self> {
        let ports = [
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
            Port::reserve()?,
        ];
        let (admin, closed) = (Port::reserve()?, Port::reserve()?);
        let (a, b) = (Upstream::start("a").await?, Upstream::start("b").await?);
        let services = Services::start().await?;
        let bootstrap = config::bootstrap(&Addresses {
            admin: admin.address(),
            main: ports[0].address(),
            edge: ports[1].address(),
            plain: ports[2].address(),
            timed: ports[3].address(),
            rare: ports[4].address(),
            replies: ports[5].address(),
            tuned: ports[6].address(),
            announce: ports[7].address(),
            little: ports[8].address(),
            a: a.address(),
            b: b.address(),
            closed: closed.address(),
            services: services.address(),
        });
        let process = ProxyProcess::start(proxy, &bootstrap.to_string(), admin, &Options::default()).await?;
        Ok(Self {
            process,
            ports,
            closed,
            a,
            b,
            services,
        })
    }

    fn address(&self, listener: Listener) -> SocketAddr {
        match listener {
            Listener::Main => self.ports[0].address(),
            Listener::Edge => self.ports[1].address(),
            Listener::Plain => self.ports[2].address(),
            Listener::Timed => self.ports[3].address(),
            Listener::Rare => self.ports[4].address(),
            Listener::Replies => self.ports[5].address(),
            Listener::Tuned => self.ports[6].address(),
            Listener::Announce => self.ports[7].address(),
            Listener::Little => self.ports[8].address(),
        }
    }

    /// What was counted of filters that count, but for times.
    async fn counted(&self) -> Result<BTreeSet<String>> {
        let filter: String = bodies::COUNTED.replace('^', "%5E").replace('|', "%7C");
        let filter = filter
            .replace('[', "%5B")
            .replace(']', "%5D")
            .replace('\\', "%5C");
        let text = self
            .process
            .admin_text(&format!("/stats?usedonly&filter={filter}"))
            .await?;
        Ok(text
            .lines()
            .filter(|line| !NOT_COMPARED.iter().any(|word| line.contains(word)))
            .map(str::to_owned)
            .collect())
    }

    /// All rows in order, one after the other, with the ports of this stage taken out.
    async fn observe(&self, rows: &[&Row]) -> Result<Vec<Value>> {
        let mut seen = Vec::new();
        for row in rows {
            let began = std::time::Instant::now();
            let mut value = observe::observe(&row.send, self.address(row.listener), &[&self.a, &self.b])
                .await
                .with_context(|| format!("{} in '{}'", self.process.kind().name(), row.name))?;
            let asked = self.services.take();
            if !asked.is_empty() {
                value["asked"] = asked.into();
            }
            if began.elapsed().as_secs() >= 3 {
                writeln!(
                    std::io::stderr(),
                    "{} takes long in {}",
                    row.name,
                    self.process.kind().name()
                )?;
            }
            let mut text = value.to_string();
            for (index, port) in self.ports.iter().enumerate() {
                text = text.replace(&format!(":{}", port.number()), &format!(":LISTENER{index}"));
                text = text.replace(&format!("\"{}\"", port.number()), &format!("\"LISTENER{index}\""));
            }
            text = text.replace(&format!(":{}", self.closed.number()), ":CLOSED");
            seen.push(serde_json::from_str(&text)?);
        }
        Ok(seen)
    }
}

/// The paths, such as `client.headers`, at which two observations differ, with both sides.
fn differences(at: &str, one: &Value, other: &Value, into: &mut BTreeMap<String, (Value, Value)>) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let path = if at.is_empty() {
                    name.clone()
                } else {
                    format!("{at}.{name}")
                };
                differences(
                    &path,
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                    into,
                );
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() && !at.ends_with("headers") => {
            for (a, b) in a.iter().zip(b) {
                differences(at, a, b, into);
            }
        }
        _ if one != other => {
            into.insert(at.to_owned(), (one.clone(), other.clone()));
        }
        _ => {}
    }
}

/// How the reason of an exception begins that depends on timing or on the machine.
const AT_TIMES: &str = "at times:";

/// The lines ``- `row` `path`: reason`` of the exceptions.
fn exceptions() -> BTreeMap<(String, String), String> {
    let line = |line: &str| {
        let rest = line.strip_prefix("- `")?;
        let (row, rest) = rest.split_once("` `")?;
        let (path, reason) = rest.split_once("`: ")?;
        Some(((row.to_owned(), path.to_owned()), reason.to_owned()))
    };
    DIFFERENCES.lines().filter_map(line).collect()
}

/// What is in `one` and not in `other`, for lists of fields, and the other way round.
fn sides(one: &Value, other: &Value) -> String {
    match (one.as_array(), other.as_array()) {
        (Some(a), Some(b)) => {
            let only = |x: &[Value], y: &[Value]| -> String {
                let list: Vec<String> = x
                    .iter()
                    .filter(|value| !y.contains(value))
                    .map(Value::to_string)
                    .collect();
                if list.is_empty() {
                    "(order)".to_owned()
                } else {
                    list.join(" ")
                }
            };
            format!(
                "\n      envoy only:  {}\n      tested only: {}",
                only(a, b),
                only(b, a)
            )
        }
        _ => format!("\n      envoy:  {one}\n      tested: {other}"),
    }
}

/// Everything that differs without being excepted, and every exception that no longer holds.
fn compare(rows: &[&Row], envoy: &[Value], tested: &[Value], is_envoy: bool) -> String {
    let exceptions = exceptions();
    let mut used = BTreeSet::new();
    let mut text = String::new();
    for ((row, envoy), tested) in rows.iter().zip(envoy).zip(tested) {
        let mut found = BTreeMap::new();
        differences("", envoy, tested, &mut found);
        for (path, (one, other)) in found {
            let key = (row.name.to_owned(), path.clone());
            if exceptions.contains_key(&key) {
                used.insert(key);
            } else {
                let _ = writeln!(text, "  - `{}` `{path}`:{}", row.name, sides(&one, &other));
            }
        }
    }
    let stale = exceptions
        .iter()
        .filter(|(key, reason)| !is_envoy && !used.contains(*key) && !reason.starts_with(AT_TIMES));
    for ((row, path), _) in stale {
        let _ = writeln!(
            text,
            "  - `{row}` `{path}` is excepted but does not differ: remove the exception"
        );
    }
    text
}

#[test]
fn the_table_is_large_and_its_names_are_unique() {
    let names: BTreeSet<&str> = rows().iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows().len(), "a name stands twice");
    assert!(names.len() >= 900, "only {} rows", names.len());
    for (row, path) in exceptions().keys() {
        assert!(
            names.contains(row.as_str()),
            "the exception for '{row}' {path} names no row"
        );
    }
}

#[test]
fn a_difference_is_found_by_row_and_path() {
    let rows = &rows()[..1];
    let one =
        serde_json::json!({"client": {"status": 200, "headers": [["a", "1"], ["b", "2"]]}, "upstream": []});
    let mut other = one.clone();
    other["client"]["headers"][1][1] = "3".into();
    let text = compare(rows, std::slice::from_ref(&one), &[other], true);
    assert!(text.contains("`host exact` `client.headers`"), "{text}");
    assert!(text.contains(r#"envoy only:  ["b","2"]"#), "{text}");
    assert_eq!(
        compare(rows, std::slice::from_ref(&one), std::slice::from_ref(&one), true),
        ""
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_requests_are_treated_as_envoy_treats_them() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("differential", &missing);
    }
    let Err(first) = once().await else {
        return Ok(());
    };
    // Rows of short time limits fail on either side where the machine stands still for a moment.
    writeln!(
        std::io::stderr(),
        "once more, from the start, because of: {first:#}"
    )?;
    once().await
}

/// All rows, beside Envoy.
async fn once() -> Result<()> {
    let rows = rows();
    let stage = Stage::start(Proxy::Envoy).await?;
    let of_envoy = async { Ok((stage.observe(&rows).await?, stage.counted().await?)) };
    let kinds = Proxy::under_test("differential")?;
    let others = futures_util::future::try_join_all(kinds.into_iter().map(async |proxy| {
        let stage = Stage::start(proxy).await?;
        anyhow::Ok((proxy, stage.observe(&rows).await?, stage.counted().await?))
    }));
    let ((envoy, counted), others) = tokio::try_join!(of_envoy, others)?;
    let mut wrong = String::new();
    for (row, seen) in rows.iter().zip(&envoy) {
        if std::env::var_os("REMORA_SHOW_TABLE").is_some() {
            writeln!(std::io::stderr(), "{}: {seen}", row.name)?;
        }
        let status = &seen["client"]["status"];
        if row.status != table::ANY && *status != row.status {
            writeln!(
                wrong,
                "  '{}': the table says {}, Envoy {status}: {seen}",
                row.name, row.status
            )?;
        }
    }
    ensure!(wrong.is_empty(), "the table is wrong about Envoy:\n{wrong}");
    for (proxy, tested, counts) in others {
        let text = compare(&rows, &envoy, &tested, proxy == Proxy::Envoy);
        ensure!(
            text.is_empty(),
            "{} differs from Envoy in {} places:\n{text}",
            proxy.name(),
            text.matches("  - ").count()
        );
        let missing: Vec<_> = counted.difference(&counts).collect();
        let more: Vec<_> = counts.difference(&counted).collect();
        ensure!(
            missing.is_empty() && more.is_empty(),
            "{} counts otherwise than Envoy:\n  envoy only: {missing:#?}\n  tested only: {more:#?}",
            proxy.name()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_answers_as_rfc_9111_has_it() -> Result<()> {
    let stage = Stage::start(Proxy::Remora).await?;
    let rows: Vec<&Row> = cache::ROWS.iter().map(|(row, _)| row).collect();
    let seen = stage.observe(&rows).await?;
    for ((row, asks), seen) in cache::ROWS.iter().zip(&seen) {
        ensure!(seen["client"]["status"] == row.status, "'{}': {seen}", row.name);
        let asked = seen["upstream"].as_array().map_or(0, Vec::len);
        ensure!(asked == *asks, "'{}' asks {asked} times: {seen}", row.name);
    }
    let of = |name: &str| {
        rows.iter()
            .position(|row| row.name == name)
            .map(|at| &seen[at]["client"])
    };
    let has = |name: &str, field: [&str; 2]| {
        let fields = of(name).and_then(|client| client["headers"].as_array());
        fields.is_some_and(|fields| fields.contains(&serde_json::json!(field)))
    };
    ensure!(has("cache answers", ["age", "AGE"]), "{:?}", of("cache answers"));
    ensure!(
        has("cache of a part", ["content-range", "bytes 2-4/10"]),
        "{:?}",
        of("cache of a part")
    );
    ensure!(has("cache of what is not there", ["content-range", "bytes */10"]));
    ensure!(
        has("cache that was asked", ["x-new", "1"]),
        "{:?}",
        of("cache that was asked")
    );
    ensure!(of("cache of a part").is_some_and(|client| client["body"] == "xxx"));
    ensure!(of("cache after the change").is_some_and(|client| client["body"] == "xxxxx"));
    let reported = |name: &str| of(name).is_some_and(|client| client["body"] == "the upstream's report");
    ensure!(reported("cache answers") && reported("cache that was asked") && reported("h2 cache answers"));
    Ok(())
}
