//! Which resources are in these files?
//!
//! Holds: every resource of every file is found whatever the kind of the file, with its place; what cannot be read as
//! its message is kept as a rejection, and reading goes on. A file that is nothing that we know is unreadable as a whole.

use std::fmt;
use std::sync::Arc;

use remora_proto::{
    Branch, Document, Pool, Position, Problem, Problems, ReadOptions, Tree, UnknownFields, UnknownTypes,
};

use super::check::{Rejected, Warning};
use super::dump;
use super::shape::{self, BY_KIND, Shape};
use crate::bootstrap;
use crate::config_dump::ResourceKind;

const OPTIONS: ReadOptions = ReadOptions {
    unknown_fields: UnknownFields::Warn,
    unknown_types: UnknownTypes::Keep,
};

/// A file to look at.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Its name, which by its ending says what it is: `.pb` for an encoded message, else YAML, of which JSON is a part.
    pub name: &'a str,
    /// What is in it.
    pub content: &'a [u8],
}

/// A resource and where it stands.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Type.
    pub kind: ResourceKind,
    /// Name; that of its cluster for an assignment.
    pub name: String,
    /// The file.
    pub file: Arc<str>,
    /// Path inside the file; empty where it is the whole.
    pub place: String,
    /// Where it begins.
    pub at: Option<Position>,
    /// The message, and where its fields stand in the file.
    pub document: Document,
}

/// A file that is nothing that we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is in some files.
#[derive(Debug, Default)]
pub struct Contents {
    /// In the order of the files.
    pub resources: Vec<Resource>,
    /// What could not be read as its message.
    pub rejections: Vec<Rejected>,
    /// Set in a bootstrap without effect: file and path.
    pub(super) bootstrap_ignored: Vec<(Arc<str>, String)>,
    /// Odd, but not wrong.
    pub warnings: Vec<Warning>,
    /// Secrets that a dump hides, so that nothing can be said about them.
    pub hidden_keys: usize,
}

impl Contents {
    /// Reads files; all of them make one world.
    ///
    /// # Errors
    /// The first file that is nothing that we know.
    pub fn read(pool: &Pool, files: &[Input<'_>]) -> Result<Self, Unreadable> {
        let mut contents = Self::default();
        for file in files {
            let mut reader = Reader {
                pool,
                file: Arc::from(file.name),
                contents: &mut contents,
            };
            reader
                .file(file)
                .map_err(|reason| Unreadable(format!("{}: {reason}", file.name)))?;
        }
        Ok(contents)
    }

    /// How many resources of a kind there are.
    pub fn count(&self, kind: ResourceKind) -> usize {
        self.resources
            .iter()
            .filter(|resource| resource.kind == kind)
            .count()
    }
}

struct Reader<'p, 'c> {
    pool: &'p Pool,
    file: Arc<str>,
    contents: &'c mut Contents,
}

impl Reader<'_, '_> {
    fn file(&mut self, file: &Input<'_>) -> Result<(), String> {
        let ending = file.name.rsplit_once('.').map(|(_, ending)| ending);
        if matches!(ending, Some("pb" | "bin" | "binpb")) {
            return self.tree(super::binary::read(self.pool, file.content)?, file.content);
        }
        let text = str::from_utf8(file.content).map_err(|error| format!("expected a text, found {error}"))?;
        let tree = Tree::parse(text).map_err(|problems| problems.to_string())?;
        self.tree(tree, file.content)
    }

    fn tree(&mut self, mut tree: Tree, content: &[u8]) -> Result<(), String> {
        self.contents.hidden_keys += tree.fill_redacted();
        if matches!(shape::of(tree.root()), Shape::Dump | Shape::DumpPart) {
            // Envoy writes the weight of a locality that has none as 0, which no configuration may say.
            tree.forget("load_balancing_weight", "0");
        }
        let before = self.contents.resources.len() + self.contents.rejections.len();
        self.value(tree.root(), "", content)?;
        let after = self.contents.resources.len() + self.contents.rejections.len();
        if after == before {
            self.warn("holds no resource".into());
        }
        Ok(())
    }

    /// Anything that may stand in a file. `content`: the whole file, where this is the whole of it.
    fn value(&mut self, branch: Branch<'_>, path: &str, content: &[u8]) -> Result<(), String> {
        let inside = |field: &str| {
            if path.is_empty() {
                field.to_owned()
            } else {
                format!("{path}.{field}")
            }
        };
        match shape::of(branch) {
            Shape::List => self.items(branch, path),
            Shape::Response => branch
                .at("resources")
                .map_or(Ok(()), |list| self.items(list, &inside("resources"))),
            Shape::Wrapped => branch
                .at("resource")
                .map_or(Ok(()), |value| self.value(value, &inside("resource"), &[])),
            Shape::Dump => {
                self.dump(branch, &inside("configs"));
                Ok(())
            }
            Shape::DumpPart => {
                let path = if path.is_empty() { path } else { &inside("") };
                self.dump_part(branch, path);
                Ok(())
            }
            Shape::Bootstrap => {
                self.bootstrap(branch, path, content);
                Ok(())
            }
            Shape::AroundBootstrap => branch
                .at("bootstrap")
                .map_or(Ok(()), |value| self.value(value, &inside("bootstrap"), &[])),
            Shape::ByKind => {
                self.by_kind(branch, path);
                Ok(())
            }
            Shape::Resource(kind) => {
                self.resource(kind, branch, path.to_owned());
                Ok(())
            }
            Shape::Other(type_url) => {
                self.warn(format!(
                    "{}{type_url}: resources of this type are not asked for, so it has no effect",
                    prefix(path)
                ));
                Ok(())
            }
            Shape::Unknown => Err(format!(
                "{}expected xDS resources, a bootstrap or a config dump; found {}",
                prefix(path),
                branch.describe()
            )),
        }
    }

