//! Does every row of `scenario/ROWS.md` hold: are its fields reported as it says, and are its tests there?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A line of one of its tables.
pub(crate) struct Promise {
    pub(crate) what: String,
    /// Message, field, verdict.
    pub(crate) fields: Vec<(String, String, String)>,
    /// What shows it: a file and what is in it.
    pub(crate) shown: Vec<(String, Shown)>,
}

/// What shows a promise.
#[derive(Debug)]
pub(crate) enum Shown {
    /// A test function, or a function that makes rows.
    Function(String),
    /// A row of a table of requests.
    Row(String),
}

/// The rows of the document; a sentence for each line of a table that cannot be read.
pub(crate) fn promises(document: &str) -> (Vec<Promise>, Vec<String>) {
    let (mut all, mut wrong) = (Vec::new(), Vec::new());
    for line in document.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        match cells.as_slice() {
            ["what", ..] | ["---", ..] => {}
            [what, fields, shown] => match promise(what, fields, shown) {
                Some(promise) => all.push(promise),
                None => wrong.push(format!("'{what}' cannot be read")),
            },
            _ => wrong.push(format!("not three cells: {line}")),
        }
    }
    (all, wrong)
}

fn promise(what: &str, fields: &str, shown: &str) -> Option<Promise> {
    let mut named = Vec::new();
    for part in fields.split("; ").filter(|part| *part != "-") {
        let (message, list) = part.split_once(": ")?;
        let message = message.strip_prefix('`')?.strip_suffix('`')?;
        for field in list.split(", ") {
            let (name, verdict) = field.strip_prefix('`')?.split_once('`')?;
            let verdict = verdict.trim().trim_start_matches('(').trim_end_matches(')');
            let verdict = if verdict.is_empty() { "honoured" } else { verdict };
            named.push((message.to_owned(), name.to_owned(), verdict.to_owned()));
        }
    }
    let mut tests = Vec::new();
    for one in shown.split("`, `") {
        let one = one.trim_matches('`');
        let test = match one.split_once(" \"") {
            Some((file, row)) => (file, Shown::Row(row.strip_suffix('"')?.to_owned())),
            None => {
                let (file, function) = one.split_once("::")?;
                (file, Shown::Function(function.to_owned()))
            }
        };
        tests.push((test.0.to_owned(), test.1));
    }
    Some(Promise {
        what: what.to_owned(),
        fields: named,
        shown: tests,
    })
}

/// The verdict of every field in the document of fields, by message and field.
pub(crate) fn verdicts(document: &str) -> BTreeMap<(String, String), String> {
    let mut verdicts = BTreeMap::new();
    let mut message = "";
    for line in document.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            message = name;
        }
        let mut cells = line.split(" | ");
        let (Some(field), Some(verdict)) = (cells.next(), cells.next()) else {
            continue;
        };
        if let Some(field) = field
            .strip_prefix("| `")
            .and_then(|field| field.strip_suffix('`'))
        {
            verdicts.insert((message.to_owned(), field.to_owned()), verdict.to_owned());
        }
    }
    verdicts
}

/// What is wrong with the fields of a promise. A message is named by the end of its name, as long as that says which.
pub(crate) fn fields(promise: &Promise, verdicts: &BTreeMap<(String, String), String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (message, field, expected) in &promise.fields {
        let end = format!(".{message}");
        let mut found: Vec<_> = verdicts
            .iter()
            .filter(|((name, of), _)| of == field && (name == message || name.ends_with(&end)))
            .collect();
        // A message of the same name inside of another one is named with it.
        if found.len() > 1 {
            found.retain(|((name, _), _)| is_outermost(name, &end));
        }
        match found.as_slice() {
            [(_, verdict)] if *verdict == expected => {}
            [(_, verdict)] => wrong.push(format!(
                "'{}': {message}.{field} is {verdict}, not {expected}",
                promise.what
            )),
            [] => wrong.push(format!("'{}': there is no {message}.{field}", promise.what)),
            many => {
                let names: Vec<&String> = many.iter().map(|((name, _), _)| name).collect();
                wrong.push(format!(
                    "'{}': {message}.{field} may be of {names:?}",
                    promise.what
                ));
            }
        }
    }
    wrong
}

