//! State of the world: what is asked for, what it means, and what outlives a stream.

use super::*;

pub(super) const SOTW: Variant = Variant::StateOfTheWorld;

/// Names in a request, and what it answers.
pub(super) fn said(request: &discovery::DiscoveryRequest) -> (&str, Vec<&str>, &str, &str) {
    let names = request.resource_names.iter().map(String::as_str).collect();
    let short = request.type_url.rsplit('.').next().unwrap();
    (short, names, &request.version_info, &request.response_nonce)
}

pub(super) fn reason(request: &discovery::DiscoveryRequest) -> &str {
    &request.error_detail.as_ref().expect("a NACK").message
}

#[test]
fn s2_types_on_one_stream_have_their_own_version_and_nonce() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.want_all(LISTENER);
    client.sotw();
    client.receive(response(LISTENER, "l1", "n1", vec![]));
    client.accept();
    client.receive(response(CLUSTER, "c1", "n2", vec![cluster("a", "")]));
    let update = client.update();
    client.judge(update, &[("a", "no")]);
    let requests = client.sotw();
    assert_eq!(said(&requests[0]), ("Cluster", vec![], "", "n2"));
    assert_eq!(said(&requests[1]), ("Listener", vec![], "l1", "n1"));
    assert_eq!(requests.len(), 2);
}

#[test]
fn s3_the_first_message_of_each_stream_carries_the_node_and_no_other_does() {
    let mut client = Client::new(SOTW);
    for _ in 0..2 {
        client.reopen();
        client.want_all(CLUSTER);
        client.want_all(LISTENER);
        let nodes: Vec<_> = client
            .sotw()
            .into_iter()
            .map(|request| request.node.map(|node| node.id))
            .collect();
        assert_eq!(nodes, [Some(NODE.to_owned()), None]);
    }
}

#[test]
fn s6_a_wildcard_is_an_empty_list_and_a_star_once_names_were_sent() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    assert_eq!(said(&client.sotw()[0]), ("Cluster", vec![], "", ""));
    client.want(CLUSTER, &["a"]);
    assert_eq!(said(&client.sotw()[0]), ("Cluster", vec!["a"], "", ""));
    client.want_all(CLUSTER);
    assert_eq!(said(&client.sotw()[0]), ("Cluster", vec!["*"], "", ""));
}

#[test]
fn s7_one_request_for_all_names() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ENDPOINTS, &["b"]);
    client.want(ENDPOINTS, &["b", "a", "c"]);
    let requests = client.sotw();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        said(&requests[0]),
        ("ClusterLoadAssignment", vec!["a", "b", "c"], "", "")
    );
}

#[test]
fn s8_an_empty_list_ends_a_subscription_but_never_begins_one() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ENDPOINTS, &[]);
    assert!(
        client.sotw().is_empty(),
        "an initial empty list would ask for everything"
    );
    client.want(ENDPOINTS, &["a"]);
    client.sotw();
    client.receive(response(ENDPOINTS, "e1", "n1", vec![endpoints("a")]));
    client.accept();
    client.sotw();
    client.want(ENDPOINTS, &[]);
    let requests = client.sotw();
    assert_eq!(requests.len(), 1);
    assert_eq!(said(&requests[0]), ("ClusterLoadAssignment", vec![], "e1", "n1"));
    client.reopen();
    assert!(client.sotw().is_empty());
}

#[test]
fn s10_a_resource_that_nobody_asked_for_is_ignored_and_the_response_accepted() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.sotw();
    client.receive(response(
        ENDPOINTS,
        "e1",
        "n1",
        vec![endpoints("zzz"), endpoints("a")],
    ));
    assert_eq!(client.accept().names(), ["a"]);
    let requests = client.sotw();
    assert_eq!(
        said(&requests[0]),
        ("ClusterLoadAssignment", vec!["a"], "e1", "n1")
    );
    assert_eq!(requests[0].error_detail, None);
}

#[test]
fn s11_unsubscribed_and_subscribed_again_before_anything_was_sent_still_reaches_the_server() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ENDPOINTS, &["a", "b"]);
    client.sotw();
    client.receive(response(
        ENDPOINTS,
        "e1",
        "n1",
        vec![endpoints("a"), endpoints("b")],
    ));
    client.accept();
    client.sotw();
    client.want(ENDPOINTS, &["b"]);
    client.want(ENDPOINTS, &["a", "b"]);
    let requests = client.sotw();
    let lists: Vec<_> = requests
        .iter()
        .map(|request| request.resource_names.clone())
        .collect();
    assert_eq!(lists, [vec!["b"], vec!["a", "b"]]);
    client.receive(response(
        ENDPOINTS,
        "e1",
        "n2",
        vec![endpoints("a"), endpoints("b")],
    ));
    assert_eq!(
        client.accept().names(),
        ["a"],
        "what was given up is new when it comes again"
    );
}

