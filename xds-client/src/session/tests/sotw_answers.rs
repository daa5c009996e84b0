//! State of the world: how responses are answered.

use super::sotw::{SOTW, reason, said};
use super::*;

#[test]
fn a1_every_response_gets_exactly_one_answer_with_its_nonce() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(CLUSTER, "c1", "n1", vec![cluster("a", "1")]));
    client.receive(response(CLUSTER, "c2", "n2", vec![cluster("a", "2")]));
    assert!(client.sotw().is_empty(), "nothing is said before the verdict");
    let first = client.update();
    client.assert_no_event();
    client.judge(first, &[]);
    let second = client.update();
    client.judge(second, &[("a", "bad port"), ("b", "bad name")]);
    let requests = client.sotw();
    assert_eq!(said(&requests[0]), ("Cluster", vec![], "c1", "n1"));
    assert_eq!(said(&requests[1]), ("Cluster", vec![], "c1", "n2"));
    assert_eq!(
        requests[1].error_detail.as_ref().map(|status| status.code),
        Some(13)
    );
    assert_eq!(reason(&requests[1]), "a: bad port\nb: bad name");
    assert_eq!(requests.len(), 2);
}

#[test]
fn a1_a_nack_before_any_ack_carries_no_version() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(CLUSTER, "c1", "n1", vec![cluster("a", "1")]));
    let update = client.update();
    client.judge(update, &[("a", "no")]);
    assert_eq!(said(&client.sotw()[0]), ("Cluster", vec![], "", "n1"));
}

#[test]
fn a2_a_change_of_interest_carries_the_newest_nonce_and_rides_on_a_pending_answer() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ROUTES, &["r1"]);
    client.sotw();
    client.receive(response(ROUTES, "1", "n1", vec![routes("r1")]));
    client.accept();
    client.sotw();
    client.want(ROUTES, &["r1", "r2"]);
    assert_eq!(
        said(&client.sotw()[0]),
        ("RouteConfiguration", vec!["r1", "r2"], "1", "n1")
    );
    client.receive(response(ROUTES, "2", "n2", vec![routes("r1"), routes("r2")]));
    client.want(ROUTES, &["r2", "r3"]);
    assert!(
        client.sotw().is_empty(),
        "with the nonce of the pending response it would be taken for its ACK"
    );
    client.accept();
    let requests = client.sotw();
    assert_eq!(
        said(&requests[0]),
        ("RouteConfiguration", vec!["r2", "r3"], "2", "n2")
    );
    assert_eq!(requests.len(), 1);
}

#[test]
fn a3_the_good_resources_of_a_rejected_response_count_as_held() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(
        CLUSTER,
        "c1",
        "n1",
        vec![cluster("good", "1"), cluster("bad", "1")],
    ));
    let update = client.update();
    client.judge(update, &[("bad", "no")]);
    client.receive(response(
        CLUSTER,
        "c2",
        "n2",
        vec![cluster("good", "1"), cluster("bad", "1")],
    ));
    let update = client.update();
    assert_eq!(
        names(&update.resources),
        ["bad"],
        "unchanged since it was accepted, and unchanged since it was rejected"
    );
    client.judge(update, &[("bad", "still no")]);
    let status = client.session.status(CLUSTER).unwrap();
    assert_eq!((status.received, status.accepted, status.rejected), (2, 0, 2));
    let bad = &status.resources[0];
    assert_eq!((&*bad.name, &bad.state), ("bad", &ResourceState::Requested));
    assert_eq!(bad.rejected.as_ref().unwrap().reason, "still no");
}

#[test]
fn a3_a_rejected_update_keeps_the_last_good_one() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(CLUSTER, "c1", "n1", vec![cluster("a", "1")]));
    client.accept();
    client.receive(response(CLUSTER, "c2", "n2", vec![cluster("a", "2")]));
    let update = client.update();
    client.judge(update, &[("a", "no")]);
    client.receive(response(CLUSTER, "c3", "n3", vec![cluster("a", "1")]));
    assert!(client.accept().names().is_empty(), "back to what is in use");
    assert_eq!(
        said(client.sotw().last().unwrap()),
        ("Cluster", vec![], "c3", "n3")
    );
}

