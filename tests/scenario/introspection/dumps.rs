//! `/config_dump` beside Envoy's, from the same bootstrap and the same control plane, one proxy after the other.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::bootstrap;
use harness::control_plane::{CLUSTER, LISTENER};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::{client, peers};
use serde_json::{Value, json};

use super::{Scene, page_when, patient_ads};

/// Whole dumps and narrowed ones.
const QUERIES: [&str; 11] = [
    "/config_dump?include_eds",
    "/config_dump",
    "/config_dump?resource=dynamic_active_clusters&mask=cluster.name,version_info",
    "/config_dump?resource=static_clusters&mask=cluster.load_assignment.cluster_name",
    "/config_dump?resource=dynamic_listeners&name_regex=ht.p",
    "/config_dump?resource=static_route_configs",
    "/config_dump?resource=dynamic_warming_secrets",
    "/config_dump?mask=version_info",
    "/config_dump?name_regex=s.*&include_eds&resource=dynamic_endpoint_configs",
    "/config_dump?name_regex=nobody&resource=static_listeners",
    "/config_dump?mask=,&resource=static_secrets",
];

/// What is wrong, and how it is said.
const WRONG: [&str; 9] = [
    "/config_dump?resource=nope",
    "/config_dump?resource=dynamic_endpoint_configs",
    "/config_dump?resource=version_info",
    "/config_dump?resource=bootstrap&mask=node.id",
    "/config_dump?mask=nope",
    "/config_dump?mask=bootstrap,version_info",
    "/config_dump?resource=static_clusters&mask=cluster",
    "/config_dump?resource=static_clusters&mask=cluster.load_assignment.endpoints.locality",
    "/config_dump?resource=static_clusters&mask=nope.foo",
];

/// What one proxy said.
struct Said {
    dumps: BTreeMap<&'static str, Value>,
    refusals: BTreeMap<&'static str, (u16, String)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_configuration_gives_the_same_dump_as_envoys() -> Result<()> {
    let proxies = [Proxy::Envoy, Proxy::Remora];
    for proxy in proxies {
        if let Err(missing) = proxy.binary() {
            return peers::skip("introspection: dumps", &missing);
        }
    }
    let mut said = Vec::new();
    for proxy in proxies {
        // A control plane of its own each, so that versions and order are the same.
        let scene = Scene::new().await?;
        said.push(
            look(&scene, proxy)
                .await
                .with_context(|| format!("looking at {}", proxy.name()))?,
        );
    }
    let [envoy, remora] = &*said else {
        anyhow::bail!("two proxies were asked");
    };
    for query in QUERIES {
        let (envoy, remora) = (&envoy.dumps[query], &remora.dumps[query]);
        ensure!(
            envoy == remora,
            "{query}: Envoy says {envoy:#}\nRemora says {remora:#}"
        );
    }
    for query in WRONG {
        let (envoy, remora) = (&envoy.refusals[query], &remora.refusals[query]);
        ensure!(
            envoy == remora,
            "{query}: Envoy says {envoy:?}\nRemora says {remora:?}"
        );
    }
    Ok(())
}

async fn look(scene: &Scene, proxy: Proxy) -> Result<Said> {
    let (admin, inside) = (Port::reserve()?, Port::reserve()?);
    let mut text = scene.bootstrap(&admin);
    let manager = bootstrap::http_connection_manager(&json!({
        "stat_prefix": "inside", "route_config": bootstrap::route_everything("inline", "local")}));
    let parts = &mut text["static_resources"];
    parts["listeners"] = json!([bootstrap::listener("inside", inside.address(), manager)]);
    parts["clusters"]
        .as_array_mut()
        .context("clusters")?
        .push(bootstrap::cluster("local", &[scene.upstream.address()]));
    parts["secrets"] = json!([{"name": "fixed", "generic_secret": {"secret": {"inline_string": "hush"}}}]);
    let process = ProxyProcess::start(proxy, &text.to_string(), admin, &Options::default()).await?;
    // A new cluster and a new version of the listener that wait for ever, beside what serves.
    scene.control_plane.put([
        scene.cluster("late")?,
        scene
            .reader
            .json(LISTENER, &scene.listener("later", patient_ads()))?,
        scene.reader.json(
            CLUSTER,
            &json!({"name": "local_too", "type": "STATIC", "connect_timeout": "2s"}),
        )?,
    ]);
    page_when(&process, "/config_dump", |dump| {
        let text = dump.to_string();
        text.contains("dynamic_warming_clusters")
            && text.contains("warming_state")
            && text.contains("local_too")
    })
    .await?;
    let ports = [
        (scene.upstream.address().port(), 1),
        (scene.port.number(), 2),
        (inside.number(), 3),
        (scene.control_plane.address().port(), 4),
        (process.admin().port(), 5),
    ];
    let mut said = Said {
        dumps: BTreeMap::new(),
        refusals: BTreeMap::new(),
    };
    for query in QUERIES {
        let mut dump: Value = serde_json::from_str(&process.admin_text(query).await?)?;
        normalise(&mut dump, &ports);
        said.dumps.insert(query, dump);
    }
    for query in WRONG {
        let answer = client::get(process.admin(), query).await?;
        // Envoy's build of protobuf puts a marker into debugging texts, each process another.
        let text = answer.text();
        let words = text
            .split_whitespace()
            .filter(|word| !word.starts_with("goo.gle/"));
        let words = words.collect::<Vec<_>>().join(" ");
        said.refusals.insert(query, (answer.status(), words));
    }
    Ok(said)
}

