//! How is a control plane reached: several at once, in both wire variants, over TCP, TLS, mutual TLS and Unix sockets?

use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, Identity, merge, type_url};
use harness::certificates::{Authority, Leaf, LeafRequest};
use harness::client::PATIENCE;
use harness::control_plane::{CLUSTER, LISTENER, SECRET};
use harness::process::Port;
use harness::scripted::{ADS, Delta, ScriptedPlane, Sotw, Variant};
use harness::tls;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::scene::{Scene, ads_bootstrap, api, resource, spawn};
use crate::{in_each_variant, is_runnable};

in_each_variant! {
    metadata_and_authority_are_sent_as_configured => sends_metadata;
    a_control_plane_behind_tls_is_believed_only_by_its_certificate => trusts_over_tls;
    a_control_plane_behind_mutual_tls_sees_who_we_are => shows_itself_over_mutual_tls;
    a_control_plane_behind_a_unix_socket_serves => follows_over_a_unix_socket;
}

fn http2_options() -> Value {
    bootstrap::http_protocol(&json!({"http2_protocol_options": {}}))
}

/// A cluster of one Unix socket.
fn pipe_cluster(name: &str, socket: &Path) -> Value {
    let endpoint = json!({"endpoint": {"address": {"pipe": {"path": socket}}}});
    json!({"name": name, "type": "STATIC", "typed_extension_protocol_options": http2_options(),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}})
}

/// Goes through start-up with nothing to serve.
async fn starts_empty<V: Variant>(plane: &ScriptedPlane, bootstrap: &mut Value) -> Result<()> {
    let mut process = spawn(bootstrap)?;
    let mut ads = plane.open::<V>(ADS).await?;
    ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    ads.serve(CLUSTER, "1", &[], &[]).await?;
    ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    ads.serve(LISTENER, "1", &[], &[]).await?;
    process.wait_ready(PATIENCE).await
}

async fn sends_metadata<V: Variant>() -> Result<()> {
    let scene = Scene::<V>::start_with(|bootstrap| {
        bootstrap["dynamic_resources"]["ads_config"]["grpc_services"][0] = json!({
            "envoy_grpc": {"cluster_name": "control_plane", "authority": "xds.example"},
            "initial_metadata": [{"key": "x-token", "value": "secret"}, {"key": "x-cell", "value": "eu-1"}],
        });
    })
    .await?;
    let metadata = scene.ads.metadata();
    for (name, value) in [
        ("x-token", "secret"),
        ("x-cell", "eu-1"),
        ("host", "xds.example"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        let found = metadata.get(name).and_then(|found| found.to_str().ok());
        ensure!(found == Some(value), "{name} is {found:?}, not {value}");
    }
    Ok(())
}

fn server_leaf(authority: &Authority) -> Result<Leaf> {
    authority.leaf(&LeafRequest {
        uris: vec!["spiffe://test.local/control-plane".to_owned()],
        dns_names: vec!["xds.test".to_owned()],
        ..LeafRequest::default()
    })
}

/// An upstream TLS context that believes `authority` and shows `own`.
fn upstream_tls(authority: &Authority, own: Option<&Leaf>) -> Value {
    let peer = "spiffe://test.local/control-plane";
    let empty = String::new();
    let identity = Identity {
        certificate: own.map_or(&empty, |own| &own.certificate_pem),
        key: own.map_or(&empty, |own| &own.key_pem),
        roots: authority.pem(),
        peer,
    };
    let mut context = identity.upstream(&["h2"]);
    if own.is_none()
        && let Some(common) = context["typed_config"]["common_tls_context"].as_object_mut()
    {
        common.remove("tls_certificates");
    }
    context
}

fn tls_bootstrap<V: Variant>(plane: &ScriptedPlane, context: &Value) -> Value {
    let mut cluster = bootstrap::http2_cluster("control_plane", &[plane.address()]);
    merge(&mut cluster, &json!({"transport_socket": context}));
    ads_bootstrap::<V>(&cluster)
}

/// With the right authority it works; with another one no call is ever made.
async fn trusts_over_tls<V: Variant>() -> Result<()> {
    let (authority, other) = (Authority::new("control")?, Authority::new("other")?);
    let leaf = server_leaf(&authority)?;
    let plane = ScriptedPlane::tls(tls::open_server_config(&leaf, &["h2"])?).await?;
    let distrusting = spawn(&mut tls_bootstrap::<V>(&plane, &upstream_tls(&other, None)))?;
    plane.wait_connections(1).await?;
    distrusting
        .wait_log(&["no stream to the control plane"], PATIENCE)
        .await?;
    ensure!(
        plane.dialled().is_empty(),
        "a stranger was asked: {:?}",
        plane.dialled()
    );
    drop(distrusting);
    starts_empty::<V>(
        &plane,
        &mut tls_bootstrap::<V>(&plane, &upstream_tls(&authority, None)),
    )
    .await
}

/// The server demands a certificate: without one there is no stream, with one there is.
async fn shows_itself_over_mutual_tls<V: Variant>() -> Result<()> {
    let authority = Authority::new("control")?;
    let own = authority.spiffe("spiffe://test.local/sidecar")?;
    let config = tls::server_config(&authority, &server_leaf(&authority)?, &["h2"])?;
    let plane = ScriptedPlane::tls(config).await?;
    let nameless = spawn(&mut tls_bootstrap::<V>(&plane, &upstream_tls(&authority, None)))?;
    plane.wait_connections(1).await?;
    nameless
        .wait_log(&["no stream to the control plane"], PATIENCE)
        .await?;
    ensure!(plane.dialled().is_empty(), "{:?}", plane.dialled());
    drop(nameless);
    starts_empty::<V>(
        &plane,
        &mut tls_bootstrap::<V>(&plane, &upstream_tls(&authority, Some(&own))),
    )
    .await
}

/// As a cluster with a pipe, and as the target of `google_grpc`.
async fn follows_over_a_unix_socket<V: Variant>() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("xds.sock");
    let plane = ScriptedPlane::unix(&socket)?;
    starts_empty::<V>(
        &plane,
        &mut ads_bootstrap::<V>(&pipe_cluster("control_plane", &socket)),
    )
    .await?;
    let mut google = ads_bootstrap::<V>(&pipe_cluster("control_plane", &socket));
    google["dynamic_resources"]["ads_config"]["grpc_services"][0] = json!({"google_grpc": {
        "target_uri": format!("unix:{}", socket.display()), "stat_prefix": "xds"}});
    starts_empty::<V>(&plane, &mut google).await
}