    fn items(&mut self, list: Branch<'_>, path: &str) -> Result<(), String> {
        for (index, item) in list.items().enumerate() {
            self.value(item, &format!("{path}[{index}]"), &[])?;
        }
        Ok(())
    }

    fn by_kind(&mut self, branch: Branch<'_>, path: &str) {
        for (key, kind) in BY_KIND {
            let Some(value) = branch.at(key) else { continue };
            let place = format!("{}{key}", dotted(path));
            for (index, item) in value.items().enumerate() {
                self.resource(kind, item, format!("{place}[{index}]"));
            }
            for (name, item) in value.entries() {
                self.resource(kind, item, format!("{place}[{name:?}]"));
            }
        }
    }

    fn dump(&mut self, branch: Branch<'_>, path: &str) {
        let before = self.contents.resources.len();
        let configs = branch.at("configs").into_iter().flat_map(Branch::items);
        let mut bootstrap = None;
        for (index, config) in configs.enumerate() {
            let place = format!("{path}[{index}]");
            match shape::of(config) {
                Shape::Resource(kind) => self.resource(kind, config, place),
                _ => {
                    let inside = config.at("bootstrap").filter(|inside| inside.is_object());
                    bootstrap = bootstrap.or(inside.map(|inside| (inside, format!("{place}.bootstrap"))));
                    self.dump_part(config, &format!("{place}."));
                }
            }
        }
        self.without_inline_routes(before);
        if let (Some((inside, place)), true) = (bootstrap, self.contents.resources.len() == before) {
            self.static_resources(inside, &place);
        }
    }

    /// A dump shows the route configurations inside of its listeners a second time.
    fn without_inline_routes(&mut self, before: usize) {
        let here = &self.contents.resources[before..];
        if here
            .iter()
            .any(|resource| resource.kind == ResourceKind::Listener)
        {
            let mut index = 0;
            self.contents.resources.retain(|resource| {
                index += 1;
                index <= before || !resource.place.contains(".static_route_configs[")
            });
        }
    }

    fn dump_part(&mut self, branch: Branch<'_>, path: &str) {
        let mut notes = Vec::new();
        for found in dump::part(branch, path, &mut notes) {
            self.resource(found.kind, found.branch, found.path);
        }
        notes.into_iter().for_each(|note| self.warn(note));
    }

    /// A bootstrap with its static resources; as a whole it is judged where it is a whole file.
    fn bootstrap(&mut self, branch: Branch<'_>, path: &str, content: &[u8]) {
        if !content.is_empty() {
            let input = bootstrap::Input {
                file: Some((&self.file, content)),
                ..bootstrap::Input::default()
            };
            match bootstrap::load(self.pool, &input) {
                Ok(loaded) => {
                    let ignored = loaded.bootstrap.ignored.into_iter();
                    let file = &self.file;
                    self.contents
                        .bootstrap_ignored
                        .extend(ignored.map(|path| (Arc::clone(file), path)));
                }
                Err(refused) => {
                    let lines = refused.0.into_iter();
                    let file = &self.file;
                    let rejected = lines.map(|line| Rejected::whole(file, "Bootstrap", &line));
                    self.contents.rejections.extend(rejected);
                }
            }
        }
        self.static_resources(branch, path);
    }

    fn static_resources(&mut self, branch: Branch<'_>, path: &str) {
        if let Some(resources) = branch.at("static_resources") {
            self.by_kind(resources, &format!("{}static_resources", dotted(path)));
        }
    }

    fn resource(&mut self, kind: ResourceKind, branch: Branch<'_>, place: String) {
        let key = match kind {
            ResourceKind::Endpoints => "cluster_name",
            _ => "name",
        };
        let name = branch
            .at(key)
            .and_then(Branch::text)
            .unwrap_or_default()
            .to_owned();
        let read = self.pool.read_branch(branch, kind.message(), OPTIONS);
        let file = Arc::clone(&self.file);
        match read {
            Ok(document) => self.contents.resources.push(Resource {
                kind,
                name,
                file,
                place,
                at: branch.position(),
                document,
            }),
            Err(Problems(problems)) => {
                let rejected = problems
                    .iter()
                    .map(|problem| rejected(&file, kind, &name, &place, problem));
                self.contents.rejections.extend(rejected);
            }
        }
    }

    fn warn(&mut self, sentence: String) {
        self.contents.warnings.push(Warning {
            file: Arc::clone(&self.file),
            at: None,
            kind: None,
            name: String::new(),
            sentence,
        });
    }
}

fn rejected(file: &Arc<str>, kind: ResourceKind, name: &str, place: &str, problem: &Problem) -> Rejected {
    let unplaced = Problem {
        at: None,
        path: String::new(),
        ..problem.clone()
    };
    Rejected {
        file: Arc::clone(file),
        at: problem.at,
        kind: kind.short(),
        name: name.to_owned(),
        place: place.to_owned(),
        path: problem.path.clone(),
        reason: unplaced.to_string(),
    }
}

fn prefix(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}: ")
    }
}

fn dotted(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    }
}