#[test]
fn w5_absent_clusters_are_removed_and_absent_endpoints_are_not() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.want(ENDPOINTS, &["a", "b"]);
    client.sotw();
    client.receive(response(
        CLUSTER,
        "c1",
        "n1",
        vec![cluster("a", ""), cluster("b", "")],
    ));
    client.accept();
    client.receive(response(
        ENDPOINTS,
        "e1",
        "n1",
        vec![endpoints("a"), endpoints("b")],
    ));
    client.accept();
    client.receive(response(CLUSTER, "c2", "n2", vec![cluster("b", "")]));
    let update = client.accept();
    assert_eq!((update.names(), update.removed()), (vec![], vec!["a"]));
    client.receive(response(CLUSTER, "c3", "n3", vec![]));
    assert_eq!(client.accept().removed(), ["b"], "an empty response removes all");
    client.receive(response(ENDPOINTS, "e2", "n2", vec![]));
    assert!(client.accept().removed().is_empty());
}

#[test]
fn w7_a_fetch_timer_starts_with_the_request_and_tells_once() {
    let mut client = Client::new(SOTW);
    client.want(ROUTES, &["r1", "r2"]);
    client.want_all(LISTENER);
    client.pass(Duration::from_secs(60));
    client.assert_no_event();
    client.open();
    client.sotw();
    client.pass(Duration::from_secs(14));
    client.assert_no_event();
    client.receive(response(ROUTES, "1", "n1", vec![routes("r1")]));
    client.accept();
    assert_eq!(
        client.session.next_deadline(),
        Some(client.now + Duration::from_secs(1))
    );
    client.pass(Duration::from_secs(1));
    let mut missing = Vec::new();
    while let Some(Event::Missing { type_url, names }) = client.session.poll_event() {
        missing.push((
            type_url.to_string(),
            names.iter().map(|name| name.to_string()).collect::<Vec<_>>(),
        ));
    }
    assert_eq!(
        missing,
        [
            (ROUTES.to_owned(), vec!["r2".to_owned()]),
            (LISTENER.to_owned(), vec![])
        ]
    );
    client.reopen();
    client.sotw();
    client.pass(Duration::from_secs(60));
    client.assert_no_event();
    client.receive(response(ROUTES, "2", "n1", vec![routes("r1"), routes("r2")]));
    assert_eq!(client.accept().names(), ["r2"], "late is not never");
}

#[test]
fn w7_without_a_timeout_nothing_is_ever_missing() {
    let mut client = Client::new(SOTW);
    client.session.set_fetch_timeout(ROUTES, None);
    client.open();
    client.want(ROUTES, &["r1"]);
    client.sotw();
    assert_eq!(client.session.next_deadline(), None);
}

#[test]
fn w9_a_resource_expires_unless_a_heartbeat_comes() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    let wrapped = |body| any(crate::resource_type::WRAPPER, &wrapper("a", "7", body, Some(10)));
    client.receive(response(
        CLUSTER,
        "c1",
        "n1",
        vec![wrapped(Some(cluster("a", "")))],
    ));
    client.accept();
    client.pass(Duration::from_secs(9));
    client.receive(response(CLUSTER, "c1", "n2", vec![wrapped(None)]));
    let update = client.accept();
    assert!(
        update.resources.is_empty() && update.removed.is_empty(),
        "a heartbeat updates nothing"
    );
    assert_eq!(
        said(client.sotw().last().unwrap()),
        ("Cluster", vec![], "c1", "n2")
    );
    client.pass(Duration::from_secs(9));
    client.assert_no_event();
    client.pass(Duration::from_secs(1));
    assert!(matches!(client.event(), Event::Expired { names, .. } if &*names[0] == "a"));
    client.receive(response(
        CLUSTER,
        "c1",
        "n3",
        vec![wrapped(Some(cluster("a", "")))],
    ));
    assert_eq!(client.accept().names(), ["a"]);
}

