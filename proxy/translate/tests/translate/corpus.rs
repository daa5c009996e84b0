//! Configurations of other projects' control planes: our verdict on each is Envoy's, or stands among the exceptions.
//!
//! An exception is an item (a line with its name) or a class: a sentence of ours that says what is not supported (a
//! line that begins with `~`). Two classes need no line: whoever is refused because of an extension is told its type,
//! and a file that is on one machine only says nothing about us. Another folder of the same form: `REMORA_CORPORA=DIR`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use remora_translate::bootstrap::{Bootstrap, Input, StaticResource, load};
use remora_translate::{Context, LocalFiles, Rejection, Subscription, SubscriptionKind, UnknownFields};

use crate::world::{World, with_pool};

/// Reviewed differences: `item | reason` or `~ sentence | reason`, one a line.
const EXCEPTIONS: &str = include_str!("../corpus_exceptions.txt");
/// What Envoy says of files and directories that its machine does not have.
const MACHINE: [&str; 5] = [
    "unable to add filesystem watch",
    "cannot open shared object file",
    "unable to open file",
    "unable to read file",
    "must refer to an existing path",
];

fn corpora() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("REMORA_CORPORA") {
        return Some(folder.into());
    }
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

/// The reviewed exceptions: items, and sentences that name a class.
struct Exceptions {
    items: BTreeMap<&'static str, &'static str>,
    classes: Vec<&'static str>,
}

impl Exceptions {
    fn read() -> Self {
        let lines = EXCEPTIONS
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_once(" | ").expect("item | reason"));
        let (classes, items): (Vec<_>, Vec<_>) = lines.partition(|(what, _)| what.starts_with('~'));
        Self {
            items: items.into_iter().collect(),
            classes: classes
                .into_iter()
                .map(|(what, _)| what.trim_start_matches("~ "))
                .collect(),
        }
    }

    /// Whether a problem of ours is one of a class.
    fn excuse(&self, problem: &str) -> bool {
        let unsupported = problem.split_once("is not supported: ").map(|(_, what)| what);
        unsupported.is_some_and(names_a_type)
            || self.classes.iter().any(|class| problem.contains(class))
            || problem.contains("expected the type URL of a known message")
            || problem.contains(" cannot be read: ")
            || problem.ends_with(" is not set")
    }
}

/// `... of type envoy.extensions.filters.http.wasm.v3.Wasm`.
fn names_a_type(what: &str) -> bool {
    what.split_once(" of type ")
        .is_some_and(|(_, kind)| kind.split('.').count() > 2)
}

/// Everything that is wrong with a bootstrap and its resources.
fn verdict(text: &str) -> Result<(), Vec<String>> {
    let input = Input {
        inline: Some(text),
        unknown_fields: UnknownFields::Refuse,
        ..Input::default()
    };
    let bootstrap = with_pool(|pool| load(pool, &input))
        .map_err(|refused| refused.0)?
        .bootstrap;
    let wrong = resources(&bootstrap);
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn resources(bootstrap: &Bootstrap) -> Vec<String> {
    let mut world = World::default();
    let mut wrong = Vec::new();
    let (mut secrets, mut of_secrets) = (Vec::new(), Vec::new());
    for secret in &bootstrap.secrets {
        match remora_translate::secret(&secret.bytes, &mut on_this_machine(&mut world)) {
            Ok(_) => secrets.push(&*secret.name),
            Err(rejection) => note(&mut of_secrets, secret, &rejection),
        }
    }
    let mut missing_secret = |wrong: &mut Vec<String>, needs: &[Subscription]| {
        let of_bootstrap = needs
            .iter()
            .filter(|need| need.kind == SubscriptionKind::Secret && need.source.is_none());
        for need in of_bootstrap.filter(|need| !secrets.contains(&&*need.name)) {
            wrong.append(&mut of_secrets);
            wrong.push(format!("Unknown static secret: {}", need.name));
        }
    };
    for cluster in &bootstrap.clusters {
        match remora_translate::cluster(&cluster.bytes, &mut on_this_machine(&mut world)) {
            Ok(translated) => missing_secret(&mut wrong, &translated.subscriptions),
            Err(rejection) => note(&mut wrong, cluster, &rejection),
        }
    }
    for listener in &bootstrap.listeners {
        match remora_translate::listener(&listener.bytes, &mut on_this_machine(&mut world)) {
            Ok(translated) => {
                missing_secret(&mut wrong, &translated.subscriptions);
                let unknown = translated.expected_clusters.iter().filter(|expected| {
                    !bootstrap
                        .clusters
                        .iter()
                        .any(|cluster| cluster.name == expected.name)
                });
                wrong.extend(unknown.map(|expected| expected.problem.to_string()));
            }
            Err(rejection) => note(&mut wrong, listener, &rejection),
        }
    }
    wrong
}

fn note(wrong: &mut Vec<String>, resource: &StaticResource, rejection: &Rejection) {
    let of = |problem: &remora_translate::Problem| format!("{}.{problem}", resource.place);
    wrong.extend(rejection.problems.iter().map(of));
}

/// The context of a world that reads the files of this machine.
fn on_this_machine(world: &mut World) -> Context<'_> {
    Context {
        files: &LocalFiles,
        ..world.context()
    }
}

#[test]
fn our_verdict_on_the_corpora_is_envoys_or_a_reviewed_exception() {
    let Some(folder) = corpora() else {
        let said = b"SKIPPED: verdicts on corpora: other projects' configurations are not on this machine\n";
        std::io::stderr().write_all(said).unwrap();
        return;
    };
    let mut exceptions = Exceptions::read();
    let (mut equal, mut by_class, mut differences) = (0, 0, Vec::new());
    let found = items(&folder);
    for (name, path) in &found {
        let item: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let ours = verdict(&item["bootstrap"].to_string());
        let theirs = item["envoy"]["message"].as_str().unwrap_or("accepted");
        let (same, excused) = match (item["envoy"]["accepted"].as_bool(), &ours) {
            (None, _) => (true, false), // Envoy itself crashed: any verdict will do, as long as we have one.
            (Some(true), Ok(())) | (Some(false), Err(_)) => (true, false),
            (Some(true), Err(problems)) => (false, problems.iter().all(|problem| exceptions.excuse(problem))),
            (Some(false), Ok(())) => (false, MACHINE.iter().any(|sentence| theirs.contains(sentence))),
        };
        match (same, exceptions.items.remove(name.as_str())) {
            (true, None) => equal += 1,
            (true, Some(_)) => differences.push(format!("{name}\n   is listed as an exception and is none")),
            (false, Some(_)) => {}
            (false, None) if excused => by_class += 1,
            (false, None) => {
                let ours = ours.err().unwrap_or_default();
                differences.push(format!("{name}\n   Envoy: {theirs}\n   ours: {ours:#?}"));
            }
        }
    }
    for name in exceptions.items.keys() {
        differences.push(format!("{name}\n   is listed as an exception and is not there"));
    }
    let said = format!(
        "{equal} of {} verdicts are Envoy's, {by_class} differ by class\n",
        found.len()
    );
    std::io::stderr().write_all(said.as_bytes()).unwrap();
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// A class that no sentence of ours can meet any more is stale, whichever items are on this machine.
#[test]
fn every_class_of_exceptions_is_a_sentence_that_the_translation_has() {
    let mut sources = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                sources.push_str(&std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    for class in Exceptions::read().classes {
        assert!(
            sources.contains(class),
            "'{class}' is listed as a class of exceptions and is not there"
        );
    }
}