/// What an istio pod has: delta ADS over TCP, and beside it state-of-the-world SDS from an agent's socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_wire_variants_live_in_one_process() -> Result<()> {
    if !is_runnable("both variants")? {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("sds.sock");
    let (plane, agent) = (ScriptedPlane::tcp().await?, ScriptedPlane::unix(&socket)?);
    let port = Port::reserve()?;
    let control_plane = bootstrap::http2_cluster("control_plane", &[plane.address()]);
    let mut text = ads_bootstrap::<Delta>(&control_plane);
    if let Some(clusters) = text["static_resources"]["clusters"].as_array_mut() {
        clusters.push(pipe_cluster("agent", &socket));
    }
    let mut process = spawn(&mut text)?;
    let mut ads = plane.open::<Delta>(ADS).await?;
    ads.expect_introduction(&Delta::first(CLUSTER, &[])).await?;
    ads.serve(CLUSTER, "1", &[], &[]).await?;
    ads.expect_exactly(&Delta::first(LISTENER, &[])).await?;
    let direct = json!({"route_config": {"name": "direct", "virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]}});
    let mut listener =
        bootstrap::listener("tls", port.address(), bootstrap::http_connection_manager(&direct));
    let source = json!({"api_config_source": api::<Sotw>("agent"), "resource_api_version": "V3"});
    listener["filter_chains"][0]["transport_socket"] = json!({"name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificate_sds_secret_configs": [
                {"name": "default", "sds_config": source}]}}});
    ads.serve(LISTENER, "1", &[resource(LISTENER, &listener)], &[])
        .await?;
    let mut sds = agent.open::<Sotw>(SECRET).await?;
    sds.expect_introduction(&Sotw::first(SECRET, &["default"]))
        .await?;
    let authority = Authority::new("control")?;
    let leaf = server_leaf(&authority)?;
    let secret = |leaf: &Leaf, key: &str| {
        let pair = json!({"certificate_chain": {"inline_string": leaf.certificate_pem},
            "private_key": {"inline_string": key}});
        resource(SECRET, &json!({"name": "default", "tls_certificate": pair}))
    };
    sds.serve(SECRET, "1", &[secret(&leaf, &leaf.key_pem)], &["default"])
        .await?;
    process.wait_ready(PATIENCE).await?;
    // A refusal of one server's resource is nothing to the other.
    let nonce = sds.send(SECRET, "2", &[secret(&leaf, "no key")])?;
    let refused = sds.expect(SECRET).await?;
    let words = Sotw::error(&refused)
        .context("a key that is none was taken")?
        .message
        .clone();
    ensure!(
        refused == Sotw::nack(SECRET, "1", &nonce, &["default"], &words),
        "{refused:?}"
    );
    ads.serve(CLUSTER, "2", &[], &[]).await?;
    let config = tls::client_config(&authority, None, &["http/1.1"])?;
    let stream = TcpStream::connect(port.address()).await?;
    let stream = tls::connect(config, "xds.test", stream).await?;
    ensure!(
        tls::peer_leaf(stream.get_ref().1)? == leaf.der,
        "another certificate"
    );
    Ok(())
}
