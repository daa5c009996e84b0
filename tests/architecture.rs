//! The house keeps its shape: imports follow the table, files and functions stay short, the map matches the tree.
//!
//! Reads the sources themselves (`syn`), not their text. The tables are in `architecture/table.rs`; that the rules can
//! fail is shown on planted sources in `architecture/planted.rs`.

#[path = "architecture/documents.rs"]
mod documents;
#[path = "architecture/length.rs"]
mod length;
#[path = "architecture/mentions.rs"]
mod mentions;
#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/sources.rs"]
mod sources;
#[path = "architecture/surface.rs"]
mod surface;
#[path = "architecture/table.rs"]
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use mentions::Mentions;
use sources::{Source, repository};
use table::{MEMBERS, MODULES, NEVER_MEET};

/// Fails with every sentence, not with the first.
fn nothing_wrong(wrong: &[String]) -> Result<()> {
    ensure!(
        wrong.is_empty(),
        "{} found:\n  {}",
        wrong.len(),
        wrong.join("\n  ")
    );
    Ok(())
}

fn read(source: &Source) -> Result<Mentions> {
    mentions::of_text(&source.text, &source.module, source.test)
        .with_context(|| source.file.display().to_string())
}

/// Applies a rule to every file, and puts the file before each sentence.
fn in_files(sources: &[Source], rule: impl Fn(&Source, &Mentions) -> Vec<String>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for source in sources {
        let found = rule(source, &read(source)?);
        wrong.extend(
            found
                .into_iter()
                .map(|sentence| format!("{}: {sentence}", source.file.display())),
        );
    }
    Ok(wrong)
}

/// The module of `proxy/src` that a file belongs to; none for `lib.rs`.
fn top(source: &Source) -> Option<&str> {
    source.module.first().map(String::as_str)
}

fn proxy() -> Result<Vec<Source>> {
    sources::of_crate("proxy/src/lib.rs")
}

fn manifest(folder: &str) -> Result<String> {
    std::fs::read_to_string(repository().join(folder).join("Cargo.toml")).with_context(|| folder.to_owned())
}

#[test]
fn members_name_only_what_the_table_allows() -> Result<()> {
    let mut wrong = Vec::new();
    for member in MEMBERS {
        let mut sources = sources::of_crate(&format!("{}/src/lib.rs", member.folder))?;
        if member.folder == "proxy" {
            sources.extend(sources::of_crate("proxy/src/main.rs")?);
        }
        wrong.extend(in_files(&sources, |_, mentions| {
            rules::member(member, MEMBERS, mentions)
        })?);
    }
    nothing_wrong(&wrong)
}

#[test]
fn manifests_depend_only_on_what_the_table_allows() -> Result<()> {
    let mut wrong = Vec::new();
    for member in MEMBERS {
        for name in documents::dependencies(&manifest(member.folder)?, "dependencies") {
            let other = MEMBERS.iter().any(|other| other.name == name);
            if member.never.contains(&name.as_str()) || (other && !member.may_name.contains(&name.as_str())) {
                wrong.push(format!("{}/Cargo.toml depends on {name}", member.folder));
            }
        }
    }
    nothing_wrong(&wrong)
}

#[test]
fn the_model_knows_no_clock_no_socket_and_no_global_generator() -> Result<()> {
    let sources = sources::of_crate("proxy/model/src/lib.rs")?;
    nothing_wrong(&in_files(&sources, |_, mentions| rules::model(mentions))?)
}

#[test]
fn modules_of_the_proxy_name_only_what_the_table_allows() -> Result<()> {
    nothing_wrong(&in_files(&proxy()?, |source, mentions| match top(source) {
        Some(own) => rules::modules(own, mentions),
        None => Vec::new(),
    })?)
}

#[test]
fn every_line_of_the_table_is_in_use() -> Result<()> {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let sources = proxy()?;
    for source in &sources {
        let names = used
            .entry(top(source).unwrap_or_default().to_owned())
            .or_default();
        names.extend(rules::used(&read(source)?).map(str::to_owned));
    }
    let mut wrong = Vec::new();
    for module in MODULES {
        match used.get(module.name) {
            None => wrong.push(format!(
                "MODULES has {}, which is no module of proxy/src",
                module.name
            )),
            Some(names) => {
                let unused = module.may_name.iter().filter(|edge| !names.contains(edge.to));
                wrong.extend(unused.map(|edge| {
                    format!(
                        "{} names {} no more ({}): take the line out",
                        module.name, edge.to, edge.reason
                    )
                }));
            }
        }
    }
    nothing_wrong(&wrong)
}

#[test]
fn what_may_never_meet_is_not_in_the_table_either() {
    for (one, other) in NEVER_MEET {
        for module in MODULES
            .iter()
            .filter(|module| module.name == *one || module.name == *other)
        {
            let to = if module.name == *one { other } else { one };
            assert!(
                !module.may_name.iter().any(|edge| edge.to == *to),
                "{} and {to} may never meet",
                module.name
            );
        }
    }
}