#[test]
fn a4_a_duplicate_name_is_refused_before_anything_is_applied() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(
        CLUSTER,
        "c1",
        "n1",
        vec![cluster("a", "1"), cluster("b", ""), cluster("a", "2")],
    ));
    assert_eq!(client.refusal(), "a: expected once in a response, found twice");
    let requests = client.sotw();
    assert_eq!(said(&requests[0]), ("Cluster", vec![], "", "n1"));
    assert_eq!(
        reason(&requests[0]),
        "a: expected once in a response, found twice"
    );
    client.receive(response(CLUSTER, "c2", "n2", vec![cluster("a", "1")]));
    assert_eq!(client.accept().names(), ["a"]);
}

#[test]
fn a5_an_unreadable_resource_is_named_by_index_and_the_others_are_delivered() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(CLUSTER, "c0", "n0", vec![cluster("old", "")]));
    client.accept();
    client.sotw();
    let garbage = Any {
        type_url: CLUSTER.into(),
        value: vec![0x0a, 0x7f],
    };
    let foreign = routes("r");
    client.receive(response(
        CLUSTER,
        "c1",
        "n1",
        vec![cluster("a", ""), foreign, garbage],
    ));
    let update = client.update();
    assert_eq!(names(&update.resources), ["a"]);
    assert!(
        update.removed.is_empty(),
        "one of the unreadable ones may be 'old'"
    );
    client.judge(update, &[]);
    let requests = client.sotw();
    let lines: Vec<_> = reason(&requests[0]).lines().collect();
    assert_eq!(
        lines[0],
        format!("resource #1: expected type '{CLUSTER}', found '{ROUTES}'")
    );
    assert!(
        lines[1].starts_with("resource #2: cannot be decoded: "),
        "{}",
        lines[1]
    );
    assert_eq!(said(&requests[0]), ("Cluster", vec![], "c0", "n1"));
}

#[test]
fn a5_a_broken_list_entry_condemns_only_itself() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    let mut bytes = response(CLUSTER, "c1", "n1", vec![cluster("a", "")]).encode_to_vec();
    bytes.extend([0x12, 0x02, 0xff, 0xff]); // resources, two bytes that are no Any
    client.session.on_message(bytes.into(), client.now).unwrap();
    let update = client.accept();
    assert_eq!(update.names(), ["a"]);
    assert_eq!(&*update.unreadable[0].name, "resource #1");
}

#[test]
fn a5_wrapped_resources_are_unwrapped() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    let wrapped = any(
        crate::resource_type::WRAPPER,
        &wrapper("a", "7", Some(cluster("a", "x")), None),
    );
    client.receive(response(CLUSTER, "c1", "n1", vec![wrapped]));
    let update = client.accept();
    assert_eq!((update.names(), &*update.resources[0].version), (vec!["a"], "7"));
    assert_eq!(
        Cluster::decode(update.resources[0].body.clone())
            .unwrap()
            .alt_stat_name,
        "x"
    );
}

#[test]
fn a9_a_nack_does_not_wedge_the_type() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(CLUSTER, "c1", "n1", vec![cluster("a", "bad")]));
    let update = client.update();
    client.judge(update, &[("a", "no")]);
    client.receive(response(CLUSTER, "c2", "n2", vec![cluster("a", "good")]));
    client.accept();
    assert_eq!(
        said(client.sotw().last().unwrap()),
        ("Cluster", vec![], "c2", "n2")
    );
    client.reopen();
    assert_eq!(said(&client.sotw()[0]), ("Cluster", vec![], "c2", ""));
}

#[test]
fn f7_a_response_over_the_limit_is_refused_and_the_next_one_is_not() {
    let mut settings = Settings::new(SOTW, Bytes::new());
    settings.max_response_size = 1000;
    let mut client = Client::with(settings);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(
        CLUSTER,
        "c1",
        "n1",
        vec![cluster("a", &"x".repeat(2000))],
    ));
    assert!(
        client
            .refusal()
            .starts_with("expected at most 1000 bytes in a response, found ")
    );
    assert_eq!(said(&client.sotw()[0]), ("Cluster", vec![], "", "n1"));
    client.receive(response(CLUSTER, "c2", "n2", vec![cluster("a", "x")]));
    client.accept();
    assert_eq!(said(&client.sotw()[0]), ("Cluster", vec![], "c2", "n2"));
}

