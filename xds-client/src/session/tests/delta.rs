//! Delta.

use super::*;

const DELTA: Variant = Variant::Delta;

fn clusters(names: &[&str], version: &str) -> Vec<discovery::Resource> {
    names
        .iter()
        .map(|name| wrapper(name, version, Some(cluster(name, version)), None))
        .collect()
}

fn assignment(name: &str, version: &str) -> discovery::Resource {
    wrapper(name, version, Some(endpoints(name)), None)
}

/// Subscribed, unsubscribed, nonce.
fn said(request: &discovery::DeltaDiscoveryRequest) -> (Vec<&str>, Vec<&str>, &str) {
    let subscribe = request
        .resource_names_subscribe
        .iter()
        .map(String::as_str)
        .collect();
    let unsubscribe = request
        .resource_names_unsubscribe
        .iter()
        .map(String::as_str)
        .collect();
    (subscribe, unsubscribe, &request.response_nonce)
}

fn initial(request: &discovery::DeltaDiscoveryRequest) -> Vec<(&str, &str)> {
    let mut versions: Vec<_> = request
        .initial_resource_versions
        .iter()
        .map(|(name, version)| (name.as_str(), version.as_str()))
        .collect();
    versions.sort_unstable();
    versions
}

#[test]
fn s3_the_first_message_of_each_stream_carries_the_node() {
    let mut client = Client::new(DELTA);
    client.want_all(CLUSTER);
    client.want_all(LISTENER);
    for _ in 0..2 {
        client.reopen();
        let nodes: Vec<_> = client
            .delta()
            .into_iter()
            .map(|request| request.node.map(|node| node.id))
            .collect();
        assert_eq!(nodes, [Some(NODE.to_owned()), None]);
    }
}

#[test]
fn s6_a_wildcard_begins_without_names_and_ends_by_a_star() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want_all(CLUSTER);
    assert_eq!(said(&client.delta()[0]), (vec![], vec![], ""));
    client.want(CLUSTER, &["a"]);
    assert_eq!(said(&client.delta()[0]), (vec!["a"], vec!["*"], ""));
}

#[test]
fn s7_one_request_for_all_names_and_later_ones_for_changes_only() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.want(ENDPOINTS, &["a", "b", "c"]);
    let requests = client.delta();
    assert_eq!(
        (requests.len(), said(&requests[0])),
        (1, (vec!["a", "b", "c"], vec![], ""))
    );
    client.want(ENDPOINTS, &["b", "c", "d"]);
    assert_eq!(said(&client.delta()[0]), (vec!["d"], vec!["a"], ""));
    client.want(ENDPOINTS, &[]);
    assert_eq!(said(&client.delta()[0]), (vec![], vec!["b", "c", "d"], ""));
}

#[test]
fn s8_nothing_wanted_is_nothing_said() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &[]);
    assert!(client.delta().is_empty());
}

#[test]
fn s9_answers_and_changes_are_separate_messages() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.delta();
    client.receive(delta_response(ENDPOINTS, "n1", vec![assignment("a", "1")], &[]));
    client.want(ENDPOINTS, &["a", "b"]);
    assert_eq!(
        said(&client.delta()[0]),
        (vec!["b"], vec![], ""),
        "a change need not wait for a verdict"
    );
    client.want(ENDPOINTS, &["a", "b", "c"]);
    client.accept();
    let requests = client.delta();
    let said: Vec<_> = requests.iter().map(said).collect();
    assert_eq!(said, [(vec![], vec![], "n1"), (vec!["c"], vec![], "")]);
    assert!(requests[0].error_detail.is_none() && requests[0].initial_resource_versions.is_empty());
}

#[test]
fn s10_a_resource_that_nobody_asked_for_is_ignored_and_the_response_accepted() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.delta();
    client.receive(delta_response(
        ENDPOINTS,
        "n1",
        vec![assignment("zzz", "1")],
        &["yyy"],
    ));
    let update = client.accept();
    assert!(update.resources.is_empty() && update.removed.is_empty());
    assert!(client.delta()[0].error_detail.is_none());
    client.reopen();
    assert!(initial(&client.delta()[0]).is_empty());
}

