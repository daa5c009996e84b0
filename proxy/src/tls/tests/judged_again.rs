//! Peers are judged again when secrets change.

use super::*;
use crate::tls::PeerCertificate;

const SERVER: &str = "spiffe://td/server";

fn trusting(roots: &[&Ca]) -> Snapshot {
    let validation = Validation {
        roots: roots.iter().map(|ca| ca.root()).collect(),
        ..Validation::default()
    };
    world(vec![(
        SECRET,
        Secret::new("roots".into(), SecretKind::Validation(validation)),
    )])
}

fn by_sds(certificate: Secret) -> TlsSettings {
    let mut settings = settings(Some(certificate), None);
    settings.validation.sds = Some(SecretId::from_index(SECRET));
    settings
}

fn peer(secured: &Secured) -> &PeerCertificate {
    secured.session.peer.as_ref().unwrap()
}

#[tokio::test]
async fn a_client_of_a_root_that_is_gone_is_refused_and_comes_in_anew_with_it() {
    let (old, kept) = (Ca::new("old"), Ca::new("kept"));
    let server = server(by_sds(kept.svid(SERVER)));
    let client_of = |ca: &Ca| {
        client(settings(
            Some(ca.svid("spiffe://td/client")),
            Some(kept.validation(vec![])),
        ))
    };
    let (old_client, kept_client) = (client_of(&old), client_of(&kept));
    let first = trusting(&[&old, &kept]);
    let (leaving, _) = both(handshake(&server, &old_client, &first).await);
    let (staying, _) = both(handshake(&server, &kept_client, &first).await);

    for (generation, roots) in [vec![&kept, &old], vec![&kept]].into_iter().enumerate() {
        let context = ServerContext::of(&server, &trusting(&roots)).unwrap();
        assert_eq!(
            context.still_admits(peer(&leaving)).is_err(),
            generation == 1,
            "{generation}"
        );
        assert_eq!(peer(&leaving).is_refused(), generation == 1, "{generation}");
        assert_eq!(context.still_admits(peer(&staying)), Ok(()));
    }

    let (back, _) = both(handshake(&server, &old_client, &first).await);
    assert!(!peer(&back).is_refused() && peer(&leaving).is_refused());
}

#[tokio::test]
async fn a_peer_whose_handshake_was_under_way_is_judged_when_asked_for() {
    let (old, kept) = (Ca::new("old"), Ca::new("kept"));
    let server = server(by_sds(kept.svid(SERVER)));
    let client = client(settings(
        Some(old.svid("spiffe://td/client")),
        Some(kept.validation(vec![])),
    ));
    let before = ServerContext::of(&server, &trusting(&[&old])).unwrap();
    let after = ServerContext::of(&server, &trusting(&[&kept])).unwrap();
    let of_client = ClientContext::of(&client, &Snapshot::default()).unwrap();

    let (late, _) = both(meet(&before, &of_client, target("server.example")).await);

    assert!(!peer(&late).is_refused());
    assert!(after.still_admits(peer(&late)).is_err() && peer(&late).is_refused());
}

#[tokio::test]
async fn a_server_of_a_root_that_is_gone_is_refused() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let server = server(settings(Some(old.svid(SERVER)), Some(old.validation(vec![]))));
    let client = client(by_sds(old.svid("spiffe://td/client")));
    let first = trusting(&[&old]);
    let (_, connected) = both(handshake(&server, &client, &first).await);

    ClientContext::of(&client, &trusting(&[&old])).unwrap();
    assert!(!peer(&connected).is_refused());
    ClientContext::of(&client, &trusting(&[&new])).unwrap();
    assert!(peer(&connected).is_refused());
}