/// Whether what stands before `end` is a package, whose parts are lower case.
fn is_outermost(name: &str, end: &str) -> bool {
    let before = name.strip_suffix(end).unwrap_or("");
    before
        .split('.')
        .all(|part| part.starts_with(|first: char| first.is_ascii_lowercase()))
}

/// What is wrong with the tests of a promise.
pub(crate) fn tests(promise: &Promise, repository: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for (file, shown) in &promise.shown {
        let path = path_of(file, repository);
        let Ok(text) = std::fs::read_to_string(&path) else {
            wrong.push(format!("'{}': there is no {}", promise.what, path.display()));
            continue;
        };
        let is_there = match shown {
            Shown::Row(row) => text.contains(&format!("\"{row}\"")),
            Shown::Function(name) => has_test(&text, name) || makes_rows(file, &text, name),
        };
        if !is_there {
            wrong.push(format!("'{}': {file} has no {shown:?}", promise.what));
        }
    }
    wrong
}

fn path_of(file: &str, repository: &Path) -> PathBuf {
    match file.strip_prefix('/') {
        Some(file) => repository.join(format!("{file}.rs")),
        None => repository.join(format!("tests/scenario/{file}.rs")),
    }
}

/// A test of this name: by its attribute, or declared for several variants at once by `NAME => FUNCTION;`.
fn has_test(text: &str, name: &str) -> bool {
    let Ok(parsed) = syn::parse_file(text) else {
        return false;
    };
    let mut finder = Finder { name, found: false };
    finder.visit_file(&parsed);
    finder.found || text.contains(&format!("\n    {name} => "))
}

/// A function that makes rows of the table of generated requests.
fn makes_rows(file: &str, text: &str, name: &str) -> bool {
    file == "differential/generated" && text.contains(&format!("\n    {name}(&mut table);"))
}

struct Finder<'n> {
    name: &'n str,
    found: bool,
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        let is_test = |attribute: &syn::Attribute| {
            let path = attribute.path();
            path.segments.last().is_some_and(|last| last.ident == "test")
        };
        self.found |= function.sig.ident == self.name && function.attrs.iter().any(is_test);
        visit::visit_item_fn(self, function);
    }
}

#[cfg(test)]
mod checks {
    use super::*;

    const DOCUMENT: &str = "| what | fields | shown by |\n| --- | --- | --- |\n\
        | one | `Bar`: `a`, `b` (ignored); `x.v3.Foo`: `c` | `architecture/surface::a_wrong_row_is_told`, `f \"row\"` |\n";

    #[test]
    fn a_wrong_row_is_told() {
        let (promises, wrong) = promises(DOCUMENT);
        assert!(wrong.is_empty(), "{wrong:?}");
        let verdicts = verdicts(
            "## envoy.y.v3.Bar\n| `a` | honoured |  |\n| `b` | honoured | |\n## envoy.x.v3.Foo.Bar\n| `a` | ignored | |\n",
        );
        let told = fields(&promises[0], &verdicts).join("\n");
        assert!(!told.contains("Bar.a"), "{told}");
        assert!(told.contains("Bar.b is honoured, not ignored"), "{told}");
        assert!(told.contains("no x.v3.Foo.c"), "{told}");
        let repository = crate::sources::repository();
        let told = tests(&promises[0], &repository).join("\n");
        assert!(told.contains("there is no"), "{told}");
        let (_, wrong) = super::promises("| a | b |\n| a | Bar: a | `x` |\n");
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn a_test_is_known_by_its_attribute() {
        let text = "#[tokio::test]\nasync fn yes() {}\nfn no() {}\nrows! {\n    both => it;\n}\n";
        assert!(has_test(text, "yes") && has_test(text, "both"));
        assert!(!has_test(text, "no") && !has_test(text, "absent"));
    }
}
