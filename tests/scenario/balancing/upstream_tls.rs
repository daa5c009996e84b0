//! TLS towards endpoints, beside Envoy: by the labels of the endpoint, with the name that was asked for, and the protocol
//! that both ends agree on.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{address, merge, type_url};
use harness::certificates::{Authority, LeafRequest};
use harness::peers;
use harness::process::Proxy;
use harness::tls;
use harness::upstream::{Behaviour, Upstream};
use serde_json::{Value, json};

use super::stage::{Running, cluster, route};

/// Servers with TLS and without.
struct World {
    authority: Authority,
    plain: Upstream,
    /// Its certificate is for `good.test`; by its ALPN.
    secure: [Upstream; 3],
}

const ALPN: [&[&str]; 3] = [&["h2", "http/1.1"], &["http/1.1"], &[]];

impl World {
    async fn new() -> Result<Self> {
        let authority = Authority::new("upstream")?;
        let leaf = authority.leaf(&LeafRequest {
            dns_names: vec!["good.test".to_owned()],
            ..LeafRequest::default()
        })?;
        let mut secure = Vec::new();
        for (number, alpn) in ALPN.into_iter().enumerate() {
            let config = tls::open_server_config(&leaf, alpn)?;
            let name = format!("secure-{number}");
            secure.push(Upstream::start_with(&name, Behaviour::default(), Some(config)).await?);
        }
        let secure = secure.try_into().ok().context("as many as there are")?;
        Ok(Self {
            plain: Upstream::start("plain").await?,
            authority,
            secure,
        })
    }

    fn socket(&self, fields: &Value, names: Value) -> Value {
        let mut context = json!({"trusted_ca": {"inline_string": self.authority.pem()}});
        merge(&mut context, &names);
        let mut config = json!({"@type": type_url("extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": {"validation_context": context}});
        merge(&mut config, fields);
        json!({"name": "envoy.transport_sockets.tls", "typed_config": config})
    }

    /// What each cluster says.
    fn clusters(&self) -> Vec<Value> {
        let to = |name: &str, server: SocketAddr, fields: &Value| {
            let endpoint = json!({"endpoint": {"address": address(server)}});
            cluster(name, &json!([{"lb_endpoints": [endpoint]}]), fields)
        };
        let options = |fields: Value| {
            let mut all = json!({"@type": type_url("extensions.upstreams.http.v3.HttpProtocolOptions")});
            merge(&mut all, &fields);
            json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": all}})
        };
        let of_names = |names: Value| {
            let mut fields = options(json!({"upstream_http_protocol_options": names,
                "explicit_http_config": {"http_protocol_options": {}}}));
            merge(
                &mut fields,
                &json!({"transport_socket": self.socket(&json!({}), json!({}))}),
            );
            fields
        };
        let exact = |name: &str| json!({"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": name}}]});
        let verified =
            |name: &str| json!({"transport_socket": self.socket(&json!({"sni": "good.test"}), exact(name))});
        let automatic = || {
            let auto = json!({"http_protocol_options": {}, "http2_protocol_options": {}});
            let mut fields = options(json!({"auto_config": auto}));
            merge(
                &mut fields,
                &json!({"transport_socket": self.socket(&json!({}), json!({}))}),
            );
            fields
        };
        let [first, second, third] = self.secure.each_ref().map(Upstream::address);
        vec![
            to(
                "named",
                first,
                &of_names(json!({"auto_sni": true, "auto_san_validation": true})),
            ),
            to("unchecked", first, &of_names(json!({"auto_sni": true}))),
            to(
                "named-by-header",
                first,
                &of_names(json!({"auto_sni": true, "auto_san_validation": true,
                    "override_auto_sni_header": "x-name"})),
            ),
            to("right", first, &verified("good.test")),
            to("wrong", first, &verified("bad.test")),
            to("agreed-h2", first, &automatic()),
            to("agreed-http", second, &automatic()),
            to("not-agreed", third, &automatic()),
            self.by_label(),
        ]
    }

    /// TLS for endpoints that say so, plain text for the rest, as Istio has it.
    fn by_label(&self) -> Value {
        let endpoint = |server: &Upstream, fields: Value| {
            let mut endpoint = json!({"endpoint": {"address": address(server.address())}});
            merge(&mut endpoint, &fields);
            endpoint
        };
        let label =
            json!({"metadata": {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}}}});
        let parts =
            json!([{"lb_endpoints": [endpoint(&self.plain, json!({})), endpoint(&self.secure[0], label)]}]);
        let raw = json!({"name": "raw", "typed_config": {
            "@type": type_url("extensions.transport_sockets.raw_buffer.v3.RawBuffer")}});
        cluster(
            "by-label",
            &parts,
            &json!({"transport_socket_matches": [
                {"name": "tls", "match": {"tlsMode": "istio"}, "transport_socket": self.socket(&json!({}), json!({}))},
                {"name": "rest", "match": {}, "transport_socket": raw}]}),
        )
    }

    async fn start(&self, proxy: Proxy) -> Result<Running> {
        let clusters = self.clusters();
        let names = clusters.iter().filter_map(|cluster| cluster["name"].as_str());
        let routes: Vec<Value> = names.map(|name| route(name, name, &json!({}))).collect();
        Running::start(proxy, &routes, &clusters).await
    }

    /// Who answers, and how the server was spoken to.
    async fn observed(&self, proxy: &Running) -> Result<String> {
        let mut text = String::new();
        for cluster in self.clusters() {
            let name = cluster["name"].as_str().unwrap_or_default();
            for host in ["good.test", "bad.test"] {
                // Only one cluster looks at it.
                let other = if host == "good.test" {
                    "bad.test:80"
                } else {
                    "good.test:80"
                };
                let request = format!("GET /{name} HTTP/1.1\r\nhost: {host}\r\nx-name: {other}\r\n\r\n");
                let mut answers = proxy.statuses(Ipv4Addr::LOCALHOST, &vec![request; 4]).await?;
                answers.sort();
                let servers = self.secure.iter().chain([&self.plain]);
                let received = servers.flat_map(Upstream::take_received);
                let mut versions: Vec<String> = received.map(|request| request.version).collect();
                versions.sort();
                writeln!(text, "{name} as {host}: {answers:?} over {versions:?}")?;
            }
        }
        Ok(text)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_towards_endpoints_is_as_envoys() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("tls_towards_endpoints_is_as_envoys", &missing);
    }
    let world = World::new().await?;
    let envoy = world.start(Proxy::Envoy).await?;
    let expected = world.observed(&envoy).await?;
    ensure!(
        expected.contains("named as bad.test: [\"503 by nobody\""),
        "{expected}"
    );
    for proxy in Proxy::under_test("tls_towards_endpoints_is_as_envoys")? {
        let tested = world.start(proxy).await?;
        let found = world.observed(&tested).await?;
        ensure!(
            found == expected,
            "Envoy:\n{expected}\n{}:\n{found}",
            proxy.name()
        );
    }
    Ok(())
}
