//! What can be seen of a session: where each resource stands, and what the server said instead of sending it.

use envoy_types::pb::google::rpc;

use super::*;
use crate::status::{ClientStatus, ResourceCounts};

const NOT_FOUND: i32 = 5;
const UNAVAILABLE: i32 = 14;

fn error(name: &str, code: i32) -> discovery::ResourceError {
    discovery::ResourceError {
        resource_name: Some(discovery::ResourceName {
            name: name.into(),
            ..discovery::ResourceName::default()
        }),
        error_detail: Some(rpc::Status {
            code,
            message: format!("no {name} today"),
            ..rpc::Status::default()
        }),
    }
}

fn client_statuses(client: &Client, type_url: &str) -> Vec<(String, ClientStatus)> {
    let status = client.session.status(type_url).unwrap();
    let words = status
        .resources
        .iter()
        .map(|resource| (resource.name.to_string(), resource.client_status()));
    words.collect()
}

fn missing(client: &mut Client) -> Vec<String> {
    match client.event() {
        Event::Missing { names, .. } => names.iter().map(|name| name.to_string()).collect(),
        other => panic!("expected missing names, found {other:?}"),
    }
}

#[test]
fn every_resource_has_one_of_the_words_of_client_status() {
    let mut client = Client::new(Variant::Delta);
    client.want(ENDPOINTS, &["accepted", "asked", "bad", "gone", "late"]);
    client
        .session
        .set_fetch_timeout(ENDPOINTS, Some(Duration::from_secs(1)));
    client.open();
    client.delta();
    let resource = |name: &str| wrapper(name, "1", Some(endpoints(name)), None);
    client.receive(delta_response(
        ENDPOINTS,
        "n1",
        vec![resource("accepted"), resource("bad")],
        &["gone"],
    ));
    let update = client.update();
    client.judge(update, &[("bad", "no")]);
    client.pass(Duration::from_secs(1));
    assert_eq!(missing(&mut client), ["asked", "late"]);
    client.want(ENDPOINTS, &["accepted", "bad", "gone", "late", "new"]);
    assert_eq!(
        client_statuses(&client, ENDPOINTS),
        [
            ("accepted".to_owned(), ClientStatus::Acked),
            ("bad".to_owned(), ClientStatus::Nacked),
            ("gone".to_owned(), ClientStatus::DoesNotExist),
            ("late".to_owned(), ClientStatus::Timeout),
            ("new".to_owned(), ClientStatus::Requested),
        ]
    );
    let overview = &client.session.overview()[0];
    assert!(overview.resources.is_empty());
    let counts = ResourceCounts {
        accepted: 1,
        requested: 1,
        missing: 2,
        rejected: 1,
        errors: 0,
    };
    assert_eq!(overview.counts, counts);
    assert_eq!(overview.last_received, Some(client.now - Duration::from_secs(1)));
}

#[test]
fn a11_an_error_about_a_resource_is_remembered_until_it_arrives() {
    let mut client = Client::new(Variant::Delta);
    client.want(ENDPOINTS, &["a", "b"]);
    client.open();
    client.delta();
    client.receive(discovery::DeltaDiscoveryResponse {
        resource_errors: vec![
            error("a", NOT_FOUND),
            error("b", UNAVAILABLE),
            error("unwanted", NOT_FOUND),
        ],
        ..delta_response(ENDPOINTS, "n1", vec![], &[])
    });
    assert_eq!(missing(&mut client), ["a"], "what may pass is waited for");
    assert!(client.accept().resources.is_empty());
    assert_eq!(client.delta()[0].response_nonce, "n1");
    assert_eq!(
        client_statuses(&client, ENDPOINTS),
        [
            ("a".to_owned(), ClientStatus::ReceivedError),
            ("b".to_owned(), ClientStatus::ReceivedError)
        ]
    );
    let status = client.session.status(ENDPOINTS).unwrap();
    let of_a = status.resources[0].error.as_ref().unwrap();
    assert_eq!((of_a.code, &*of_a.message), (NOT_FOUND, "no a today"));

    client.reopen();
    client.delta();
    client.receive(delta_response(
        ENDPOINTS,
        "m1",
        vec![wrapper("a", "1", Some(endpoints("a")), None)],
        &[],
    ));
    assert_eq!(client.accept().names(), ["a"]);
    assert_eq!(
        client_statuses(&client, ENDPOINTS),
        [
            ("a".to_owned(), ClientStatus::Acked),
            ("b".to_owned(), ClientStatus::ReceivedError)
        ]
    );
}

#[test]
fn a11_a_cluster_in_error_is_not_a_cluster_that_is_gone() {
    let mut client = Client::new(Variant::StateOfTheWorld);
    client.want_all(CLUSTER);
    client.open();
    client.sotw();
    client.receive(response(
        CLUSTER,
        "1",
        "n1",
        vec![cluster("a", "x"), cluster("b", "x")],
    ));
    client.accept();
    client.receive(discovery::DiscoveryResponse {
        resource_errors: vec![error("b", UNAVAILABLE)],
        ..response(CLUSTER, "2", "n2", vec![cluster("a", "x")])
    });
    assert!(client.accept().removed.is_empty(), "b is in error, and serves on");
    client.receive(response(CLUSTER, "3", "n3", vec![cluster("a", "x")]));
    assert_eq!(client.accept().removed(), ["b"]);
    assert_eq!(
        client_statuses(&client, CLUSTER),
        [("a".to_owned(), ClientStatus::Acked)]
    );
}
