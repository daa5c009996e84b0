//! Bootstraps that real control planes write are read, kept through JSON and back, and judged by their field rules as
//! Envoy judged them. The collection lies beside the repository; without it the tests say so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud what it skips"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use remora_proto::pb::envoy::config::bootstrap::v3::Bootstrap;
use remora_proto::{Pool, ReadOptions, Redaction, WriteOptions};

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

struct Item {
    name: String,
    text: String,
    envoy_accepts: Option<bool>,
    envoy_says: String,
}

fn items(folder: &str) -> Option<Vec<Item>> {
    let beside = |dir: &Path| dir.join("shared/corpora").join(folder);
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let Some(folder) = repository
        .ancestors()
        .skip(1)
        .map(beside)
        .find(|dir| dir.is_dir())
    else {
        let said = format!("SKIPPED: corpora: no folder shared/corpora/{folder} beside the repository\n");
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return None;
    };
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let mut items: Vec<Item> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| item(&path))
        .collect();
    items.sort_by(|left, right| left.name.cmp(&right.name));
    assert!(!items.is_empty(), "{} is empty", folder.display());
    Some(items)
}

fn item(path: &Path) -> Item {
    let item: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    Item {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        text: serde_json::to_string_pretty(&item["bootstrap"]).unwrap(),
        envoy_accepts: item["envoy"]["accepted"].as_bool(),
        envoy_says: item["envoy"]["message"].as_str().unwrap_or_default().to_owned(),
    }
}

fn every_item(check: impl Fn(&Pool, &Item) -> Result<(), String>) {
    let pool = Pool::load().unwrap();
    let mut failures = Vec::new();
    for item in ["istio-bootstrap", "kuma"]
        .into_iter()
        .filter_map(items)
        .flatten()
    {
        if let Err(reason) = check(&pool, &item) {
            failures.push(format!(
                "{}: {reason}\n  (Envoy: {:?} {})",
                item.name, item.envoy_accepts, item.envoy_says
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} items:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_bootstrap_is_read() {
    every_item(
        |pool, item| match pool.read(&item.text, BOOTSTRAP, ReadOptions::default()) {
            Ok(document) => document
                .decode::<Bootstrap>()
                .map(|_| ())
                .map_err(|error| error.to_string()),
            Err(problems) => Err(problems.to_string()),
        },
    );
}

#[test]
fn every_bootstrap_survives_json_and_back() {
    every_item(|pool, item| {
        let document = pool
            .read(&item.text, BOOTSTRAP, ReadOptions::default())
            .map_err(|error| error.to_string())?;
        let options = WriteOptions {
            redaction: Redaction::Nothing,
        };
        let shown = pool.write(&document.bytes, BOOTSTRAP, options).unwrap();
        let again = pool
            .read(&shown.to_string(), BOOTSTRAP, ReadOptions::default())
            .map_err(|error| error.to_string())?;
        if again.bytes == document.bytes {
            Ok(())
        } else {
            Err("differs after the way through JSON".into())
        }
    });
}

#[test]
fn fields_have_places_in_the_text() {
    every_item(|pool, item| {
        let document = pool
            .read(&item.text, BOOTSTRAP, ReadOptions::default())
            .map_err(|error| error.to_string())?;
        match document.locate("static_resources.clusters[0].name") {
            Some(place) if place.line > 1 => Ok(()),
            None if !item.text.contains("\"clusters\"") => Ok(()),
            place => Err(format!("{place:?}")),
        }
    });
}

#[test]
fn field_rules_hold_where_envoy_says_so() {
    every_item(|pool, item| {
        let document = pool
            .read(&item.text, BOOTSTRAP, ReadOptions::default())
            .map_err(|error| error.to_string())?;
        let problems = pool.validate(&document.bytes, BOOTSTRAP).unwrap();
        match item.envoy_accepts {
            Some(true) if !problems.is_empty() => Err(problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n  ")),
            _ => Ok(()),
        }
    });
}