#[test]
fn f3_a_new_stream_asks_in_the_order_first_used_with_the_accepted_versions_and_all_names() {
    let mut client = Client::new(SOTW);
    client.want(ROUTES, &[]);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.want(ENDPOINTS, &["a"]);
    client.sotw();
    client.want_all(LISTENER);
    client.want(ROUTES, &["r"]);
    client.sotw();
    client.receive(response(CLUSTER, "c1", "n1", vec![cluster("a", "")]));
    client.accept();
    client.receive(response(ENDPOINTS, "e1", "n2", vec![endpoints("a")]));
    client.accept();
    client.receive(response(ENDPOINTS, "e2", "n3", vec![endpoints("a")]));
    let update = client.update();
    client.judge(update, &[("a", "no")]);
    client.sotw();
    client.session.on_stream_end();
    client.want(ENDPOINTS, &["a", "b"]);
    client.open();
    let requests = client.sotw();
    let said: Vec<_> = requests.iter().map(said).collect();
    assert_eq!(said[0], ("Cluster", vec![], "c1", ""));
    assert_eq!(said[1], ("ClusterLoadAssignment", vec!["a", "b"], "e1", ""));
    assert_eq!(said[2], ("RouteConfiguration", vec!["r"], "", ""));
    assert_eq!(said[3], ("Listener", vec![], "", ""));
}

#[test]
fn f3_a_verdict_after_the_end_of_its_stream_counts_but_is_not_sent() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response(CLUSTER, "c1", "n1", vec![cluster("a", "")]));
    let update = client.update();
    client.session.on_stream_end();
    client.judge(update, &[]);
    client.open();
    let requests = client.sotw();
    assert_eq!(said(&requests[0]), ("Cluster", vec![], "c1", ""));
    assert_eq!(requests.len(), 1);
}

#[test]
fn a_response_for_a_type_that_was_not_asked_for_is_ignored() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ROUTES, &[]);
    client.receive(response(CLUSTER, "c1", "n1", vec![cluster("a", "")]));
    client.receive(response(ROUTES, "r1", "n2", vec![routes("r")]));
    client.assert_no_event();
    assert!(
        client.sotw().is_empty(),
        "an answer without names would ask for everything"
    );
}

#[test]
fn s1_a_stream_for_one_type_does_not_need_the_type_in_its_responses() {
    let mut settings = Settings::new(SOTW, Bytes::new());
    settings.only_type = Some(CLUSTER.into());
    let mut client = Client::with(settings);
    client.open();
    client.want_all(CLUSTER);
    client.sotw();
    client.receive(response("", "c1", "n1", vec![cluster("a", "")]));
    assert_eq!(client.accept().names(), ["a"]);
}

#[test]
fn s11_a_withdrawal_that_the_server_may_have_missed_is_said_again() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ENDPOINTS, &["a", "b"]);
    client.sotw();
    client.receive(response(
        ENDPOINTS,
        "1",
        "n1",
        vec![endpoints("a"), endpoints("b")],
    ));
    client.accept();
    client.sotw();
    client.want(ENDPOINTS, &["b"]);
    client.want(ENDPOINTS, &["a", "b"]);
    let names = |requests: &[discovery::DiscoveryRequest]| -> Vec<(Vec<String>, String)> {
        let said = |request: &discovery::DiscoveryRequest| {
            (request.resource_names.clone(), request.response_nonce.clone())
        };
        requests.iter().map(said).collect()
    };
    let both = |nonce: &str| {
        [
            (vec!["b".to_owned()], nonce.to_owned()),
            (vec!["a".to_owned(), "b".to_owned()], nonce.to_owned()),
        ]
    };
    assert_eq!(names(&client.sotw()), both("n1"));
    // Sent before the server read that, which it therefore drops: it still takes "a" for known.
    client.receive(response(ENDPOINTS, "2", "n2", vec![endpoints("b")]));
    client.accept();
    assert_eq!(
        names(&client.sotw()),
        both("n2"),
        "said again under the newest nonce"
    );
    client.receive(response(ENDPOINTS, "3", "n3", vec![endpoints("a")]));
    assert_eq!(client.accept().names(), ["a"]);
    assert_eq!(client.sotw().len(), 1, "arrived, no more doubt");
}

#[test]
fn s11_a_name_that_does_not_exist_is_not_asked_for_for_ever() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(ENDPOINTS, &["a", "b"]);
    client.sotw();
    client.want(ENDPOINTS, &["b"]);
    client.sotw();
    client.want(ENDPOINTS, &["a", "b"]);
    let mut requests = client.sotw().len();
    for turn in 0..20 {
        client.receive(response(
            ENDPOINTS,
            "1",
            &format!("n{turn}"),
            vec![endpoints("b")],
        ));
        client.accept();
        requests = client.sotw().len();
    }
    assert_eq!(requests, 1, "nothing but the answer");
}

#[test]
fn s6_a_wildcard_and_names_are_said_together() {
    let mut client = Client::new(SOTW);
    client.open();
    client.want(CLUSTER, &["*", "on-demand"]);
    assert_eq!(client.sotw()[0].resource_names, ["*", "on-demand"]);
    client.want_all(CLUSTER);
    assert_eq!(
        client.sotw()[0].resource_names,
        ["*"],
        "an empty list would end it all now"
    );
}
