//! Is the table of fields true? Every field of every message is set, and the translation must notice as the table says.
//!
//! Examples are grown from `examples.yaml`: a field that holds a message is given one, and its fields are tried in turn. A
//! field that counts as honoured must change the model (or what is wrong with the resource) for one of its values; an
//! ignored one must be counted under its name; a rejected one must be named in the rejection.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use remora_proto::{Count, Field, Pool, ReadOptions, Redaction, Shape, Tree, UnknownTypes, WriteOptions};
use remora_translate::config_dump::ResourceKind;
use remora_translate::preview::{Contents, FieldRow, Input, Tier, fields, markdown};
use serde_json::{Map, Value, json};

use crate::world::{Memory, World, identity, quoted};

const EXAMPLES: &str = include_str!("examples.yaml");
/// Fields that are read, and whose effect no model shows: `message.field | why`.
const NOT_SHOWN: &str = include_str!("fields_not_shown.txt");
/// Deeper messages are reached by other examples.
const DEPTH: usize = 14;

/// What came of a resource: its model or what is wrong with it, and what was counted.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    model: Result<String, Vec<(String, String)>>,
    counted: BTreeSet<&'static str>,
}

/// What was seen of a field.
#[derive(Debug, Default, Clone)]
struct Seen {
    /// The model changed, or became wrong in another way than by refusing the field.
    effect: bool,
    /// Counted under these names.
    counted: BTreeSet<&'static str>,
    /// Some value was refused as not supported, at the field.
    refused: bool,
    tried: bool,
}

struct Prober {
    pool: Pool,
    rows: HashMap<(String, String), FieldRow>,
    shapes: HashMap<String, Vec<Field>>,
    seen: BTreeMap<(String, String), Seen>,
    numbers: regex::Regex,
    kind: ResourceKind,
    /// Files that examples name.
    files: HashMap<String, Vec<u8>>,
}

impl Prober {
    fn outcome(&self, message: &Value) -> Option<Outcome> {
        let options = ReadOptions {
            unknown_types: UnknownTypes::Keep,
            ..ReadOptions::default()
        };
        let tree = Tree::of(message.clone());
        let document = self
            .pool
            .read_branch(tree.root(), self.kind.message(), options)
            .ok()?;
        let mut world = World {
            files: Memory {
                files: self.files.clone(),
                variables: HashMap::from([("a".to_owned(), "variable".to_owned())]),
            },
            ..World::default()
        };
        let context = &mut world.context();
        let bytes = document.bytes.as_slice();
        let model = match self.kind {
            ResourceKind::Listener => remora_translate::listener(bytes, context)
                .map(|new| format!("{:?}{:?}{:?}", new.listener, new.subscriptions, new.files)),
            ResourceKind::Cluster => remora_translate::cluster(bytes, context).map(|new| {
                format!(
                    "{:?}{:?}{:?}{:?}",
                    new.config, new.assignment, new.subscriptions, new.files
                )
            }),
            ResourceKind::Routes => {
                remora_translate::route_configuration(bytes, context).map(|new| format!("{new:?}"))
            }
            ResourceKind::Endpoints => {
                remora_translate::endpoints(bytes, context).map(|new| format!("{new:?}"))
            }
            ResourceKind::Secret => remora_translate::secret(bytes, context)
                .map(|new| format!("{:?}{:?}{:?}", new.secret, new.files, new.certificates)),
        };
        let model = model
            .map(|text| self.numbers.replace_all(&text, "").into_owned())
            .map_err(|rejection| {
                let problems = rejection.problems.into_iter();
                problems.map(|problem| (problem.path, problem.sentence)).collect()
            });
        Some(Outcome {
            model,
            counted: world.ignored_names().into_iter().collect(),
        })
    }

    fn shape(&mut self, message: &str) -> Vec<Field> {
        let pool = &self.pool;
        self.shapes
            .entry(message.to_owned())
            .or_insert_with(|| pool.fields(message).unwrap_or_default())
            .clone()
    }

    /// Whether the table says of every field of a message what was seen of it.
    fn is_settled(&self, message: &str, fields: &[Field]) -> bool {
        fields.iter().all(|field| {
            let key = (message.to_owned(), field.name.clone());
            match (self.rows.get(&key), self.seen.get(&key)) {
                (None, _) => true,
                (Some(row), Some(seen)) => holds(row, seen),
                (Some(_), None) => false,
            }
        })
    }