#[test]
fn packages_are_named_only_where_the_table_says() -> Result<()> {
    let mut wrong = in_files(&proxy()?, |source, mentions| {
        rules::packages(top(source).unwrap_or("lib"), mentions)
    })?;
    let main = sources::of_crate("proxy/src/main.rs")?;
    wrong.extend(in_files(&main, |_, mentions| rules::packages("main", mentions))?);
    nothing_wrong(&wrong)
}

#[test]
fn only_workers_and_the_program_choose_a_runtime() -> Result<()> {
    let mut sources = proxy()?;
    sources.extend(sources::of_crate("xds-client/src/lib.rs")?);
    let wrong = in_files(&sources, |source, mentions| {
        rules::runtime(top(source).unwrap_or("lib"), mentions)
    })?;
    nothing_wrong(&wrong)
}

#[test]
fn every_file_is_part_of_its_crate() -> Result<()> {
    let mut wrong = Vec::new();
    for member in MEMBERS {
        let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
        for root in ["src/lib.rs", "src/main.rs"] {
            let root = format!("{}/{root}", member.folder);
            if repository().join(&root).is_file() {
                reached.extend(sources::of_crate(&root)?.into_iter().map(|source| source.file));
            }
        }
        let found = sources::below(&format!("{}/src", member.folder))?;
        let lost = found.into_iter().filter(|file| !reached.contains(file));
        wrong.extend(lost.map(|file| format!("{}: no `mod` declares it", file.display())));
    }
    nothing_wrong(&wrong)
}

#[test]
fn files_and_functions_are_short() -> Result<()> {
    let mut wrong = Vec::new();
    for file in sources::below("")? {
        let text = std::fs::read_to_string(repository().join(&file))?;
        let lengths = length::of_text(&text).with_context(|| file.display().to_string())?;
        let name = file.display();
        if lengths.file > length::FILE {
            wrong.push(format!(
                "{name}: {} lines of code, {} at most",
                lengths.file,
                length::FILE
            ));
        }
        for function in lengths
            .functions
            .iter()
            .filter(|function| function.lines > length::FUNCTION)
        {
            let (line, lines) = (function.line, function.lines);
            wrong.push(format!(
                "{name}:{line}: fn {} has {lines} lines, {} at most",
                function.name,
                length::FUNCTION
            ));
        }
    }
    nothing_wrong(&wrong)
}

#[test]
fn no_member_opts_out_of_the_lints() -> Result<()> {
    let root = manifest("")?;
    ensure!(
        root.contains("unsafe_code = \"forbid\""),
        "the workspace forbids no unsafe code"
    );
    let members = MEMBERS.iter().map(|member| member.folder).chain(["tests"]);
    for folder in members {
        let text = manifest(folder)?;
        let lints: Vec<&str> = documents::section(&text, "lints")
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        ensure!(
            lints == ["workspace = true"],
            "{folder}/Cargo.toml: [lints] must be `workspace = true`: {lints:?}"
        );
    }
    Ok(())
}

#[test]
fn every_dependency_has_its_version_and_reason_in_the_root_manifest() -> Result<()> {
    let mut wrong = documents::without_reason(&manifest("")?);
    for folder in MEMBERS.iter().map(|member| member.folder).chain(["tests"]) {
        let text = manifest(folder)?;
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let elsewhere = documents::section(&text, kind)
                .filter(|line| line.contains("version =") || line.contains("= \""))
                .map(|line| format!("{folder}/Cargo.toml: {line}: versions stand in the root manifest"));
            wrong.extend(elsewhere);
        }
    }
    nothing_wrong(&wrong)
}

#[test]
fn the_map_of_the_readme_matches_the_tree() -> Result<()> {
    let readme = std::fs::read_to_string(repository().join("README.md")).context("README.md")?;
    let mut whole = Vec::new();
    for folder in [
        "",
        "proxy",
        "proxy/src",
        "proxy/model/src",
        "proxy/translate/src",
        "tests",
        "deploy",
    ] {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(repository().join(folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let here = entry.file_type()?.is_dir() && !matches!(name.as_str(), "target" | "__pycache__");
            if here && !name.starts_with('.') && holds_a_file(&entry.path())? {
                names.insert(name);
            }
        }
        whole.push((folder, names));
    }
    nothing_wrong(&documents::map_against_tree(
        &documents::map(&readme),
        &repository(),
        &whole,
    ))
}

/// Git keeps no empty folders, so neither does the map.
fn holds_a_file(folder: &std::path::Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || holds_a_file(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn every_promise_is_honoured_and_has_its_tests() -> Result<()> {
    let repository = repository();
    let read = |path: &str| std::fs::read_to_string(repository.join(path)).with_context(|| path.to_owned());
    let (promises, mut wrong) = surface::promises(&read("tests/scenario/ROWS.md")?);
    ensure!(promises.len() > 70, "only {} promises", promises.len());
    let verdicts = surface::verdicts(&read("proxy/translate/FIELDS.md")?);
    for promise in &promises {
        wrong.extend(surface::fields(promise, &verdicts));
        wrong.extend(surface::tests(promise, &repository));
    }
    nothing_wrong(&wrong)
}
