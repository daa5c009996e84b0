//! What a handshake negotiates.

use super::*;

/// The ALPN that both sides saw.
async fn negotiated(ours: &[&str], theirs: &[&str]) -> Option<String> {
    let ca = Ca::new("mesh");
    let mut server = server(settings(Some(ca.svid("spiffe://td/server")), None));
    server.require_client_certificate = false;
    server.settings.alpn = protocols(ours);
    let mut client = client(settings(None, None));
    client.settings.alpn = protocols(theirs);
    let (served, connected) = both(handshake(&server, &client, &Snapshot::default()).await);
    assert_eq!(served.session.alpn, connected.session.alpn);
    served
        .session
        .alpn
        .map(|protocol| String::from_utf8_lossy(&protocol).into_owned())
}

#[tokio::test]
async fn the_servers_preference_decides_the_protocol() {
    assert_eq!(
        negotiated(&["h2", "http/1.1"], &["http/1.1", "h2"])
            .await
            .as_deref(),
        Some("h2")
    );
    assert_eq!(
        negotiated(&["http/1.1", "h2"], &["h2", "http/1.1"])
            .await
            .as_deref(),
        Some("http/1.1")
    );
    assert_eq!(
        negotiated(&["h2", "http/1.1"], &["istio", "http/1.1"])
            .await
            .as_deref(),
        Some("http/1.1")
    );
}

#[tokio::test]
async fn without_common_protocol_the_handshake_completes_without_one() {
    assert_eq!(negotiated(&["h2", "http/1.1"], &["istio"]).await, None);
    assert_eq!(negotiated(&[], &["h2"]).await, None);
    assert_eq!(negotiated(&["h2"], &[]).await, None);
}

#[tokio::test]
async fn the_metadata_exchange_of_istio_is_never_negotiated() {
    let protocol = negotiated(&["istio-peer-exchange", "h2"], &["istio-peer-exchange", "h2"]).await;
    assert_eq!(protocol.as_deref(), Some("h2"));
    assert_eq!(
        negotiated(&["istio-peer-exchange"], &["istio-peer-exchange"]).await,
        None
    );
}

#[tokio::test]
async fn a_callers_protocols_replace_those_of_the_context() {
    let ca = Ca::new("mesh");
    let mut server = server(settings(Some(ca.svid("spiffe://td/server")), None));
    server.require_client_certificate = false;
    server.settings.alpn = protocols(&["h2", "http/1.1", "istio-h2"]);
    let server = ServerContext::of(&server, &Snapshot::default()).unwrap();
    let mut client = client(settings(None, None));
    client.settings.alpn = protocols(&["h2"]);
    let client = ClientContext::of(&client, &Snapshot::default()).unwrap();
    for (offer, expected) in [
        (Some(protocols(&["istio-h2", "istio"])), "istio-h2"),
        (Some(protocols(&["http/1.1"])), "http/1.1"),
        (None, "h2"),
    ] {
        let target = Target {
            alpn: offer.as_deref(),
            ..target("server.example")
        };
        let (_, connected) = both(meet(&server, &client, target).await);
        assert_eq!(connected.session.alpn.as_deref(), Some(expected.as_bytes()));
    }
}

/// Versions of a server against a client that can do both.
async fn version(minimum: TlsVersion, maximum: TlsVersion, client_maximum: TlsVersion) -> Outcome {
    let ca = Ca::new("mesh");
    let mut server = server(settings(
        Some(ca.svid("spiffe://td/server")),
        Some(ca.validation(vec![])),
    ));
    (server.settings.minimum, server.settings.maximum) = (minimum, maximum);
    let mut client = client(settings(
        Some(ca.svid("spiffe://td/client")),
        Some(ca.validation(vec![])),
    ));
    client.settings.maximum = client_maximum;
    handshake(&server, &client, &Snapshot::default()).await
}

#[tokio::test]
async fn version_limits_hold() {
    use TlsVersion::{V1_2, V1_3};
    let (served, _) = both(version(V1_2, V1_2, V1_3).await);
    assert_eq!(
        (served.session.version_name(), served.session.is_mutual()),
        ("TLSv1.2", true)
    );
    assert_eq!(served.session.cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
    let (served, _) = both(version(V1_3, V1_3, V1_3).await);
    assert_eq!(served.session.version_name(), "TLSv1.3");
    let (served, connected) = version(V1_3, V1_3, V1_2).await;
    assert!(matches!(served.unwrap_err(), TlsFailure::Protocol(_)));
    assert!(matches!(connected.unwrap_err(), TlsFailure::PeerRefused(_)));
}

#[tokio::test]
async fn cipher_lists_speak_of_tls_1_2_in_openssls_names() {
    let ca = Ca::new("mesh");
    let with = |ciphers: &[&str]| {
        let mut server = server(settings(
            Some(ca.svid("spiffe://td/server")),
            Some(ca.validation(vec![])),
        ));
        server.settings.ciphers = ciphers.iter().map(|name| (*name).into()).collect();
        server.settings.maximum = TlsVersion::V1_2;
        server
    };
    let client = client(settings(
        Some(ca.svid("spiffe://td/client")),
        Some(ca.validation(vec![])),
    ));
    let server = with(&[
        "[ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-RSA-AES256-GCM-SHA384]",
        "AES128-SHA",
    ]);
    let (served, _) = both(handshake(&server, &client, &Snapshot::default()).await);
    assert_eq!(served.session.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");

    let failure = ServerContext::of(&with(&["AES128-SHA"]), &Snapshot::default()).unwrap_err();
    assert!(failure.to_string().contains("AES128-SHA"), "{failure}");
}

#[tokio::test]
async fn curve_lists_hold() {
    let ca = Ca::new("mesh");
    let mut server = server(settings(Some(ca.svid("spiffe://td/server")), None));
    server.require_client_certificate = false;
    server.settings.curves = vec!["P-384".into()];
    let mut client = client(settings(None, None));
    client.settings.curves = vec!["X25519".into()];
    let (served, connected) = handshake(&server, &client, &Snapshot::default()).await;
    assert!(served.is_err() && connected.is_err());
    client.settings.curves = vec!["X25519:P-384".into()];
    client.prepared = Prepared::default();
    both(handshake(&server, &client, &Snapshot::default()).await);
}
