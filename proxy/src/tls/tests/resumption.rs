//! When a session may be resumed, and when never.

use rcgen::date_time_ymd;
use rustls::client::ClientSessionStore as _;

use super::*;
use crate::tls::peer::PeerCertificate;
use crate::tls::sessions::Sessions;
use crate::tls::verify::{Judged, Verifier};

const SERVER: &str = "spiffe://td/server";
const CLIENT: &str = "spiffe://td/client";

/// Two contexts whose certificates come from SDS: the server's is 1, the client's 2, the roots 3.
fn contexts() -> (ServerTls, ClientTls) {
    let settings = |certificate, name: &str| {
        let mut settings = settings(None, None);
        settings.certificates = vec![CertificateSource::Sds(SecretId::from_index(certificate))];
        let names = Validation {
            names: vec![exact(SanKind::Uri, name)],
            ..Validation::default()
        };
        settings.validation = ValidationSource {
            inline: Some(Arc::new(Secret::new("".into(), SecretKind::Validation(names)))),
            sds: Some(SecretId::from_index(3)),
        };
        settings
    };
    (server(settings(1, CLIENT)), client(settings(2, SERVER)))
}

fn roots(cas: &[&Ca]) -> Secret {
    let validation = Validation {
        roots: cas.iter().map(|ca| ca.root()).collect(),
        ..Validation::default()
    };
    Secret::new("roots".into(), SecretKind::Validation(validation))
}

fn first_world(ca: &Ca) -> Snapshot {
    world(vec![
        (1, ca.svid(SERVER)),
        (2, ca.svid(CLIENT)),
        (3, roots(&[ca])),
    ])
}

fn with(world: &Snapshot, id: u32, secret: Secret) -> Snapshot {
    let mut next = world.clone();
    next.secrets.set(SecretId::from_index(id), Some(Arc::new(secret)));
    next
}

async fn resumed(server: &ServerTls, client: &ClientTls, world: &Snapshot) -> bool {
    let (served, connected) = both(handshake(server, client, world).await);
    assert_eq!(served.session.resumed, connected.session.resumed);
    assert_eq!(
        served
            .session
            .peer
            .as_ref()
            .unwrap()
            .uri_sans()
            .collect::<Vec<_>>(),
        [CLIENT]
    );
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
    assert!(served.session.is_mutual() && connected.session.is_mutual());
    served.session.resumed
}

#[tokio::test]
async fn the_second_handshake_is_resumed_and_still_knows_the_peer() {
    for maximum in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for disable_tickets in [false, maximum == TlsVersion::V1_2] {
            let ca = Ca::new("mesh");
            let (mut server, client) = contexts();
            server.settings.maximum = maximum;
            server.disable_tickets = disable_tickets;
            let world = first_world(&ca);
            assert!(!resumed(&server, &client, &world).await);
            assert!(
                resumed(&server, &client, &world).await,
                "{maximum:?} {disable_tickets}"
            );
            assert!(resumed(&server, &client, &world).await);
        }
    }
}

#[tokio::test]
async fn switched_off_on_either_side_nothing_is_resumed() {
    let ca = Ca::new("mesh");
    let world = first_world(&ca);
    let (server, mut client) = contexts();
    client.max_session_keys = 0;
    assert!(!resumed(&server, &client, &world).await);
    assert!(!resumed(&server, &client, &world).await);

    for maximum in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let (mut server, client) = contexts();
        server.settings.maximum = maximum;
        (server.disable_tickets, server.disable_session_cache) = (true, true);
        assert!(!resumed(&server, &client, &world).await);
        assert!(!resumed(&server, &client, &world).await);
    }
}

#[tokio::test]
async fn a_rotated_secret_of_either_kind_begins_with_full_handshakes() {
    let ca = Ca::new("mesh");
    for (id, rotated) in [(1, ca.svid(SERVER)), (2, ca.svid(CLIENT)), (3, roots(&[&ca]))] {
        let (server, client) = contexts();
        let before = first_world(&ca);
        assert!(!resumed(&server, &client, &before).await);
        assert!(resumed(&server, &client, &before).await);
        let after = with(&before, id, rotated);
        assert!(!resumed(&server, &client, &after).await, "secret {id}");
        assert!(resumed(&server, &client, &after).await, "secret {id}");
    }
}

