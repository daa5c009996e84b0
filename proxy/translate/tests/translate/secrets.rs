//! Secrets and TLS contexts.

use std::sync::Arc;

use remora_model::cluster::TransportSocket;
use remora_model::identity::{ClientTls, SanKind, SecretKind, TlsVersion};
use remora_model::snapshot::{Edit, Snapshot};
use remora_translate::{TranslatedSecret, WatchedFile};

use crate::world::{CLUSTER, SECRET, World, bytes, identity, quoted, reason};

fn secret(world: &mut World, yaml: &str) -> TranslatedSecret {
    remora_translate::secret(&bytes(SECRET, yaml), &mut world.context())
        .unwrap_or_else(|e| panic!("{e}\n{yaml}"))
}

/// A secret called `s` with the certificate and key of `name`.
fn certificate(name: &str) -> String {
    let (certificate, key) = identity(name);
    format!(
        "{{name: s, tls_certificate: {{certificate_chain: {{inline_string: {}}}, private_key: {{inline_string: {}}}}}}}",
        quoted(&certificate),
        quoted(&key)
    )
}

/// A cluster `a` with this common TLS context.
fn client(common: &str) -> String {
    format!(
        "{{name: a, transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {{{common}}}}}}}}}"
    )
}

fn client_tls(world: &mut World, common: &str) -> Arc<ClientTls> {
    let made = remora_translate::cluster(&bytes(CLUSTER, &client(common)), &mut world.context()).unwrap();
    match &made.config.transport.fallback {
        TransportSocket::Tls(tls) => tls.clone(),
        TransportSocket::Plain | TransportSocket::Announced(_) => panic!("expected TLS"),
    }
}

#[test]
fn a_certificate_becomes_der_and_its_facts_are_told() {
    let made = secret(&mut World::default(), &certificate("a.b"));
    let SecretKind::Certificate(certificate) = &made.secret.kind else {
        panic!("no certificate")
    };
    assert_eq!((certificate.chain.len(), &*made.secret.name), (1, "s"));
    assert!(made.secret.generation > 0);
    assert!(made.certificates[0].not_before < made.certificates[0].not_after);
    assert!(made.certificates[0].subject.contains("rcgen"));
}

#[test]
fn an_equal_secret_keeps_its_generation_and_a_rotated_one_does_not() {
    let mut world = World::default();
    let yaml = certificate("a.b");
    let first = secret(&mut world, &yaml).secret;
    let mut edit = Edit::new(&Snapshot::default());
    edit.set_secret(world.secrets.id("s"), first.clone());
    world.previous = Some(edit.finish());
    assert!(Arc::ptr_eq(&first, &secret(&mut world, &yaml).secret));
    assert_ne!(
        first.generation,
        secret(&mut world, &certificate("a.b")).secret.generation
    );
}

#[test]
fn files_are_read_and_to_be_watched() {
    let (pem, key) = identity("a.b");
    let mut world = World::default();
    world.files.files.insert("/c".into(), pem.clone().into_bytes());
    world.files.variables.insert("KEY".into(), key);
    let made = secret(
        &mut world,
        "{name: s, tls_certificate: {certificate_chain: {filename: /c}, private_key: {environment_variable: KEY}, watched_directory: {path: /}}}",
    );
    assert_eq!(
        made.files,
        [WatchedFile {
            path: "/c".into(),
            directory: Some("/".into())
        }]
    );
    world.files.files.insert("/ca".into(), pem.into_bytes());
    let made = secret(
        &mut world,
        "{name: r, validation_context: {trusted_ca: {filename: /ca}, match_typed_subject_alt_names: [{san_type: URI, matcher: {prefix: spiffe://}}]}}",
    );
    let SecretKind::Validation(validation) = &made.secret.kind else {
        panic!("no validation")
    };
    assert_eq!(
        (validation.roots.len(), validation.names[0].kind),
        (1, SanKind::Uri)
    );
}