    /// Tries every field of the message at `at` inside `whole`, and then what is inside of it.
    fn message(&mut self, whole: &Value, at: &str, name: &str, depth: usize) {
        let fields = self.shape(name);
        let Some(base) = self.outcome(whole) else { return };
        let settled = self.is_settled(name, &fields);
        for field in &fields {
            let key = (name.to_owned(), field.name.clone());
            let Some(row) = self.rows.get(&key).cloned() else {
                continue;
            };
            let proven = self.seen.get(&key).is_some_and(|seen| holds(&row, seen));
            // That nothing reads a field must be so everywhere.
            let silent = row.tier == Tier::Ignored && row.counted_as.is_none();
            if silent || (!settled && !proven) {
                self.field(whole, at, field, &base, &row);
                self.held(whole, at, name, field, &row);
            }
            if row.tier == Tier::Honoured && depth < DEPTH {
                self.inside(whole, at, name, field, depth);
            }
        }
    }

    /// Tries values of one field.
    fn field(&mut self, whole: &Value, at: &str, field: &Field, base: &Outcome, row: &FieldRow) {
        let key = (row.message.clone(), row.field.clone());
        let before = whole
            .pointer(at)
            .and_then(|message| message.get(&field.name))
            .cloned();
        let fields = self.shape(&row.message);
        for value in values(field, before.as_ref()) {
            let mut changed = whole.clone();
            let Some(Value::Object(message)) = changed.pointer_mut(at) else {
                return;
            };
            clear_choice(message, field, &fields);
            match value {
                Some(value) => message.insert(field.name.clone(), value),
                None => message.remove(&field.name),
            };
            let Some(outcome) = self.outcome(&changed) else {
                continue;
            };
            let seen = self.seen.entry(key.clone()).or_default();
            seen.counted.extend(outcome.counted.difference(&base.counted));
            let refusal = refused_at(&outcome, base, field);
            if outcome.model != base.model && !refusal {
                seen.effect = true;
            }
            seen.refused |= refusal;
            seen.tried = true;
            if holds(row, seen) && row.tier != Tier::Honoured {
                return;
            }
            if seen.effect {
                return;
            }
        }
    }

    /// A field that holds a message which says nothing by being there.
    fn held(&mut self, whole: &Value, at: &str, outer: &str, field: &Field, row: &FieldRow) {
        let key = (row.message.clone(), row.field.clone());
        let silent = row.tier == Tier::Ignored && row.counted_as.is_none();
        if !(silent || row.tier == Tier::Honoured)
            || self.seen.get(&key).is_none_or(|seen| seen.effect || seen.refused)
        {
            return;
        }
        let Some((grown, place, inner)) = self.grown(whole, at, outer, field) else {
            return;
        };
        let Some(base) = self.outcome(&grown) else { return };
        if self.is_noticed(&grown, &place, &inner, &base, 0)
            && let Some(seen) = self.seen.get_mut(&key)
        {
            seen.effect = true;
        }
    }

    /// Whether some field below changes something: what holds a message is honoured if any part of that is.
    fn is_noticed(&mut self, whole: &Value, at: &str, name: &str, base: &Outcome, depth: usize) -> bool {
        let fields = self.shape(name);
        for field in &fields {
            let before = whole
                .pointer(at)
                .and_then(|message| message.get(&field.name))
                .cloned();
            for value in values(field, before.as_ref()) {
                let mut changed = whole.clone();
                let Some(Value::Object(message)) = changed.pointer_mut(at) else {
                    return false;
                };
                clear_choice(message, field, &fields);
                if let Some(value) = value {
                    message.insert(field.name.clone(), value);
                }
                if self
                    .outcome(&changed)
                    .is_some_and(|outcome| outcome.model != base.model)
                {
                    return true;
                }
            }
        }
        depth < 3
            && fields.iter().any(|field| {
                let grown = self.grown(whole, at, name, field);
                grown.is_some_and(|(grown, place, inner)| {
                    self.is_noticed(&grown, &place, &inner, base, depth + 1)
                })
            })
    }

    /// The same with a message in a field, where it is, and which one.
    fn grown(
        &mut self,
        whole: &Value,
        at: &str,
        outer: &str,
        field: &Field,
    ) -> Option<(Value, String, String)> {
        let Shape::Message(inner) = &field.shape else {
            return None;
        };
        if inner.starts_with("google.protobuf.") {
            return None;
        }
        let step = format!("{at}/{}", escape(&field.name));
        if let Some((place, ())) = places(&step, field, whole.pointer(&step)).into_iter().next() {
            return Some((whole.clone(), place, inner.clone()));
        }
        let around = self.shape(outer);
        let mut grown = whole.clone();
        let message = grown.pointer_mut(at)?.as_object_mut()?;
        let (value, place) = match field.count {
            Count::One => (json!({}), step),
            Count::List => (json!([{}]), format!("{step}/0")),
            Count::Map => (json!({"a": {}}), format!("{step}/a")),
        };
        clear_choice(message, field, &around);
        message.insert(field.name.clone(), value);
        Some((grown, place, inner.clone()))
    }