#[test]
fn a_message_that_is_no_response_is_an_error_and_no_panic() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    assert!(
        client
            .session
            .on_message(Bytes::from_static(&[0xff; 9]), client.now)
            .is_err()
    );
}

#[test]
fn a_caller_that_is_behind_stops_the_reading() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    let mut count = 0;
    while client.session.wants_messages() {
        count += 1;
        client.receive(response(
            CLUSTER,
            &format!("c{count}"),
            &format!("n{count}"),
            vec![],
        ));
        assert!(count < 100);
    }
    for _ in 0..count {
        client.accept();
    }
    assert!(client.session.wants_messages());
    assert_eq!(client.sotw().len(), count);
}

#[test]
fn a9_a_server_that_repeats_what_was_rejected_is_slowed_down_and_never_left_without_an_answer() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    let mut waits = Vec::new();
    for turn in 0..9 {
        let nonce = format!("n{turn}");
        client.receive(response(CLUSTER, "c1", &nonce, vec![cluster("a", "bad")]));
        let update = client.update();
        client.judge(update, &[("a", "no")]);
        let rejected = client.now;
        let mut requests = client.sotw();
        if requests.is_empty() {
            let due = client.session.next_deadline().unwrap();
            client.pass(due - client.now);
            requests = client.sotw();
        }
        assert_eq!(said(&requests[0]), ("Cluster", vec![], "", &*nonce));
        waits.push((client.now - rejected).as_millis());
    }
    assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000, 1000, 1000]);
    client.receive(response(CLUSTER, "c2", "n9", vec![cluster("a", "bad")]));
    let update = client.update();
    client.judge(update, &[("a", "no")]);
    assert_eq!(client.sotw().len(), 1, "another version is no repetition");
}

#[test]
fn a9_a_change_of_interest_takes_a_delayed_answer_along() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ROUTES, &["a"]);
    client.sotw();
    for nonce in ["n1", "n2"] {
        client.receive(response(ROUTES, "1", nonce, vec![routes("a")]));
        let update = client.update();
        client.judge(update, &[("a", "no")]);
    }
    assert_eq!(client.sotw().len(), 1);
    client.want(ROUTES, &["a", "b"]);
    let requests = client.sotw();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        said(&requests[0]),
        ("RouteConfiguration", vec!["a", "b"], "", "n2")
    );
    assert_eq!(reason(&requests[0]), "a: no");
}

#[test]
fn what_came_unasked_is_asked_for_as_if_nothing_had_come() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ROUTES, &["r1"]);
    client.sotw();
    client.receive(response(ROUTES, "1", "n1", vec![routes("r1")]));
    client.accept();
    client.sotw();
    client.want(ROUTES, &[]);
    assert_eq!(said(&client.sotw()[0]), ("RouteConfiguration", vec![], "1", "n1"));
    // go-control-plane answers an empty list by everything, and then thinks that we have it.
    client.receive(response(ROUTES, "2", "n2", vec![routes("r2")]));
    client.accept();
    assert_eq!(said(&client.sotw()[0]), ("RouteConfiguration", vec![], "2", "n2"));
    client.want(ROUTES, &["r2"]);
    assert_eq!(
        said(&client.sotw()[0]),
        ("RouteConfiguration", vec!["r2"], "", "n2")
    );
    client.receive(response(ROUTES, "2", "n3", vec![routes("r2")]));
    assert_eq!(client.accept().names(), ["r2"]);
    client.want(ROUTES, &["r1", "r2"]);
    let requests = client.sotw();
    // The server may not have heard yet that r1 was given up.
    assert_eq!(said(&requests[0]), ("RouteConfiguration", vec!["r2"], "2", "n3"));
    assert_eq!(
        said(&requests[1]),
        ("RouteConfiguration", vec!["r1", "r2"], "2", "n3")
    );
}
