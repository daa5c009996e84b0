//! Whose certificate is accepted.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber, date_time_ymd};
use rustls::AlertDescription;

use super::*;
use crate::tls::{Side, TlsStat};

const SERVER: &str = "spiffe://td/server";
const CLIENT: &str = "spiffe://td/client";

/// A server that admits `CLIENT` by `ca`, judging `certificate`.
async fn judged(ca: &Ca, certificate: Option<Secret>) -> Outcome {
    judged_by(ca, ca.validation(vec![exact(SanKind::Uri, CLIENT)]), certificate).await
}

async fn judged_by(ca: &Ca, validation: Validation, certificate: Option<Secret>) -> Outcome {
    let server = server(settings(Some(ca.svid(SERVER)), Some(validation)));
    let client = client(settings(
        certificate,
        Some(ca.validation(vec![exact(SanKind::Uri, SERVER)])),
    ));
    handshake(&server, &client, &Snapshot::default()).await
}

fn refused(outcome: Outcome) -> String {
    match outcome.0 {
        Err(failure @ TlsFailure::Untrusted(_)) => failure.to_string(),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[tokio::test]
async fn both_sides_know_each_other_after_mutual_tls() {
    let ca = Ca::new("mesh");
    let (served, connected) = both(judged(&ca, Some(ca.svid(CLIENT))).await);

    assert!(served.session.is_mutual() && connected.session.is_mutual());
    let peer = served.session.peer.as_ref().unwrap();
    assert_eq!(peer.uri_sans().collect::<Vec<_>>(), [CLIENT]);
    assert_eq!(
        connected
            .session
            .peer
            .as_ref()
            .unwrap()
            .uri_sans()
            .collect::<Vec<_>>(),
        [SERVER]
    );
    assert_eq!(
        served
            .session
            .own
            .as_ref()
            .unwrap()
            .uri_sans()
            .collect::<Vec<_>>(),
        [SERVER]
    );
    assert_eq!(served.session.server_name.as_deref(), Some("server.example"));
    assert_eq!(
        (served.session.version_name(), served.session.cipher),
        ("TLSv1.3", "TLS_AES_128_GCM_SHA256")
    );
    assert_eq!(
        (served.session.curve, connected.session.curve),
        (Some("X25519"), Some("X25519"))
    );
    assert_eq!(peer.sha256().len(), 64);
    assert!(
        peer.url_encoded_pem()
            .starts_with("-----BEGIN%20CERTIFICATE-----%0AMII")
    );
    assert!(!served.session.resumed);
}

#[tokio::test]
async fn a_client_without_certificate_is_refused_and_told_so() {
    let ca = Ca::new("mesh");
    let (served, connected) = judged(&ca, None).await;

    let failure = served.unwrap_err();
    assert_eq!(failure, TlsFailure::NoPeerCertificate);
    assert_eq!(
        (failure.stat(), failure.side()),
        (Some(TlsStat::FailVerifyNoCert), Side::Us)
    );
    let failure = connected.unwrap_err();
    assert_eq!(
        failure,
        TlsFailure::PeerRefused(AlertDescription::CertificateRequired)
    );
    assert_eq!(
        (failure.stat(), failure.side()),
        (Some(TlsStat::ConnectionError), Side::Peer)
    );
}

#[tokio::test]
async fn where_a_certificate_is_optional_a_client_may_have_none_but_not_a_wrong_one() {
    let ca = Ca::new("mesh");
    let mut server = server(settings(Some(ca.svid(SERVER)), Some(ca.validation(vec![]))));
    server.require_client_certificate = false;
    let with = |certificate| client(settings(certificate, Some(ca.validation(vec![]))));

    let (served, _) = both(handshake(&server, &with(None), &Snapshot::default()).await);
    assert!(served.session.peer.is_none() && !served.session.is_mutual());
    let (served, _) = both(handshake(&server, &with(Some(ca.svid(CLIENT))), &Snapshot::default()).await);
    assert!(served.session.is_mutual());
    refused(
        handshake(
            &server,
            &with(Some(Ca::new("mesh").svid(CLIENT))),
            &Snapshot::default(),
        )
        .await,
    );
}

#[tokio::test]
async fn a_client_of_another_ca_with_the_same_name_is_refused() {
    let ca = Ca::new("mesh");
    let outcome = judged(&ca, Some(Ca::new("mesh").svid(CLIENT))).await;

    let alert = outcome.1.as_ref().unwrap_err();
    assert!(matches!(alert, TlsFailure::PeerRefused(_)), "{alert}");
    let failure = outcome.0.unwrap_err();
    assert_eq!(failure.stat(), Some(TlsStat::FailVerifyError), "{failure}");
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let ca = Ca::new("mesh");
    let server = server(settings(
        Some(Ca::new("other").svid(SERVER)),
        Some(ca.validation(vec![])),
    ));
    let client = client(settings(Some(ca.svid(CLIENT)), Some(ca.validation(vec![]))));
    let (served, connected) = handshake(&server, &client, &Snapshot::default()).await;

    let expected = TlsFailure::Untrusted("it is not issued by any of the trusted roots".into());
    assert_eq!(connected.unwrap_err(), expected);
    assert_eq!(
        served.unwrap_err(),
        TlsFailure::PeerRefused(AlertDescription::UnknownCA)
    );
}

#[tokio::test]
async fn an_expired_or_future_certificate_is_refused_unless_allowed() {
    let ca = Ca::new("mesh");
    let expired = || {
        ca.signs(vec![uri(CLIENT)], |params| {
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    };
    let future = || {
        ca.signs(vec![uri(CLIENT)], |params| {
            params.not_before = date_time_ymd(4000, 1, 1);
        })
    };
    assert!(refused(judged(&ca, Some(expired())).await).contains("expired"));
    assert!(refused(judged(&ca, Some(future())).await).contains("not valid yet"));

    let allowing = || Validation {
        allow_expired: true,
        ..ca.validation(vec![])
    };
    both(judged_by(&ca, allowing(), Some(expired())).await);
    both(judged_by(&ca, allowing(), Some(future())).await);
    refused(judged_by(&ca, allowing(), Some(Ca::new("other").svid(CLIENT))).await);
}

#[tokio::test]
async fn a_certificate_for_another_purpose_is_refused() {
    let ca = Ca::new("mesh");
    let only = |purpose: ExtendedKeyUsagePurpose| {
        ca.signs(vec![uri(CLIENT)], |params| {
            params.extended_key_usages = vec![purpose];
        })
    };
    refused(judged(&ca, Some(only(ExtendedKeyUsagePurpose::ServerAuth))).await);
    refused(judged(&ca, Some(only(ExtendedKeyUsagePurpose::CodeSigning))).await);
    both(judged(&ca, Some(only(ExtendedKeyUsagePurpose::ClientAuth))).await);
}

#[tokio::test]
async fn a_workload_that_may_sign_is_refused() {
    let ca = Ca::new("mesh");
    let authority = ca.signs(vec![uri(CLIENT)], |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    refused(judged(&ca, Some(authority)).await);
    for usages in [
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
        vec![KeyUsagePurpose::KeyEncipherment],
    ] {
        let signer = ca.signs(vec![uri(CLIENT)], |params| params.key_usages = usages);
        assert!(refused(judged(&ca, Some(signer)).await).contains("key usage"));
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let ca = Ca::new("mesh");
    let numbered = |serial: u8| {
        ca.signs(vec![uri(CLIENT)], |params| {
            params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        })
    };
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from_slice(&[66]),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = |next| {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: next,
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked.clone()],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&ca.0).unwrap().der().to_vec()
    };
    let checking = |list| Validation {
        revocations: vec![list],
        ..ca.validation(vec![])
    };

    let current = date_time_ymd(3000, 1, 1);
    both(judged_by(&ca, checking(list(current)), Some(numbered(65))).await);
    assert!(refused(judged_by(&ca, checking(list(current)), Some(numbered(66))).await).contains("revoked"));
    refused(judged_by(&ca, checking(list(date_time_ymd(2024, 2, 1))), Some(numbered(65))).await);
}

#[tokio::test]
async fn without_roots_anyone_with_a_key_is_accepted_and_not_called_verified() {
    let ca = Ca::new("mesh");
    let server = server(settings(Some(ca.svid(SERVER)), None));
    let client = client(settings(Some(Ca::new("other").svid(CLIENT)), None));
    let (served, connected) = both(handshake(&server, &client, &Snapshot::default()).await);
    assert!(served.session.peer.is_some() && !served.session.is_mutual());
    assert!(connected.session.peer.is_some() && !connected.session.is_mutual());
}

#[tokio::test]
async fn accept_untrusted_takes_what_no_root_vouches_for() {
    let ca = Ca::new("mesh");
    let validation = Validation {
        accept_untrusted: true,
        ..ca.validation(vec![exact(SanKind::Uri, "spiffe://x/y")])
    };
    let (served, _) = both(judged_by(&ca, validation, Some(Ca::new("other").svid(CLIENT))).await);
    assert!(!served.session.peer_verified);
}

#[tokio::test]
async fn each_trust_domain_has_its_own_roots() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let federation = || Validation {
        trust_domains: vec![
            ("td".into(), vec![ours.root()]),
            ("partner".into(), vec![theirs.root()]),
        ],
        ..Validation::default()
    };
    both(judged_by(&ours, federation(), Some(ours.svid(CLIENT))).await);
    both(judged_by(&ours, federation(), Some(theirs.svid("spiffe://partner/client"))).await);
    refused(judged_by(&ours, federation(), Some(theirs.svid(CLIENT))).await);
    for id in ["spiffe://tdx/client", "spiffe://x.td/client", "https://td/client"] {
        let failure = judged_by(&ours, federation(), Some(ours.svid(id)))
            .await
            .0
            .unwrap_err();
        assert!(matches!(failure, TlsFailure::WrongName { .. }), "{id}: {failure}");
    }
    let two = ours.signs(vec![uri(CLIENT), uri("https://x/y")], |_| ());
    assert!(refused(judged_by(&ours, federation(), Some(two)).await).contains("exactly one URI"));
}

#[tokio::test]
async fn a_malformed_spiffe_id_is_refused_whatever_the_matcher() {
    let ca = Ca::new("mesh");
    let prefix = || {
        ca.validation(vec![SanMatcher {
            kind: SanKind::Uri,
            matcher: StringMatcher::Prefix(Pattern::new("spiffe://td/", false)),
        }])
    };
    both(judged_by(&ca, prefix(), Some(ca.svid(CLIENT))).await);
    for id in [
        "spiffe://td/",
        "spiffe://td/../x",
        "spiffe://td/a?b",
        "spiffe://td/a%2fb",
        "spiffe://td//a",
    ] {
        assert!(
            refused(judged_by(&ca, prefix(), Some(ca.svid(id))).await).contains("well-formed"),
            "{id}"
        );
    }
    let evil_first = ca.signs(vec![uri("spiffe://evil/x"), uri(CLIENT)], |_| ());
    assert!(refused(judged_by(&ca, prefix(), Some(evil_first)).await).contains("two trust domains"));
    let kuma = ca.signs(vec![uri(CLIENT), uri("kuma://version/1")], |_| ());
    both(judged_by(&ca, prefix(), Some(kuma)).await);
}

#[tokio::test]
async fn what_is_no_tls_is_refused_in_words() {
    let ca = Ca::new("mesh");
    let server = server(settings(Some(ca.svid(SERVER)), Some(ca.validation(vec![]))));
    let context = ServerContext::of(&server, &Snapshot::default()).unwrap();
    let (near, mut far) = tokio::io::duplex(1024);
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failure = context
        .accept(Socket::new(Transport::Memory(near)), None)
        .await
        .unwrap_err();
    assert!(matches!(failure, TlsFailure::Protocol(_)), "{failure}");
    assert_eq!(failure.stat(), Some(TlsStat::ConnectionError));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_ends_at_the_limit_on_either_side() {
    let ca = Ca::new("mesh");
    let (near, _far) = tokio::io::duplex(1024);
    let socket = Socket::new(Transport::Memory(near));
    let limit = Duration::from_secs(10);
    let server = server(settings(Some(ca.svid(SERVER)), None));
    let context = ServerContext::of(&server, &Snapshot::default()).unwrap();
    assert_eq!(
        context.accept(socket, Some(limit)).await.unwrap_err(),
        TlsFailure::Timeout(limit)
    );

    let (near, _far) = tokio::io::duplex(1024);
    let socket = Socket::new(Transport::Memory(near));
    let client = client(settings(None, None));
    let context = ClientContext::of(&client, &Snapshot::default()).unwrap();
    let failure = context
        .connect(target("a"), socket, Some(limit))
        .await
        .unwrap_err();
    assert_eq!(failure, TlsFailure::Timeout(limit));
}