    /// Goes into the messages that a field holds, or could hold.
    fn inside(&mut self, whole: &Value, at: &str, outer: &str, field: &Field, depth: usize) {
        let Shape::Message(inner) = &field.shape else {
            return;
        };
        let step = format!("{at}/{}", escape(&field.name));
        let present = whole.pointer(&step).cloned();
        if inner == "google.protobuf.Any" {
            for (place, _) in places(&step, field, present.as_ref()) {
                self.any(whole, &place, depth);
            }
            return;
        }
        if inner.starts_with("google.protobuf.") {
            return;
        }
        if present.is_some() {
            for (place, _) in places(&step, field, present.as_ref()) {
                self.message(whole, &place, inner, depth + 1);
            }
            return;
        }
        let shape = self.shape(inner);
        if self.is_settled(inner, &shape) {
            return;
        }
        let shape = self.shape(inner);
        if self.is_settled(inner, &shape) {
            return;
        }
        if let Some((grown, place, inner)) = self.grown(whole, at, outer, field) {
            self.message(&grown, &place, &inner, depth + 1);
        }
    }

    fn any(&mut self, whole: &Value, at: &str, depth: usize) {
        let Some(type_url) = whole.pointer(at).and_then(|any| any["@type"].as_str()) else {
            return;
        };
        let name = type_url.rsplit('/').next().unwrap_or_default().to_owned();
        self.message(whole, at, &name, depth + 1);
    }
}

/// Takes the other members of a field's choice away.
fn clear_choice(message: &mut Map<String, Value>, field: &Field, fields: &[Field]) {
    let Some(oneof) = &field.oneof else { return };
    for member in fields
        .iter()
        .filter(|member| member.oneof.as_ref() == Some(oneof))
    {
        message.remove(&member.name);
    }
}

/// Whether what was seen is what the table says.
fn holds(row: &FieldRow, seen: &Seen) -> bool {
    match row.tier {
        Tier::Honoured => seen.effect,
        Tier::Ignored => match row.counted_as {
            Some(name) => seen.counted.contains(name),
            None => seen.tried && !seen.effect,
        },
        Tier::Rejected => seen.refused && !seen.effect,
    }
}

/// Whether the field is refused because it is not supported, and was not before.
fn refused_at(outcome: &Outcome, base: &Outcome, field: &Field) -> bool {
    let Err(problems) = &outcome.model else {
        return false;
    };
    let before = match &base.model {
        Err(before) => before.as_slice(),
        Ok(_) => &[],
    };
    let mut new = problems
        .iter()
        .filter(|problem| !before.contains(problem))
        .peekable();
    new.peek().is_some()
        && new.any(|(path, sentence)| {
            let mut steps = path
                .split('.')
                .map(|step| step.split('[').next().unwrap_or_default());
            let here = steps.any(|step| step == field.name || Some(step) == field.oneof.as_deref());
            here && sentence.contains("not supported")
        })
}

