//! `security_test` and `authz_test`: the client's Remora and the server's Remora speak plain text, TLS or mutual TLS, and
//! the server's lets in who may, as they are told.
//!
//! There a library is both ends; here each end has a sidecar, and what passes between the two is what is tested.

mod authz;
#[expect(
    clippy::module_inception,
    reason = "the tests of security_test, beside those of authz_test"
)]
mod security;

use anyhow::Result;
use harness::bootstrap::type_url;
use harness::certificates::{Authority, Leaf};
use harness::process::Port;
use serde_json::{Value, json};

use crate::mesh::{self, Mesh};
use crate::service::TestServer;

/// Who the client is.
pub const CLIENT: &str = "spiffe://psm.test/ns/client/sa/client";
/// Who the server is.
pub const SERVER: &str = "spiffe://psm.test/ns/server/sa/server";

/// How the two ends speak.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The server speaks TLS.
    pub server_tls: bool,
    /// The server demands a certificate of the client.
    pub server_mtls: bool,
    /// The client speaks TLS.
    pub client_tls: bool,
    /// The client shows a certificate.
    pub client_mtls: bool,
    /// Whom the client takes for the server.
    pub expected_server: String,
}

/// A client's Remora before a server's Remora before a server.
#[derive(Debug)]
pub struct Pair {
    /// The client's.
    pub client: Mesh,
    /// The server's.
    pub server: Mesh,
    /// The server.
    pub application: TestServer,
}

impl Policy {
    /// The server's two words, then the client's two; the client expects the right server.
    pub fn new([server_tls, server_mtls, client_tls, client_mtls]: [bool; 4]) -> Self {
        Self {
            server_tls,
            server_mtls,
            client_tls,
            client_mtls,
            expected_server: SERVER.to_owned(),
        }
    }
}

impl Pair {
    /// Starts both ends; certificates come from `of_client` and `of_server`, and each end trusts its own authority.
    pub async fn start(policy: &Policy, of_client: &Authority, of_server: &Authority) -> Result<Self> {
        Self::start_with(policy, of_client, of_server, |_| json!({})).await
    }

    /// The same, with `manager` of its port over the server's connection manager.
    pub async fn start_with(
        policy: &Policy,
        of_client: &Authority,
        of_server: &Authority,
        manager: impl FnOnce(u16) -> Value,
    ) -> Result<Self> {
        let application = TestServer::start("server").await?;
        let mut listener = json!({});
        if policy.server_tls {
            let socket = downstream(&of_server.spiffe(SERVER)?, of_server, policy.server_mtls);
            listener = json!({"filter_chains": [{"transport_socket": socket}]});
        }
        // The application is told who calls it.
        let mut forwarding = json!({"forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"uri": true}});
        let port = Port::reserve()?;
        harness::bootstrap::merge(&mut forwarding, &manager(port.number()));
        let resources = vec![
            mesh::service("default", &json!({})),
            mesh::servers("default", [&application]),
            mesh::routes(&[]),
        ];
        let server = Mesh::start_at(port, resources, &forwarding, &listener).await?;

        let mut socket = json!({});
        if policy.client_tls {
            let leaf = policy.client_mtls.then(|| of_client.spiffe(CLIENT)).transpose()?;
            socket = json!({"transport_socket": upstream(leaf.as_ref(), of_client, &policy.expected_server)});
        }
        let there = [mesh::endpoint(server.port.address(), &json!({}))];
        let client = Mesh::start(vec![
            mesh::service("default", &socket),
            mesh::groups("default", &[mesh::group("a", 0, &there)]),
            mesh::routes(&[]),
        ])
        .await?;
        Ok(Self {
            client,
            server,
            application,
        })
    }
}

fn tls_certificates(leaf: &Leaf) -> Value {
    json!([{"certificate_chain": {"inline_string": leaf.certificate_pem}, "private_key": {"inline_string": leaf.key_pem}}])
}

fn downstream(leaf: &Leaf, trusts: &Authority, demands: bool) -> Value {
    let common = json!({"alpn_protocols": ["h2"], "tls_certificates": tls_certificates(leaf),
        "validation_context": {"trusted_ca": {"inline_string": trusts.pem()}}});
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": type_url("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": common, "require_client_certificate": demands}})
}

fn upstream(leaf: Option<&Leaf>, trusts: &Authority, expected: &str) -> Value {
    let certificates = leaf.map_or_else(|| json!([]), tls_certificates);
    let names = json!([{"san_type": "URI", "matcher": {"exact": expected}}]);
    let common = json!({"alpn_protocols": ["h2"], "tls_certificates": certificates,
        "validation_context": {"trusted_ca": {"inline_string": trusts.pem()},
            "match_typed_subject_alt_names": names}});
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": type_url("extensions.transport_sockets.tls.v3.UpstreamTlsContext"), "common_tls_context": common}})
}