/// Takes out what differs by nature: times, the proxies' own description of themselves, ports, folders, certificates, and
/// what Remora says beside Envoy's dump. Lists of named things are put in order.
fn normalise(value: &mut Value, ports: &[(u16, u16)]) {
    match value {
        Value::Object(fields) => {
            for name in [
                "last_updated",
                "client_status",
                "user_agent_name",
                "user_agent_build_version",
                "extensions",
                "path",
                "certificate_chain",
            ] {
                fields.remove(name);
            }
            if fields.contains_key("endpoint_config") {
                fields.remove("version_info");
            }
            // Envoy keeps the version of the listener in use for one that changes only filter chains.
            if let Some(Value::Object(state)) = fields.get_mut("warming_state") {
                state.remove("version_info");
            }
            if let Some(port) = fields.get_mut("port_value")
                && let Some((_, role)) = ports.iter().find(|(number, _)| *port == *number)
            {
                *port = Value::from(*role);
            }
            fields.values_mut().for_each(|value| normalise(value, ports));
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| normalise(item, ports));
            if items.iter().all(|item| {
                item.get("@type")
                    .is_none_or(|name| name.as_str().is_some_and(|name| !name.ends_with("ConfigDump")))
            }) {
                items.sort_by_key(Value::to_string);
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_shown_with_its_reason_and_keys_are_not_shown() -> Result<()> {
    for proxy in Proxy::under_test("introspection: refusals")? {
        if proxy != Proxy::Remora {
            continue;
        }
        let scene = Scene::new().await?;
        let process = scene.start(proxy).await?;
        let never = json!({"name": "never", "type": "STATIC", "connect_timeout": "-1s"});
        let again = json!({"name": "safe", "type": "STATIC", "connect_timeout": "-1s"});
        scene.control_plane.put([
            scene.reader.json(CLUSTER, &never)?,
            scene.reader.json(CLUSTER, &again)?,
        ]);
        scene.control_plane.wait_nack(CLUSTER).await?;
        let dump = page_when(&process, "/config_dump", |dump| {
            dump.to_string().contains("error_state")
        })
        .await?;
        let clusters = &dump["configs"][1];
        let named = |field: &str, name: &str| {
            let listed = clusters[field].as_array();
            let found = listed.and_then(|listed| listed.iter().find(|item| item["cluster"]["name"] == name));
            found
                .cloned()
                .with_context(|| format!("no {name} in {clusters:#}"))
        };
        for (element, version) in [
            (named("dynamic_active_clusters", "safe")?, "1"),
            (named("dynamic_warming_clusters", "never")?, "uninitialized"),
        ] {
            ensure!(element["version_info"] == version, "{element:#}");
            ensure!(element["client_status"] == "NACKED", "{element:#}");
            let error = &element["error_state"];
            let details = error["details"].as_str().unwrap_or_default();
            ensure!(
                details.contains("connect_timeout") && error["version_info"] == "2",
                "{element:#}"
            );
        }
        let text = dump.to_string();
        let inside_of_key = scene.key.lines().nth(1).context("a key has lines")?;
        ensure!(
            text.contains("[redacted]") && !text.contains(inside_of_key),
            "the key of 'own' is shown"
        );
    }
    Ok(())
}