#[test]
fn spiffe_trust_domains_are_kept() {
    let (pem, _) = identity("a.b");
    let domain = |name: &str| {
        format!(
            "{{name: {name}, trust_bundle: {{inline_string: {}}}}}",
            quoted(&pem)
        )
    };
    let yaml = |domains: &str| {
        format!(
            "{{name: s, validation_context: {{custom_validator_config: {{name: envoy.tls.cert_validator.spiffe, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig, trust_domains: [{domains}]}}}}}}}}"
        )
    };
    let made = secret(
        &mut World::default(),
        &yaml(&format!("{}, {}", domain("a"), domain("b"))),
    );
    let SecretKind::Validation(validation) = &made.secret.kind else {
        panic!("no validation")
    };
    assert_eq!(
        validation
            .trust_domains
            .iter()
            .map(|(name, roots)| (&**name, roots.len()))
            .collect::<Vec<_>>(),
        [("a", 1), ("b", 1)]
    );
    assert!(
        reason(SECRET, &yaml(&format!("{}, {}", domain("a"), domain("a"))))
            .ends_with("Multiple trust bundles are given for one trust domain for a")
    );
}

#[test]
fn parameters_are_cut_to_what_can_be_had() {
    let mut world = World::default();
    let tls = client_tls(
        &mut world,
        "tls_params: {tls_minimum_protocol_version: TLSv1_0, tls_maximum_protocol_version: TLSv1_2, cipher_suites: ['[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]', AES128-SHA], ecdh_curves: [P-521, P-256]}",
    );
    assert_eq!(
        (tls.settings.minimum, tls.settings.maximum),
        (TlsVersion::V1_2, TlsVersion::V1_2)
    );
    assert_eq!(
        tls.settings.ciphers,
        [
            Box::from("ECDHE-ECDSA-AES128-GCM-SHA256"),
            Box::from("ECDHE-ECDSA-CHACHA20-POLY1305")
        ]
    );
    assert_eq!(tls.settings.curves, [Box::from("P-256")]);
    let other = client_tls(&mut world, "");
    assert_ne!(tls.id, other.id);
    assert_eq!(
        (
            other.settings.minimum,
            other.settings.maximum,
            other.max_session_keys
        ),
        (TlsVersion::V1_2, TlsVersion::V1_3, 1)
    );
}

/// Fields of a common TLS context, and how the reason of its refusal begins.
const REFUSED: &[(&str, &str)] = &[
    (
        "tls_params: {tls_maximum_protocol_version: TLSv1_1}",
        ".tls_params.tls_maximum_protocol_version: expected TLSv1_2 or TLSv1_3, found TLSv1_1",
    ),
    (
        "tls_params: {cipher_suites: [NOPE]}",
        ".tls_params.cipher_suites: Failed to initialize cipher suites: 'NOPE' is not known",
    ),
    (
        "tls_params: {cipher_suites: [AES128-SHA]}",
        ".tls_params.cipher_suites: none of AES128-SHA is supported",
    ),
    (
        "tls_params: {ecdh_curves: [P-256, NOPE]}",
        ".tls_params.ecdh_curves: Failed to initialize ECDH curves: 'NOPE' is not known",
    ),
    (
        "tls_params: {ecdh_curves: [P-521]}",
        ".tls_params.ecdh_curves: none of P-521 is supported",
    ),
    (
        "validation_context: {match_subject_alt_names: [{exact: x}]}",
        ".validation_context: SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
    ),
    (
        "validation_context: {trusted_ca: {inline_string: nope}}",
        ".validation_context.trusted_ca: Failed to load trusted CA certificates from <inline>: no PEM certificate inside",
    ),
    (
        "validation_context: {verify_certificate_spki: [NvqYIYSbgK2vCJpQhObf77vv]}",
        ".validation_context.verify_certificate_spki[0]: Invalid base64-encoded SHA-256 NvqYIYSbgK2vCJpQhObf77vv",
    ),
    (
        "validation_context: {verify_certificate_hash: [df6f]}",
        ".validation_context.verify_certificate_hash[0]: Invalid hex-encoded SHA-256 df6f",
    ),
    (
        "validation_context: {max_verify_depth: 101}",
        ".validation_context.max_verify_depth: expected at most 100, found 101",
    ),
    (
        "validation_context: {match_typed_subject_alt_names: [{san_type: OTHER_NAME, matcher: {exact: x}}]}",
        ".validation_context.match_typed_subject_alt_names[0].san_type: is not supported: OTHER_NAME",
    ),
    (
        "tls_certificates: [{}]",
        ".tls_certificates[0].certificate_chain: expected a certificate chain, found none",
    ),
    (
        "tls_certificate_sds_secret_configs: [{}]",
        ".tls_certificate_sds_secret_configs[0].name: expected a value, found an empty string",
    ),
    (
        "custom_handshaker: {name: x}",
        ".custom_handshaker: is not supported: TLS handshakes of a custom kind",
    ),
    (
        "alpn_protocols: ['']",
        ".alpn_protocols[0]: expected 1 to 255 bytes, found 0",
    ),
];

