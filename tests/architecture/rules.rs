//! Holds what files name to the tables of `table.rs`. Each rule is a function from mentions to sentences about what is
//! wrong, so that the planted violations of `planted.rs` meet the same code as the tree.

use std::collections::HashSet;

use crate::mentions::{Mention, Mentions};
use crate::table::{
    MODEL_NEVER, MODEL_NEVER_METHODS, MODEL_RANDOM, MODULES, Member, PACKAGES, RUNTIME, RUNTIME_MAY,
};

/// What production code names; tests may name what they like.
fn production(mentions: &Mentions) -> impl Iterator<Item = &Mention> {
    mentions.paths.iter().filter(|mention| !mention.test)
}

/// A member names other members and packages only as its line in the table says.
pub(crate) fn member(member: &Member, members: &[Member], mentions: &Mentions) -> Vec<String> {
    let mut wrong = Vec::new();
    for mention in production(mentions) {
        let (text, line) = (mention.text(), mention.line);
        let Some(first) = mention.path.first() else {
            continue;
        };
        if member.never.contains(&first.as_str()) {
            wrong.push(format!(
                "line {line}: {text}: {} never sees {first}",
                member.folder
            ));
        } else if members
            .iter()
            .any(|other| other.name == first && other.name != member.name)
            && !member.may_name.contains(&first.as_str())
        {
            wrong.push(format!(
                "line {line}: {text}: {} may name {:?} only",
                member.folder, member.may_name
            ));
        }
    }
    wrong
}

/// The model names no clock, no socket, no global generator.
pub(crate) fn model(mentions: &Mentions) -> Vec<String> {
    let mut wrong = Vec::new();
    for mention in production(mentions) {
        let (text, line) = (mention.text(), mention.line);
        for (never, reason) in MODEL_NEVER {
            if mention.names(never) {
                wrong.push(format!("line {line}: {text}: {reason}"));
            }
        }
        let random = mention.names("fastrand") && mention.path.len() > 1;
        if random
            && !MODEL_RANDOM
                .iter()
                .any(|allowed| text == *allowed || text.starts_with(&format!("{allowed}::")))
        {
            wrong.push(format!(
                "line {line}: {text}: draws from a global generator; `rng` is an argument"
            ));
        }
    }
    for (method, line) in &mentions.methods {
        for (never, reason) in MODEL_NEVER_METHODS {
            if method == never {
                wrong.push(format!("line {line}: .{method}(): reads a clock; {reason}"));
            }
        }
    }
    wrong
}

/// A module of `proxy/src` names only the modules that its line in the table allows; the first place of each is told.
/// `own` is the module's name.
pub(crate) fn modules(own: &str, mentions: &Mentions) -> Vec<String> {
    let Some(module) = MODULES.iter().find(|module| module.name == own) else {
        return vec![format!(
            "module {own} has no line in MODULES of tests/architecture/table.rs"
        )];
    };
    let mut wrong = Vec::new();
    let mut told = HashSet::new();
    for mention in
        production(mentions).filter(|mention| mention.path.first().is_some_and(|first| first == "crate"))
    {
        let (text, line) = (mention.text(), mention.line);
        let Some(to) = mention.path.get(1) else { continue };
        if to == own || module.may_name.iter().any(|edge| edge.to == to) || !told.insert(to) {
            continue;
        }
        let known = MODULES.iter().any(|module| module.name == to);
        wrong.push(if known {
            format!("line {line}: {text}: {own} may not name {to} (tests/architecture/table.rs)")
        } else {
            format!("line {line}: {text}: no module {to} in MODULES of tests/architecture/table.rs")
        });
    }
    wrong
}

/// Other people's packages are named only where the table says; the first place of each is told.
pub(crate) fn packages(own: &str, mentions: &Mentions) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut told = HashSet::new();
    for mention in production(mentions) {
        for (package, may, reason) in PACKAGES {
            if mention.names(package) && !may.contains(&own) && told.insert(package) {
                let (text, line) = (mention.text(), mention.line);
                wrong.push(format!(
                    "line {line}: {text}: only {may:?} may name {package}: {reason}"
                ));
            }
        }
    }
    wrong
}

/// Only the workers and the program choose a runtime.
pub(crate) fn runtime(own: &str, mentions: &Mentions) -> Vec<String> {
    if RUNTIME_MAY.contains(&own) {
        return Vec::new();
    }
    production(mentions)
        .filter(|mention| RUNTIME.iter().any(|rule| mention.names(rule)))
        .map(|mention| {
            format!(
                "line {}: {}: only {RUNTIME_MAY:?} may name a runtime",
                mention.line,
                mention.text()
            )
        })
        .collect()
}

/// The modules of `proxy/src` that production code of these mentions names, for finding lines that nobody uses.
pub(crate) fn used(mentions: &Mentions) -> impl Iterator<Item = &str> {
    production(mentions)
        .filter(|mention| mention.path.first().is_some_and(|first| first == "crate"))
        .filter_map(|mention| mention.path.get(1).map(String::as_str))
}
