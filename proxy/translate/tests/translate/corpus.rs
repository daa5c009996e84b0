//! Configurations of other projects' control planes: our verdict on each is Envoy's, or stands among the exceptions.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use prost::Message;
use remora_translate::Rejection;

use crate::world::{World, bootstrap, broken_rules};

/// Reviewed differences: `item | reason`, one a line.
const EXCEPTIONS: &str = include_str!("../corpus_exceptions.txt");

fn corpora() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .map(|folder| folder.join("shared/corpora"))
        .find(|folder| folder.is_dir())
}

fn items(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for part in std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|part| part.path().is_dir())
    {
        for item in std::fs::read_dir(part.path()).unwrap().flatten() {
            let name = format!(
                "{}/{}",
                part.file_name().to_string_lossy(),
                item.file_name().to_string_lossy()
            );
            found.push((name, item.path()));
        }
    }
    found.sort();
    found
}

fn exceptions() -> BTreeMap<&'static str, &'static str> {
    let lines = EXCEPTIONS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(" | ").expect("item | reason"))
        .collect()
}

/// Everything that is wrong with the resources of a bootstrap.
fn verdict(text: &str) -> Result<(), String> {
    let said = bootstrap(text)?;
    let resources = said.static_resources.unwrap_or_default();
    let mut world = World::default();
    let mut wrong = Vec::new();
    let mut note = |kind: &str, bytes: &[u8], rejection: Option<Rejection>| {
        wrong.extend(broken_rules(kind, bytes));
        wrong.extend(rejection.map(|rejection| rejection.to_string()));
    };
    for secret in resources.secrets {
        let bytes = secret.encode_to_vec();
        let kind = "envoy.extensions.transport_sockets.tls.v3.Secret";
        note(
            kind,
            &bytes,
            remora_translate::secret(&bytes, &mut world.context()).err(),
        );
    }
    for cluster in resources.clusters {
        let bytes = cluster.encode_to_vec();
        let kind = "envoy.config.cluster.v3.Cluster";
        note(
            kind,
            &bytes,
            remora_translate::cluster(&bytes, &mut world.context()).err(),
        );
    }
    for listener in resources.listeners {
        let bytes = listener.encode_to_vec();
        let kind = "envoy.config.listener.v3.Listener";
        note(
            kind,
            &bytes,
            remora_translate::listener(&bytes, &mut world.context()).err(),
        );
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n      "))
    }
}

#[test]
fn our_verdict_on_the_corpora_is_envoys_or_a_reviewed_exception() {
    let Some(folder) = corpora() else {
        let said = b"SKIPPED: verdicts on corpora: other projects' configurations are not on this machine\n";
        std::io::stderr().write_all(said).unwrap();
        return;
    };
    let mut exceptions = exceptions();
    let (mut equal, mut differences) = (0, Vec::new());
    for (name, path) in items(&folder) {
        let item: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let ours = verdict(&item["bootstrap"].to_string());
        let same = match item["envoy"]["accepted"].as_bool() {
            Some(accepted) => accepted == ours.is_ok(),
            None => true, // Envoy itself crashed: any verdict will do, as long as we have one.
        };
        match (same, exceptions.remove(name.as_str())) {
            (true, None) => equal += 1,
            (true, Some(_)) => differences.push(format!("{name}\n   is listed as an exception and is none")),
            (false, Some(_)) => {}
            (false, None) => {
                let theirs = item["envoy"]["message"].as_str().unwrap_or("accepted");
                differences.push(format!("{name}\n   Envoy: {theirs}\n   ours: {ours:?}"));
            }
        }
    }
    for name in exceptions.keys() {
        differences.push(format!("{name}\n   is listed as an exception and is not there"));
    }
    eprintln!("{equal} verdicts are Envoy's");
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