#[test]
fn s11_unsubscribed_and_subscribed_again_before_anything_was_sent_still_reaches_the_server() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a", "b"]);
    client.delta();
    client.receive(delta_response(
        ENDPOINTS,
        "n1",
        vec![assignment("a", "1"), assignment("b", "1")],
        &[],
    ));
    client.accept();
    client.delta();
    client.want(ENDPOINTS, &["b"]);
    client.want(ENDPOINTS, &["a", "b"]);
    let requests = client.delta();
    let said: Vec<_> = requests.iter().map(said).collect();
    assert_eq!(said, [(vec![], vec!["a"], ""), (vec!["a"], vec![], "")]);
    client.receive(delta_response(ENDPOINTS, "n2", vec![assignment("a", "1")], &[]));
    assert_eq!(client.accept().names(), ["a"]);
}

#[test]
fn a3_a_rejected_resource_keeps_its_version_and_the_others_get_theirs() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want_all(CLUSTER);
    client.delta();
    client.receive(delta_response(CLUSTER, "n1", clusters(&["a", "b"], "1"), &[]));
    client.accept();
    client.receive(delta_response(
        CLUSTER,
        "n2",
        clusters(&["a", "b", "c"], "2"),
        &[],
    ));
    let update = client.update();
    client.judge(update, &[("a", "bad port"), ("c", "bad name")]);
    let requests = client.delta();
    assert_eq!(said(&requests[1]), (vec![], vec![], "n2"));
    let status = requests[1].error_detail.as_ref().unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (13, "a: bad port\nc: bad name")
    );
    client.reopen();
    assert_eq!(initial(&client.delta()[0]), [("a", "1"), ("b", "2")]);
}

#[test]
fn a4_a_name_among_resources_and_removals_is_refused() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want_all(CLUSTER);
    client.delta();
    client.receive(delta_response(CLUSTER, "n1", clusters(&["a"], "1"), &["a"]));
    assert_eq!(client.refusal(), "a: expected once in a response, found twice");
    let requests = client.delta();
    assert_eq!(said(&requests[0]), (vec![], vec![], "n1"));
    assert!(requests[0].error_detail.is_some());
}

#[test]
fn a5_a_resource_of_another_type_is_rejected_by_name() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want_all(CLUSTER);
    client.delta();
    let mut resources = clusters(&["a"], "1");
    resources.push(wrapper("r", "1", Some(routes("r")), None));
    client.receive(delta_response(CLUSTER, "n1", resources, &[]));
    assert_eq!(client.accept().names(), ["a"]);
    let message = &client.delta()[0].error_detail.as_ref().unwrap().message.clone();
    assert_eq!(
        *message,
        format!("r: expected type '{CLUSTER}', found '{ROUTES}'")
    );
}

#[test]
fn w6_removals_are_told_and_unknown_ones_are_not() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want_all(CLUSTER);
    client.delta();
    client.receive(delta_response(CLUSTER, "n1", clusters(&["a", "b"], "1"), &[]));
    client.accept();
    client.receive(delta_response(CLUSTER, "n2", vec![], &["a", "never-seen"]));
    assert_eq!(client.accept().removed(), ["a"]);
    client.reopen();
    assert_eq!(initial(&client.delta()[0]), [("b", "1")]);
}

#[test]
fn w7_a_removal_of_what_never_came_tells_at_once_that_it_does_not_exist() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.delta();
    client.receive(delta_response(ENDPOINTS, "n1", vec![], &["a"]));
    assert_eq!(client.accept().removed(), ["a"]);
    assert_eq!(client.session.next_deadline(), None, "nothing left to wait for");
    let status = client.session.status(ENDPOINTS).unwrap();
    assert_eq!(status.resources[0].state, ResourceState::DoesNotExist);
}

#[test]
fn w9_heartbeats_of_the_held_version_prolong_it() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.delta();
    client.receive(delta_response(
        ENDPOINTS,
        "n1",
        vec![wrapper("a", "1", Some(endpoints("a")), Some(5))],
        &[],
    ));
    client.accept();
    client.pass(Duration::from_secs(4));
    client.receive(delta_response(
        ENDPOINTS,
        "n2",
        vec![wrapper("a", "1", None, Some(5))],
        &[],
    ));
    assert!(client.accept().resources.is_empty());
    client.pass(Duration::from_secs(4));
    client.assert_no_event();
    client.receive(delta_response(
        ENDPOINTS,
        "n3",
        vec![wrapper("a", "2", None, Some(5))],
        &[],
    ));
    client.accept();
    assert_eq!(client.delta().len(), 3, "all of them are answered");
    client.session.on_stream_end();
    client.pass(Duration::from_secs(1));
    assert!(matches!(client.event(), Event::Expired { names, .. } if &*names[0] == "a"));
    client.open();
    assert!(initial(&client.delta()[0]).is_empty());
}

