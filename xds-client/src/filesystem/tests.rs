//! Files in a scratch folder, replaced by rename.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;

use super::*;
use crate::resource_type::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT};
use crate::update::{Interest, Rejection, Update};

/// A file that says one name per line, in place of YAML.
fn parse(type_url: &'static str) -> impl Fn(&Path, &[u8]) -> Result<Bytes, String> {
    move |path, content| {
        let text = std::str::from_utf8(content).map_err(|error| format!("{}: {error}", path.display()))?;
        let resource = |name: &str| Any {
            type_url: type_url.into(),
            value: Cluster {
                name: name.into(),
                ..Cluster::default()
            }
            .encode_to_vec(),
        };
        let resources = text.lines().map(resource).collect();
        Ok(DiscoveryResponse {
            resources,
            ..DiscoveryResponse::default()
        }
        .encode_to_vec()
        .into())
    }
}

fn follow(type_url: &'static str, path: &Path) -> (Handle, mpsc::Receiver<Event>) {
    let config = FileConfig {
        type_url: type_url.into(),
        path: path.to_owned(),
        watched_directory: None,
        fetch_timeout: None,
    };
    spawn(config, parse(type_url))
}

fn replace(path: &Path, content: &[u8]) {
    let next = path.with_extension("next");
    std::fs::write(&next, content).unwrap();
    std::fs::rename(next, path).unwrap();
}

async fn next(events: &mut mpsc::Receiver<Event>) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(30), events.recv());
    event.await.expect("an event in time").expect("a running source")
}

async fn update(events: &mut mpsc::Receiver<Event>) -> Update {
    match next(events).await {
        Event::Update(update) => update,
        other => panic!("expected an update, found {other:?}"),
    }
}

fn names(update: &Update) -> Vec<&str> {
    update.resources.iter().map(|resource| &*resource.name).collect()
}

#[tokio::test]
async fn a_file_is_read_and_read_again_when_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cds.txt");
    replace(&path, b"a\nb");
    let (handle, mut events) = follow(CLUSTER, &path);
    handle.want(CLUSTER, Interest::Wildcard);
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    let first = update(&mut events).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first.version.len(), 16, "a file without a version gets one");
    handle.verdict(first.response, Vec::new());
    replace(&path, b"b\nc");
    let second = update(&mut events).await;
    assert_eq!((names(&second), &*second.removed[0]), (vec!["c"], "a"));
    handle.verdict(second.response, vec![Rejection::new("c", "no")]);
    let status = handle.status(CLUSTER).unwrap();
    assert_eq!((status.accepted, status.rejected), (1, 1));
    assert_eq!(status.last_rejected.unwrap().rejections[0].reason, "no");
}

#[tokio::test]
async fn names_wanted_later_come_from_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eds.txt");
    replace(&path, b"a\nb\nc");
    let (handle, mut events) = follow(CLUSTER_LOAD_ASSIGNMENT, &path);
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    handle.want(CLUSTER_LOAD_ASSIGNMENT, Interest::names(["a"]));
    let first = update(&mut events).await;
    assert_eq!(names(&first), ["a"]);
    handle.want(CLUSTER_LOAD_ASSIGNMENT, Interest::names(["a", "c"]));
    handle.verdict(first.response, Vec::new());
    let second = update(&mut events).await;
    assert_eq!(names(&second), ["c"]);
    handle.verdict(second.response, Vec::new());
}

#[tokio::test]
async fn what_cannot_be_read_or_parsed_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cds.txt");
    let (handle, mut events) = follow(CLUSTER, &path);
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    handle.want(CLUSTER, Interest::Wildcard);
    assert!(
        matches!(next(&mut events).await, Event::Refused { reason, .. } if reason.contains("cds.txt: No such file"))
    );
    replace(&path, b"a");
    let first = update(&mut events).await;
    handle.verdict(first.response, Vec::new());
    replace(&path, b"\xff");
    assert!(
        matches!(next(&mut events).await, Event::Refused { reason, .. } if reason.contains("invalid utf-8"))
    );
    assert_eq!(handle.status(CLUSTER).unwrap().resources.len(), 1);
    replace(&path, b"a\nb");
    assert_eq!(names(&update(&mut events).await), ["b"]);
}

#[tokio::test]
async fn a_mounted_configuration_switches_by_a_symbolic_link_in_the_watched_directory() {
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, content: &[u8]| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("cds.txt"), content).unwrap();
        std::os::unix::fs::symlink(name, folder.path().join("..next")).unwrap();
        std::fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    };
    version("..1", b"a");
    let config = FileConfig {
        type_url: CLUSTER.into(),
        path: folder.path().join("..data").join("cds.txt"),
        watched_directory: Some(folder.path().to_owned()),
        fetch_timeout: None,
    };
    let (handle, mut events) = spawn(config, parse(CLUSTER));
    handle.want(CLUSTER, Interest::Wildcard);
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    let first = update(&mut events).await;
    handle.verdict(first.response, Vec::new());
    version("..2", b"b");
    let second = update(&mut events).await;
    assert_eq!((names(&second), &*second.removed[0]), (vec!["b"], "a"));
    handle.verdict(second.response, Vec::new());
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("xds");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("cds.txt");
    replace(&path, b"a");
    let (handle, mut events) = follow(CLUSTER, &path);
    handle.want(CLUSTER, Interest::Wildcard);
    assert!(matches!(next(&mut events).await, Event::Connected { .. }));
    let first = update(&mut events).await;
    handle.verdict(first.response, Vec::new());
    std::fs::rename(&directory, folder.path().join("old")).unwrap();
    std::fs::create_dir(&directory).unwrap();
    replace(&path, b"b");
    assert_eq!(names(&update(&mut events).await), ["b"]);
}
