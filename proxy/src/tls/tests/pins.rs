//! Pinned certificates and keys, and how long a chain may be.

use remora_model::identity::Pins;

use super::*;
use crate::tls::crypto::sha256;
use crate::tls::leaf::public_key;

const SERVER: &str = "spiffe://td/server";
const CLIENT: &str = "spiffe://td/client";

/// What becomes of this client's handshake at a server that judges by `validation`.
async fn judged(validation: Validation, client_certificate: Secret) -> Outcome {
    let ca = Ca::new("of the server");
    let server = server(settings(Some(ca.svid(SERVER)), Some(validation)));
    let client = client(settings(Some(client_certificate), Some(ca.validation(vec![]))));
    handshake(&server, &client, &Snapshot::default()).await
}

fn is_refused(outcome: Outcome, why: &str) -> bool {
    match outcome.0 {
        Err(failure @ (TlsFailure::Untrusted(_) | TlsFailure::WrongName { .. })) => {
            failure.to_string().contains(why)
        }
        other => panic!("expected a refusal, found {other:?}"),
    }
}

fn leaf(secret: &Secret) -> &[u8] {
    match &secret.kind {
        SecretKind::Certificate(certificate) => &certificate.chain[0],
        other => panic!("expected a certificate, found {other:?}"),
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    sha256(bytes).as_ref().try_into().unwrap()
}

fn certificate_pin(secret: &Secret) -> Pins {
    Pins {
        certificates: vec![[7; 32], hash(leaf(secret))],
        keys: vec![],
    }
}

fn key_pin(secret: &Secret) -> Pins {
    Pins {
        certificates: vec![[7; 32]],
        keys: vec![hash(public_key(leaf(secret)).unwrap())],
    }
}

#[tokio::test]
async fn of_the_certificates_that_the_roots_vouch_for_only_a_pinned_one_is_accepted() {
    let ca = Ca::new("mesh");
    for pins in [certificate_pin, key_pin] {
        let known = ca.svid(CLIENT);
        let validation = Validation {
            pins: pins(&known),
            ..ca.validation(vec![exact(SanKind::Uri, CLIENT)])
        };
        let other = judged(validation.clone(), ca.svid(CLIENT)).await;
        assert!(is_refused(other, "pinned"));
        let (served, _) = both(judged(validation, known).await);
        assert!(served.session.is_mutual());
    }
}

#[tokio::test]
async fn a_pin_vouches_for_no_name_and_for_no_other_root() {
    let (ca, stranger) = (Ca::new("mesh"), Ca::new("stranger").svid(CLIENT));
    let validation = Validation {
        pins: certificate_pin(&stranger),
        ..ca.validation(vec![])
    };
    assert!(is_refused(judged(validation, stranger).await, "not issued by"));
    let known = ca.svid(CLIENT);
    let validation = Validation {
        pins: certificate_pin(&known),
        ..ca.validation(vec![exact(SanKind::Uri, SERVER)])
    };
    assert!(is_refused(judged(validation, known).await, SERVER));
}

#[tokio::test]
async fn without_roots_the_pin_alone_vouches() {
    let known = Ca::new("nobody knows").svid(CLIENT);
    let validation = Validation {
        pins: key_pin(&known),
        ..Validation::default()
    };
    let other = judged(validation.clone(), Ca::new("nobody knows").svid(CLIENT)).await;
    assert!(is_refused(other, "pinned"));
    let (served, _) = both(judged(validation, known).await);
    assert!(served.session.is_mutual());
}

#[tokio::test]
async fn a_chain_is_no_longer_than_the_depth_allows() {
    let ca = Ca::new("mesh");
    let intermediate = ca.intermediate("team");
    let allowing = |depth| Validation {
        max_depth: Some(depth),
        ..ca.validation(vec![])
    };
    both(judged(allowing(0), ca.svid(CLIENT)).await);
    both(judged(allowing(1), intermediate.below(CLIENT)).await);
    assert!(is_refused(
        judged(allowing(0), intermediate.below(CLIENT)).await,
        "1 intermediate certificates"
    ));
}
