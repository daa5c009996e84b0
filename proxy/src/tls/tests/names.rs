//! Which names a peer's certificate must carry.

use super::*;
use crate::tls::{TlsStat, server_name};

/// Judges a client with these names by these matchers.
async fn judged(names: Vec<SanType>, matchers: Vec<SanMatcher>) -> Result<Secured, TlsFailure> {
    let ca = Ca::new("mesh");
    let server = server(settings(
        Some(ca.svid("spiffe://td/server")),
        Some(ca.validation(matchers)),
    ));
    let client = client(settings(
        Some(ca.signs(names, |_| ())),
        Some(ca.validation(vec![])),
    ));
    handshake(&server, &client, &Snapshot::default()).await.0
}

fn names() -> Vec<SanType> {
    vec![
        uri("spiffe://td/ns/a/sa/web"),
        dns("web.example"),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))),
        SanType::Rfc822Name("web@example.com".try_into().unwrap()),
    ]
}

#[tokio::test]
async fn one_matching_name_of_the_right_kind_is_enough() {
    let pattern = |text| Pattern::new(text, false);
    for (kind, matcher) in [
        (
            SanKind::Uri,
            StringMatcher::Exact(pattern("spiffe://td/ns/a/sa/web")),
        ),
        (SanKind::Uri, StringMatcher::Prefix(pattern("spiffe://td/ns/a/"))),
        (SanKind::Uri, StringMatcher::Suffix(pattern("/sa/web"))),
        (SanKind::Uri, StringMatcher::Contains(pattern("/ns/a/"))),
        (
            SanKind::Uri,
            StringMatcher::regex("spiffe://td/ns/[a-z]+/sa/web").unwrap(),
        ),
        (
            SanKind::Dns,
            StringMatcher::Exact(Pattern::new("WEB.example", true)),
        ),
        (SanKind::Ip, StringMatcher::Exact(pattern("10.0.0.9"))),
        (SanKind::Email, StringMatcher::Suffix(pattern("@example.com"))),
        (SanKind::Any, StringMatcher::Exact(pattern("web.example"))),
        (
            SanKind::Any,
            StringMatcher::Exact(pattern("spiffe://td/ns/a/sa/web")),
        ),
    ] {
        let matcher = SanMatcher { kind, matcher };
        let unrelated = exact(SanKind::Dns, "other.example");
        let judged = judged(names(), vec![unrelated, matcher.clone()]).await;
        assert!(judged.is_ok(), "{matcher:?}: {judged:?}");
    }
}

#[tokio::test]
async fn no_matching_name_is_refused_with_what_was_expected_and_found() {
    let pattern = |text| Pattern::new(text, false);
    for (kind, matcher, expected) in [
        (
            SanKind::Uri,
            StringMatcher::Exact(pattern("spiffe://td/ns/a/sa/we")),
            "spiffe://td/ns/a/sa/we",
        ),
        (
            SanKind::Uri,
            StringMatcher::Prefix(pattern("spiffe://td/ns/b/")),
            "spiffe://td/ns/b/*",
        ),
        (SanKind::Uri, StringMatcher::Suffix(pattern("/sa/we")), "*/sa/we"),
        (
            SanKind::Uri,
            StringMatcher::Contains(pattern("/ns/b/")),
            "*/ns/b/*",
        ),
        (
            SanKind::Uri,
            StringMatcher::regex("spiffe://td").unwrap(),
            "/^(?:spiffe://td)$/",
        ),
        (
            SanKind::Dns,
            StringMatcher::Exact(pattern("spiffe://td/ns/a/sa/web")),
            "DNS spiffe://td/ns/a/sa/web",
        ),
        (
            SanKind::Ip,
            StringMatcher::Exact(pattern("10.0.0.8")),
            "IP 10.0.0.8",
        ),
        (
            SanKind::Email,
            StringMatcher::Exact(pattern("x@example.com")),
            "e-mail x@example.com",
        ),
        (
            SanKind::Any,
            StringMatcher::Exact(pattern("x.example")),
            "x.example",
        ),
    ] {
        let failure = judged(names(), vec![SanMatcher { kind, matcher }])
            .await
            .unwrap_err();
        assert_eq!(failure.stat(), Some(TlsStat::FailVerifySan));
        let found = "spiffe://td/ns/a/sa/web, web.example, 10.0.0.9, web@example.com";
        let sentence = format!("we refused: the peer's certificate names {found}; expected {expected}");
        assert_eq!(failure.to_string(), sentence);
    }
}