#[test]
fn a_wrong_context_is_refused_with_its_reason() {
    let at = "a: transport_socket.typed_config.common_tls_context";
    for (common, expected) in REFUSED {
        let found = reason(CLUSTER, &client(common));
        // A second problem may follow from the first.
        assert!(
            found.starts_with(&format!("{at}{expected}")),
            "{common}\nfound {found}"
        );
    }
}

#[test]
fn keys_that_cannot_be_used_are_refused_without_showing_them() {
    let (pem, _) = identity("a.b");
    let yaml = |key: &str| {
        format!(
            "{{name: s, tls_certificate: {{certificate_chain: {{inline_string: {}}}, {key}}}}}",
            quoted(&pem)
        )
    };
    let encrypted = "private_key: {inline_string: \"-----BEGIN ENCRYPTED PRIVATE KEY-----\\nAAAA\\n-----END ENCRYPTED PRIVATE KEY-----\\n\"}";
    assert_eq!(
        reason(SECRET, &yaml(encrypted)),
        "s: tls_certificate.private_key: Failed to load private key from <inline>: private keys that are protected by a password are not supported"
    );
    assert_eq!(
        reason(SECRET, &yaml("private_key: {inline_string: hunter2}")),
        "s: tls_certificate.private_key: Failed to load private key from <inline>: no PEM private key inside"
    );
    assert_eq!(
        reason(SECRET, &yaml("private_key: {filename: /nope}")),
        "s: tls_certificate.private_key.filename: '/nope' cannot be read: entity not found"
    );
    assert_eq!(
        reason(SECRET, &yaml("private_key_provider: {provider_name: qat}")),
        "s: tls_certificate.private_key_provider: is not supported: private keys held by a provider"
    );
    assert_eq!(
        reason(SECRET, "{name: s}"),
        "s: expected tls_certificate, validation_context, session_ticket_keys or generic_secret; found none"
    );
}

#[test]
fn a_cluster_update_keeps_a_tls_context_that_did_not_change() {
    let mut world = World::default();
    let translate = |world: &mut World, yaml: &str| {
        remora_translate::cluster(&bytes(CLUSTER, yaml), &mut world.context())
            .unwrap()
            .config
    };
    let yaml = client("alpn_protocols: [h2]");
    let first = translate(&mut world, &yaml);
    let mut edit = Edit::new(&Snapshot::default());
    edit.set_cluster(first.clone());
    world.previous = Some(edit.finish());
    let tls = |config: &remora_model::cluster::ClusterConfig| match &config.transport.fallback {
        TransportSocket::Tls(tls) => tls.clone(),
        TransportSocket::Plain | TransportSocket::Announced(_) => panic!("expected TLS"),
    };
    let slower = translate(
        &mut world,
        &yaml.replace("name: a,", "name: a, connect_timeout: 9s,"),
    );
    assert_ne!(first.fingerprint, slower.fingerprint);
    assert!(
        Arc::ptr_eq(&tls(&first), &tls(&slower)),
        "pools and sessions stay in use"
    );
    let changed = translate(&mut world, &client("alpn_protocols: [http/1.1]"));
    assert_ne!(tls(&first).id, tls(&changed).id);
}