#[tokio::test]
async fn a_session_is_worth_nothing_once_the_roots_are_others() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let (server, client) = contexts();
    let before = first_world(&old);
    resumed(&server, &client, &before).await;

    // The server trusts the new root only, and the client still has its session and its old certificate.
    let after = with(&before, 3, roots(&[&new]));
    let client_context = ClientContext::of(&client, &before).unwrap();
    let server_context = ServerContext::of(&server, &after).unwrap();
    let failure = meet(&server_context, &client_context, target("server.example"))
        .await
        .0
        .unwrap_err();
    assert!(matches!(failure, TlsFailure::Untrusted(_)), "{failure}");

    // The other way round: the client trusts the new root only, the server did not rotate.
    let server_context = ServerContext::of(&server, &before).unwrap();
    let client_context = ClientContext::of(&client, &after).unwrap();
    let failure = meet(&server_context, &client_context, target("server.example"))
        .await
        .1
        .unwrap_err();
    assert!(matches!(failure, TlsFailure::Untrusted(_)), "{failure}");
}

#[tokio::test]
async fn a_server_that_became_somebody_else_is_refused() {
    let ca = Ca::new("mesh");
    let (server, client) = contexts();
    let before = first_world(&ca);
    resumed(&server, &client, &before).await;
    let client_context = ClientContext::of(&client, &before).unwrap();
    let after = with(&before, 1, ca.svid("spiffe://td/foreign"));
    let server_context = ServerContext::of(&server, &after).unwrap();
    let failure = meet(&server_context, &client_context, target("server.example"))
        .await
        .1
        .unwrap_err();
    assert!(matches!(failure, TlsFailure::WrongName { .. }), "{failure}");
}

#[tokio::test]
async fn contexts_share_no_session() {
    let ca = Ca::new("mesh");
    let world = first_world(&ca);
    let (server, first) = contexts();
    let (other_server, second) = contexts();
    assert!(!resumed(&server, &first, &world).await);
    assert!(!resumed(&server, &second, &world).await);
    assert!(!resumed(&other_server, &first, &world).await);
}

#[tokio::test]
async fn another_server_name_is_another_session() {
    let ca = Ca::new("mesh");
    let world = first_world(&ca);
    let (server, client) = contexts();
    let server = ServerContext::of(&server, &world).unwrap();
    let client = ClientContext::of(&client, &world).unwrap();
    for (name, expected) in [
        ("a.example", false),
        ("b.example", false),
        ("", false),
        ("a.example", true),
        ("", true),
    ] {
        let (_, connected) = both(meet(&server, &client, target(name)).await);
        assert_eq!(connected.session.resumed, expected, "{name}");
    }
}

#[tokio::test]
async fn live_connections_outlive_a_rotation() {
    let ca = Ca::new("mesh");
    let (server, client) = contexts();
    let before = first_world(&ca);
    let (mut served, mut connected) = both(handshake(&server, &client, &before).await);
    let new = Ca::new("new");
    let after = world(vec![
        (1, new.svid(SERVER)),
        (2, new.svid(CLIENT)),
        (3, roots(&[&new])),
    ]);
    assert!(!resumed(&server, &client, &after).await);
    let (near, far) = tokio::join!(greet(&mut served.io), greet(&mut connected.io));
    near.unwrap();
    far.unwrap();
}

#[test]
fn no_session_outlives_the_certificate_it_was_verified_by() {
    let sessions = Sessions::new(1);
    let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
    let remember = || sessions.set_kx_hint(name.clone(), rustls::NamedGroup::X25519);
    remember();
    sessions.limit(date_time_ymd(4000, 1, 1).unix_timestamp());
    sessions.forget_ended();
    assert!(sessions.kx_hint(&name).is_some());
    sessions.limit(date_time_ymd(2020, 1, 1).unix_timestamp());
    sessions.forget_ended();
    assert!(sessions.kx_hint(&name).is_none());
    remember();
    sessions.forget_ended();
    assert!(sessions.kx_hint(&name).is_some());
}

#[tokio::test]
async fn a_resumed_peer_whose_certificate_ended_meanwhile_is_refused() {
    let ca = Ca::new("mesh");
    let (server, client) = contexts();
    let (served, _) = both(handshake(&server, &client, &first_world(&ca)).await);
    let ended = ca.signs(vec![uri(CLIENT)], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let SecretKind::Certificate(ended) = ended.kind else {
        unreachable!()
    };
    let mut session = served.session;
    session.resumed = true;
    session.peer = Some(Arc::new(PeerCertificate::new(
        ended.chain.into_iter().map(Into::into).collect(),
    )));

    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let verifier = |allow_expired| {
        let validation = Validation {
            allow_expired,
            ..ca.validation(vec![])
        };
        Verifier::new(Some(validation), Judged::RequiredClient, &provider).unwrap()
    };
    let failure = session.resumable_until(&verifier(false)).unwrap_err();
    assert!(
        failure.to_string().contains("ended since the session began"),
        "{failure}"
    );
    assert_eq!(session.resumable_until(&verifier(true)), Ok(None));
}