#[tokio::test]
async fn the_server_must_carry_the_name_sent_where_that_is_asked() {
    let ca = Ca::new("mesh");
    let server = |names| {
        let mut server = server(settings(Some(ca.signs(names, |_| ())), None));
        server.require_client_certificate = false;
        server
    };
    let mut client = client(settings(None, Some(ca.validation(vec![]))));
    client.auto_sni_san_validation = true;

    let world = Snapshot::default();
    both(handshake(&server(vec![dns("server.example")]), &client, &world).await);
    let wildcard = ServerContext::of(&server(vec![dns("*.server.example")]), &world).unwrap();
    let context = ClientContext::of(&client, &world).unwrap();
    both(meet(&wildcard, &context, target("a.server.example")).await);
    assert!(
        meet(&wildcard, &context, target("a.b.server.example"))
            .await
            .1
            .is_err()
    );
    let failure = handshake(&server(vec![dns("other.example")]), &client, &world)
        .await
        .1
        .unwrap_err();
    let expected = "the peer's certificate names other.example; expected server.example";
    assert!(failure.to_string().ends_with(expected), "{failure}");
}

#[tokio::test]
async fn names_without_roots_are_refused_as_configuration() {
    let validation = Validation {
        names: vec![exact(SanKind::Uri, "spiffe://td/x")],
        ..Validation::default()
    };
    let client = client(settings(None, Some(validation)));
    let failure = ClientContext::of(&client, &Snapshot::default()).unwrap_err();
    assert!(matches!(failure, TlsFailure::Misconfigured(_)), "{failure}");
}

#[test]
fn the_callers_name_ranks_before_the_hosts_and_that_before_the_contexts() {
    let mut tls = client(settings(None, None));
    assert_eq!(server_name(&tls, None, Some("host.example")), "server.example");
    tls.auto_host_sni = true;
    assert_eq!(server_name(&tls, None, Some("host.example")), "host.example");
    assert_eq!(server_name(&tls, None, Some("")), "server.example");
    assert_eq!(
        server_name(&tls, Some("wanted.example"), Some("host.example")),
        "wanted.example"
    );
}

#[tokio::test]
async fn istios_server_names_can_be_sent_and_no_name_too() {
    let ca = Ca::new("mesh");
    let mut server = server(settings(Some(ca.svid("spiffe://td/server")), None));
    server.require_client_certificate = false;
    let server_context = ServerContext::of(&server, &Snapshot::default()).unwrap();
    let client = client(settings(None, Some(ca.validation(vec![]))));
    let client_context = ClientContext::of(&client, &Snapshot::default()).unwrap();
    let name = "outbound_.8080_.v1_.web.default.svc.cluster.local";
    let (served, _) = both(meet(&server_context, &client_context, target(name)).await);
    assert_eq!(served.session.server_name.as_deref(), Some(name));
    let (served, _) = both(meet(&server_context, &client_context, target("")).await);
    assert_eq!(served.session.server_name, None);

    server.require_sni = true;
    server.prepared = Prepared::default();
    let server_context = ServerContext::of(&server, &Snapshot::default()).unwrap();
    let failure = meet(&server_context, &client_context, target(""))
        .await
        .0
        .unwrap_err();
    assert_eq!(failure, TlsFailure::NoServerName);
}

#[tokio::test]
async fn of_several_certificates_the_one_for_the_name_is_shown() {
    let ca = Ca::new("mesh");
    let mut server = server(settings(None, None));
    server.require_client_certificate = false;
    for name in ["a.example", "b.example", "*.c.example"] {
        server
            .settings
            .certificates
            .push(CertificateSource::Inline(Arc::new(
                ca.signs(vec![dns(name)], |_| ()),
            )));
    }
    let server = ServerContext::of(&server, &Snapshot::default()).unwrap();
    let client = client(settings(None, Some(ca.validation(vec![]))));
    let client = ClientContext::of(&client, &Snapshot::default()).unwrap();
    for (name, shown) in [
        ("b.example", "b.example"),
        ("x.c.example", "*.c.example"),
        ("x.y.c.example", "a.example"),
        ("unknown.example", "a.example"),
        ("", "a.example"),
    ] {
        let (served, connected) = both(meet(&server, &client, target(name)).await);
        assert_eq!(
            connected.session.peer.unwrap().dns_sans().collect::<Vec<_>>(),
            [shown],
            "{name}"
        );
        assert_eq!(
            served.session.own.unwrap().dns_sans().collect::<Vec<_>>(),
            [shown],
            "{name}"
        );
    }
}