#[test]
fn f4_a_new_stream_lists_all_names_and_held_versions_once() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a", "c"]);
    client.delta();
    client.receive(delta_response(
        ENDPOINTS,
        "n1",
        vec![assignment("a", "e5"), assignment("c", "e2")],
        &[],
    ));
    client.accept();
    client.reopen();
    let requests = client.delta();
    assert_eq!(
        (requests.len(), said(&requests[0])),
        (1, (vec!["a", "c"], vec![], ""))
    );
    assert_eq!(initial(&requests[0]), [("a", "e5"), ("c", "e2")]);
    client.want(ENDPOINTS, &["a", "b", "c"]);
    let requests = client.delta();
    assert_eq!(
        (said(&requests[0]), initial(&requests[0])),
        ((vec!["b"], vec![], ""), vec![])
    );
}

#[test]
fn f4_what_vanished_while_away_is_removed_and_what_was_given_up_is_not_listed() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a", "b", "c"]);
    client.delta();
    let all = vec![assignment("a", "1"), assignment("b", "1"), assignment("c", "1")];
    client.receive(delta_response(ENDPOINTS, "n1", all, &[]));
    client.accept();
    client.session.on_stream_end();
    client.want(ENDPOINTS, &["a", "b"]);
    client.open();
    let requests = client.delta();
    assert_eq!(said(&requests[0]), (vec!["a", "b"], vec![], ""));
    assert_eq!(initial(&requests[0]), [("a", "1"), ("b", "1")]);
    client.receive(delta_response(ENDPOINTS, "n1", vec![], &["b"]));
    assert_eq!(client.accept().removed(), ["b"]);
}

#[test]
fn a_new_version_of_the_same_bytes_is_noted_but_not_delivered() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.delta();
    client.receive(delta_response(ENDPOINTS, "n1", vec![assignment("a", "1")], &[]));
    client.accept();
    client.receive(delta_response(ENDPOINTS, "n2", vec![assignment("a", "2")], &[]));
    assert!(client.accept().resources.is_empty());
    client.reopen();
    assert_eq!(initial(&client.delta()[0]), [("a", "2")]);
}

#[test]
fn a_resource_given_up_during_its_review_is_not_held() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &["a"]);
    client.delta();
    client.receive(delta_response(ENDPOINTS, "n1", vec![assignment("a", "1")], &[]));
    let update = client.update();
    client.want(ENDPOINTS, &[]);
    client.want(ENDPOINTS, &["a"]);
    client.judge(update, &[]);
    client.delta();
    client.receive(delta_response(ENDPOINTS, "n2", vec![assignment("a", "1")], &[]));
    assert_eq!(client.accept().names(), ["a"]);
}

#[test]
fn s6_a_wildcard_and_names_are_said_together() {
    let mut client = Client::new(DELTA);
    client.open();
    client.want(CLUSTER, &["*", "on-demand"]);
    assert_eq!(client.delta()[0].resource_names_subscribe, ["*", "on-demand"]);
    client.want_all(CLUSTER);
    assert_eq!(client.delta()[0].resource_names_unsubscribe, ["on-demand"]);
}

#[test]
fn n1_names_with_a_scheme_are_names_like_any_other() {
    let name = "xdstp://authority/envoy.config.endpoint.v3.ClusterLoadAssignment/a?x=1";
    let mut client = Client::new(DELTA);
    client.open();
    client.want(ENDPOINTS, &[name]);
    assert_eq!(client.delta()[0].resource_names_subscribe, [name]);
    client.receive(delta_response(
        ENDPOINTS,
        "n1",
        vec![wrapper(name, "1", Some(endpoints(name)), None)],
        &[],
    ));
    assert_eq!(client.accept().names(), [name]);
    assert_eq!(client.delta()[0].error_detail, None);
}