/// Pointers to the messages of a field: at most two of a list or map.
fn places(step: &str, field: &Field, present: Option<&Value>) -> Vec<(String, ())> {
    match (field.count, present) {
        (_, None) => Vec::new(),
        (Count::One, _) => vec![(step.to_owned(), ())],
        (Count::List, Some(Value::Array(items))) => (0..items.len())
            .map(|index| (format!("{step}/{index}"), ()))
            .collect(),
        (Count::Map, Some(Value::Object(entries))) => entries
            .keys()
            .map(|key| (format!("{step}/{}", escape(key)), ()))
            .collect(),
        _ => Vec::new(),
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Values to try: `None` takes the field away.
fn values(field: &Field, before: Option<&Value>) -> Vec<Option<Value>> {
    let single = singles(&field.shape);
    let several = single.into_iter().map(|value| match field.count {
        Count::One => value,
        Count::List => match before {
            Some(Value::Array(items)) => {
                let mut items = items.clone();
                items.push(value);
                Value::Array(items)
            }
            _ => json!([value]),
        },
        Count::Map => {
            let mut entries = before
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_else(Map::new);
            entries.insert("a".into(), value);
            Value::Object(entries)
        }
    });
    let mut tried: Vec<Option<Value>> = several.filter(|value| Some(value) != before).map(Some).collect();
    if before.is_some() {
        tried.push(None);
    }
    tried
}

fn singles(shape: &Shape) -> Vec<Value> {
    match shape {
        Shape::Bool => vec![json!(true), json!(false)],
        Shape::Integer => vec![json!(1), json!(7), json!(50_021), json!(200_000)],
        Shape::Float => vec![json!(1.5), json!(40.0)],
        Shape::Text => ["a", "/x", "x-b", "10.1.2.3", "*", "1"]
            .map(|text| json!(text))
            .to_vec(),
        Shape::Bytes => vec![json!("YQ==")],
        Shape::Enum(names) => names.iter().map(|name| json!(name)).collect(),
        // A message that says nothing while it is empty.
        Shape::Message(name) if name.ends_with(".LbSubsetConfig") => {
            vec![json!({"subset_selectors": [{"keys": ["a"]}]})]
        }
        Shape::Message(name) => match name.strip_prefix("google.protobuf.") {
            Some("Duration") => vec![json!("7s"), json!("0s"), json!("-1s")],
            Some("Timestamp") => vec![json!("2026-01-01T00:00:00Z")],
            Some("BoolValue") => vec![json!(true), json!(false)],
            Some("StringValue") => vec![json!("a"), json!("10.1.2.3")],
            Some("DoubleValue" | "FloatValue") => vec![json!(7.5)],
            Some("UInt32Value" | "UInt64Value" | "Int32Value" | "Int64Value") => {
                vec![json!(1), json!(7), json!(50_021), json!(200_000)]
            }
            Some("Struct") => vec![json!({"a": "b"})],
            Some("Value") => vec![json!("a")],
            Some("Any") => vec![
                json!({"@type": "type.googleapis.com/example.Unknown"}),
                json!({"@type": "type.googleapis.com/envoy.config.core.v3.Locality"}),
            ],
            _ => vec![json!({})],
        },
    }
}

fn not_shown() -> BTreeMap<&'static str, &'static str> {
    let lines = NOT_SHOWN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(" | ").expect("field | why"))
        .collect()
}

#[test]
fn the_translation_notices_every_field_as_the_table_says() {
    let pool = Pool::load().unwrap();
    let rows = fields(&pool);
    let (root, key) = identity("root.example");
    let examples = EXAMPLES.replace("ROOT", &quoted(&root));
    let input = Input {
        name: "examples.yaml",
        content: examples.as_bytes(),
    };
    let contents = Contents::read(&pool, &[input]).unwrap();
    assert!(contents.rejections.is_empty(), "{:?}", contents.rejections);
    let options = WriteOptions {
        redaction: Redaction::Nothing,
    };
    let mut prober = Prober {
        rows: rows
            .iter()
            .map(|row| ((row.message.clone(), row.field.clone()), row.clone()))
            .collect(),
        shapes: HashMap::new(),
        seen: BTreeMap::new(),
        numbers: regex::Regex::new(r"\b(fingerprint|security|generation|id): [0-9]+").unwrap(),
        kind: ResourceKind::Secret,
        files: [("/x", "file"), ("/cert.pem", &root), ("/key.pem", &key)]
            .map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec()))
            .into(),
        pool,
    };
    for resource in &contents.resources {
        prober.kind = resource.kind;
        let shown = prober
            .pool
            .write(&resource.document.bytes, resource.kind.message(), options)
            .unwrap();
        let outcome = prober.outcome(&shown).unwrap();
        assert!(outcome.model.is_ok(), "{}: {:?}", resource.name, outcome.model);
        prober.message(&shown, "", resource.kind.message(), 0);
    }
    let lies = untrue(&rows, &prober.seen);
    assert!(
        lies.is_empty(),
        "{} of {} lines are not true:\n{}",
        lies.len(),
        rows.len(),
        lies.join("\n")
    );
}

/// Lines of the table that were not seen to be so, and exceptions that are none.
fn untrue(rows: &[FieldRow], all: &BTreeMap<(String, String), Seen>) -> Vec<String> {
    let mut exceptions = not_shown();
    let mut lies = Vec::new();
    for row in rows {
        let name = format!("{}.{}", row.message, row.field);
        let seen = all.get(&(row.message.clone(), row.field.clone()));
        let is_true = seen.is_some_and(|seen| holds(row, seen));
        match (is_true, exceptions.remove(name.as_str())) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(_)) => lies.push(format!("{name} stands among the exceptions and is none")),
            (false, None) => lies.push(format!("{name} counts as {}, seen: {seen:?}", row.tier.name())),
        }
    }
    let nowhere = exceptions.keys();
    lies.extend(nowhere.map(|name| format!("{name} stands among the exceptions and is in no message")));
    lies
}

#[test]
fn the_page_of_fields_is_up_to_date() {
    let page = include_str!("../../FIELDS.md");
    let made = markdown(&fields(&Pool::load().unwrap()));
    let first = made
        .lines()
        .zip(page.lines())
        .find(|(made, stands)| made != stands);
    assert!(
        made == page,
        "FIELDS.md is out of date from {first:?} on: cargo run -p remora -- fields --output markdown > proxy/translate/FIELDS.md"
    );
}
