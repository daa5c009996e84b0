//! Secrets: their arrival, their merge, their check.

use super::*;
use crate::tls::{TlsStat, check};

fn by_sds(id: u32) -> CertificateSource {
    CertificateSource::Sds(SecretId::from_index(id))
}

#[test]
fn a_secret_that_has_not_arrived_is_named() {
    let mut server = server(settings(None, None));
    server.settings.certificates = vec![by_sds(SECRET)];
    let failure = ServerContext::of(&server, &Snapshot::default()).unwrap_err();
    assert_eq!(failure, TlsFailure::SecretNotReady(SecretId::from_index(SECRET)));
    assert_eq!(failure.stat(), Some(TlsStat::SecretsNotReady));

    let mut client = client(settings(None, None));
    client.settings.validation.sds = Some(SecretId::from_index(SECRET));
    let failure = ClientContext::of(&client, &Snapshot::default()).unwrap_err();
    assert_eq!(failure, TlsFailure::SecretNotReady(SecretId::from_index(SECRET)));
}

#[test]
fn a_secret_of_the_wrong_kind_is_named() {
    let mut server = server(settings(None, None));
    server.settings.certificates = vec![by_sds(SECRET)];
    let wrong = Secret::new("roots".into(), SecretKind::Validation(Validation::default()));
    let failure = ServerContext::of(&server, &world(vec![(SECRET, wrong)])).unwrap_err();
    let expected =
        "our TLS context cannot be used: secret \"roots\" holds a validation context, expected a certificate";
    assert_eq!(failure.to_string(), expected);
}

#[test]
fn a_context_is_derived_once_for_the_same_secrets() {
    let ca = Ca::new("mesh");
    let mut server = server(settings(None, None));
    server.settings.certificates = vec![by_sds(1), by_sds(2)];
    let first = world(vec![(1, ca.svid("spiffe://td/a")), (2, ca.svid("spiffe://td/b"))]);
    let mut second = first.clone();
    second
        .secrets
        .set(SecretId::from_index(2), Some(Arc::new(ca.svid("spiffe://td/b"))));

    let derived = ServerContext::of(&server, &first).unwrap();
    assert!(Arc::ptr_eq(
        &derived,
        &ServerContext::of(&server, &first).unwrap()
    ));
    assert!(!Arc::ptr_eq(
        &derived,
        &ServerContext::of(&server, &second).unwrap()
    ));
}

#[tokio::test]
async fn a_combined_context_has_the_roots_of_sds_and_the_names_of_both() {
    let ca = Ca::new("mesh");
    let mut server = server(settings(Some(ca.svid("spiffe://td/server")), None));
    let names = |name| vec![exact(SanKind::Uri, name)];
    let validation = |validation| Secret::new("".into(), SecretKind::Validation(validation));
    let inline = Validation {
        roots: vec![Ca::new("other").root()],
        names: names("spiffe://td/a"),
        ..Validation::default()
    };
    server.settings.validation = ValidationSource {
        inline: Some(Arc::new(validation(inline))),
        sds: Some(SecretId::from_index(SECRET)),
    };
    let world = world(vec![(SECRET, validation(ca.validation(names("spiffe://td/b"))))]);

    for (id, admitted) in [
        ("spiffe://td/a", true),
        ("spiffe://td/b", true),
        ("spiffe://td/c", false),
    ] {
        let client = client(settings(Some(ca.svid(id)), Some(ca.validation(vec![]))));
        assert_eq!(
            handshake(&server, &client, &world).await.0.is_ok(),
            admitted,
            "{id}"
        );
    }
}

#[test]
fn a_server_without_certificate_is_no_server() {
    let failure = ServerContext::of(&server(settings(None, None)), &Snapshot::default()).unwrap_err();
    assert!(failure.to_string().contains("needs a certificate"), "{failure}");
}

#[test]
fn a_good_secret_passes_and_a_bad_one_is_refused_in_words() {
    let ca = Ca::new("mesh");
    check(&ca.svid("spiffe://td/a")).unwrap();
    check(&Secret::new(
        "r".into(),
        SecretKind::Validation(ca.validation(vec![])),
    ))
    .unwrap();

    let changed = |change: fn(&mut Certificate)| {
        let mut secret = ca.svid("spiffe://td/a");
        let SecretKind::Certificate(certificate) = &mut secret.kind else {
            unreachable!()
        };
        change(certificate);
        check(&secret).unwrap_err()
    };
    let other_key = changed(|certificate| certificate.key.der = KeyPair::generate().unwrap().serialize_der());
    assert_eq!(
        other_key,
        "tls_certificate: the private key is not the key of the first certificate"
    );
    assert!(changed(|certificate| certificate.chain.clear()).contains("empty"));
    assert!(changed(|certificate| certificate.key.der.truncate(20)).starts_with("tls_certificate: "));
    assert!(changed(|certificate| certificate.chain.push(b"x".to_vec())).contains("certificate 1"));

    let validation =
        |validation| check(&Secret::new("r".into(), SecretKind::Validation(validation))).unwrap_err();
    let broken = || vec![b"x".to_vec()];
    assert!(
        validation(Validation {
            roots: broken(),
            ..Validation::default()
        })
        .starts_with("trusted_ca: certificate 0")
    );
    assert!(
        validation(Validation {
            revocations: broken(),
            ..Validation::default()
        })
        .starts_with("crl: list 0")
    );
    let domain = Validation {
        trust_domains: vec![("td".into(), vec![])],
        ..Validation::default()
    };
    assert!(validation(domain).contains("trust domain td"));
    let keys = |keys| check(&Secret::new("k".into(), SecretKind::TicketKeys(keys)));
    assert!(keys(vec![vec![0; 80]]).is_ok());
    assert!(
        keys(vec![vec![0; 80], vec![0; 48]])
            .unwrap_err()
            .contains("key 1 has 48 bytes")
    );
    assert!(keys(vec![]).is_err());
}
