//! Do README's map and the root manifest say what is there?

use std::collections::BTreeSet;
use std::path::Path;

/// The paths of a README's map: the first code block marked `text map`, one entry a line, folders end in `/`, children
/// are indented by two more spaces than their folder, and a name ends where two spaces or the line end. Several names of
/// one folder may share a line, parted by one space.
pub(crate) fn map(readme: &str) -> Vec<String> {
    let mut folders: Vec<String> = Vec::new();
    let mut paths = Vec::new();
    let block = readme
        .lines()
        .skip_while(|line| line.trim() != "```text map")
        .skip(1);
    for line in block.take_while(|line| line.trim() != "```") {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let names = line.trim_start().split("  ").next().unwrap_or("");
        folders.truncate(depth);
        for name in names.split(' ').filter(|name| !name.is_empty()) {
            paths.push(format!("{}{}", folders.concat(), name.trim_end_matches('/')));
        }
        folders.push(names.split(' ').next_back().unwrap_or("").to_owned());
    }
    paths
}

/// What a map gets wrong about the tree below `top`: entries that are not there, and names in the folders `whole` that
/// the map leaves out (`present` lists a folder's tracked names).
pub(crate) fn map_against_tree(
    paths: &[String],
    top: &Path,
    whole: &[(&str, BTreeSet<String>)],
) -> Vec<String> {
    let mut wrong: Vec<String> = paths
        .iter()
        .filter(|path| !top.join(path).exists())
        .map(|path| format!("README's map names {path}, which is not there"))
        .collect();
    if paths.is_empty() {
        wrong.push("README has no code block that begins with ```text map".to_owned());
    }
    for (folder, names) in whole {
        for name in names {
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            if !paths.contains(&path) {
                wrong.push(format!("{path} is missing from README's map"));
            }
        }
    }
    wrong
}

/// Dependencies of the root manifest that say no reason (a comment behind the line or on lines of their own above).
pub(crate) fn without_reason(manifest: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut above = false;
    for line in section(manifest, "workspace.dependencies") {
        let trimmed = line.trim();
        if trimmed.starts_with("# ---") || trimmed.is_empty() {
            above = false;
        } else if trimmed.starts_with('#') {
            above = true;
        } else if let Some((name, rest)) = trimmed.split_once('=') {
            let own = rest.contains("path =");
            let reason = rest
                .rsplit_once('#')
                .is_some_and(|(_, reason)| reason.split_whitespace().count() >= 2);
            if !own && !reason && !above {
                wrong.push(format!("{}: no reason beside it", name.trim()));
            }
            above = false;
        }
    }
    wrong
}

/// The package names of a manifest's section, as they stand in `use` paths.
pub(crate) fn dependencies(manifest: &str, name: &str) -> Vec<String> {
    section(manifest, name)
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// The lines of `[name]` in a manifest.
pub(crate) fn section<'a>(manifest: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let head = format!("[{name}]");
    manifest
        .lines()
        .skip_while(move |line| line.trim() != head)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
}
