//! Does a message keep the field rules that Envoy's API states (`validate.rules`)?
//!
//! What always holds: every broken rule is reported, with the field path and, in Envoy's notation, message and field
//! (`ClusterValidationError.Name: value length must be at least 1 characters`); the messages inside of known `Any`s are
//! checked too. A rule on a member of a oneof, a message or an optional field binds only when that field is set.
//! It does not know what fields mean together: that is `translate`.

mod rules;

use std::cell::RefCell;
use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
    Value,
};

use crate::Pool;
use crate::json::{Problem, WriteError, map_key_text};

impl Pool {
    /// The rules that the encoded message `message_name` (a full name or a type URL) breaks; none when it is valid. Give the
    /// problems their places with [`crate::Document::locate`].
    ///
    /// # Errors
    /// When the message is unknown or the bytes are not one.
    pub fn validate(&self, bytes: &[u8], message_name: &str) -> Result<Vec<Problem>, WriteError> {
        let message = self.decode(bytes, message_name)?;
        let extension = |name| self.descriptors().get_extension_by_name(name);
        let mut checker = Checker {
            pool: self,
            field_rules: extension("validate.rules"),
            oneof_required: extension("validate.required"),
            disabled: extension("validate.disabled"),
            rules: RefCell::new(HashMap::new()),
            path: String::new(),
            problems: Vec::new(),
        };
        checker.message(&message);
        Ok(checker.problems)
    }
}

struct Checker<'p> {
    pool: &'p Pool,
    field_rules: Option<ExtensionDescriptor>,
    oneof_required: Option<ExtensionDescriptor>,
    disabled: Option<ExtensionDescriptor>,
    /// Rules by full field name: decoding a field's options once is enough.
    rules: RefCell<HashMap<String, Option<DynamicMessage>>>,
    path: String,
    problems: Vec<Problem>,
}

/// Which rule is spoken of: the message's own name, and the field's in camel case with an index where there is one.
struct Subject<'a> {
    message: &'a str,
    field: String,
}

impl Checker<'_> {
    fn at(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !step.starts_with('[') && length > 0 {
            self.path.push('.');
        }
        self.path.push_str(step);
        check(self);
        self.path.truncate(length);
    }

    fn message(&mut self, message: &DynamicMessage) {
        let descriptor = message.descriptor();
        if descriptor.full_name() == "google.protobuf.Any" {
            return self.any(message);
        }
        if self.is_disabled(&descriptor) {
            return;
        }
        self.required_oneofs(message, &descriptor);
        for field in descriptor.fields() {
            self.at(field.name(), |checker| {
                checker.field(message, &descriptor, &field);
            });
        }
    }

    fn any(&mut self, message: &DynamicMessage) {
        let type_url = message.get_field_by_number(1);
        let bytes = message.get_field_by_number(2);
        let (Some(type_url), Some(bytes)) = (type_url.as_deref(), bytes.as_deref()) else {
            return;
        };
        let (Some(type_url), Some(bytes)) = (type_url.as_str(), bytes.as_bytes()) else {
            return;
        };
        if !self.pool.knows(type_url) {
            return;
        }
        match self.pool.decode(bytes, type_url) {
            Ok(inner) => self.message(&inner),
            Err(error) => {
                let problem = Problem::new(
                    self.path.clone(),
                    format!("an encoded {type_url}"),
                    error.to_string(),
                );
                self.problems.push(problem);
            }
        }
    }

    fn is_disabled(&self, descriptor: &MessageDescriptor) -> bool {
        self.disabled
            .as_ref()
            .is_some_and(|extension| descriptor.options().get_extension(extension).as_bool() == Some(true))
    }

    fn required_oneofs(&mut self, message: &DynamicMessage, descriptor: &MessageDescriptor) {
        let Some(extension) = self.oneof_required.clone() else {
            return;
        };
        for oneof in descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            if oneof.options().get_extension(&extension).as_bool() != Some(true)
                || oneof.fields().any(|field| message.has_field(&field))
            {
                continue;
            }
            let names: Vec<_> = oneof.fields().map(|field| field.name().to_owned()).collect();
            let subject = Subject {
                message: descriptor.name(),
                field: camel(oneof.name()),
            };
            let hint = Some(format!("set one of {}", names.join(", ")));
            self.broken(&subject, "field is required".into(), String::new(), hint);
        }
    }

    fn field(&mut self, message: &DynamicMessage, parent: &MessageDescriptor, field: &FieldDescriptor) {
        let rules = self.rules_of(field);
        let subject = Subject {
            message: parent.name(),
            field: camel(field.name()),
        };
        if field.supports_presence() && !message.has_field(field) {
            let alternative = field
                .containing_oneof()
                .is_some_and(|oneof| !oneof.is_synthetic());
            if !alternative && rules.as_ref().is_some_and(rules::is_required) {
                self.broken(&subject, "value is required".into(), String::new(), None);
            }
            return;
        }
        let value = message.get_field(field);
        match (value.as_ref(), &rules) {
            (Value::List(items), rules) => self.list(items, &field.kind(), rules.as_ref(), &subject),
            (Value::Map(entries), rules) => self.map(entries, &field.kind(), rules.as_ref(), &subject),
            (value, rules) => self.value(value, &field.kind(), rules.as_ref(), &subject),
        }
    }

    fn list(&mut self, items: &[Value], kind: &Kind, rules: Option<&DynamicMessage>, subject: &Subject<'_>) {
        let list_rules = rules.and_then(|rules| rules::of_kind(rules, "repeated"));
        if let Some(rules) = &list_rules {
            for reason in rules::list(rules, items) {
                self.broken(subject, reason, format!("{} items", items.len()), None);
            }
        }
        let item_rules = list_rules.and_then(|rules| rules::of_kind(&rules, "items"));
        for (index, item) in items.iter().enumerate() {
            let subject = Subject {
                message: subject.message,
                field: format!("{}[{index}]", subject.field),
            };
            self.at(&format!("[{index}]"), |checker| {
                checker.value(item, kind, item_rules.as_ref(), &subject);
            });
        }
    }

    fn map(
        &mut self,
        entries: &HashMap<MapKey, Value>,
        kind: &Kind,
        rules: Option<&DynamicMessage>,
        subject: &Subject<'_>,
    ) {
        let Kind::Message(entry) = kind else { return };
        let (key_kind, value_kind) = (
            entry.map_entry_key_field().kind(),
            entry.map_entry_value_field().kind(),
        );
        let map_rules = rules.and_then(|rules| rules::of_kind(rules, "map"));
        if let Some(rules) = &map_rules {
            for reason in rules::map(rules, entries.len()) {
                self.broken(subject, reason, format!("{} entries", entries.len()), None);
            }
        }
        let key_rules = map_rules.as_ref().and_then(|rules| rules::of_kind(rules, "keys"));
        let value_rules = map_rules
            .as_ref()
            .and_then(|rules| rules::of_kind(rules, "values"));
        let mut sorted: Vec<_> = entries
            .iter()
            .map(|(key, value)| (map_key_text(key), key, value))
            .collect();
        sorted.sort_by(|(left, ..), (right, ..)| left.cmp(right));
        for (text, key, value) in sorted {
            let subject = Subject {
                message: subject.message,
                field: format!("{}[{text}]", subject.field),
            };
            self.at(&format!("[{text:?}]"), |checker| {
                if let MapKey::String(key) = key {
                    checker.value(
                        &Value::String(key.clone()),
                        &key_kind,
                        key_rules.as_ref(),
                        &subject,
                    );
                }
                checker.value(value, &value_kind, value_rules.as_ref(), &subject);
            });
        }
    }

    fn value(&mut self, value: &Value, kind: &Kind, rules: Option<&DynamicMessage>, subject: &Subject<'_>) {
        if let Some(rules) = rules {
            for reason in rules::value(rules, kind, value) {
                self.broken(subject, reason, rules::show(value), None);
            }
        }
        if let Value::Message(message) = value
            && !rules.is_some_and(rules::is_skipped)
        {
            self.message(message);
        }
    }

    fn rules_of(&self, field: &FieldDescriptor) -> Option<DynamicMessage> {
        let extension = self.field_rules.as_ref()?;
        if let Some(rules) = self.rules.borrow().get(field.full_name()) {
            return rules.clone();
        }
        let options = field.options();
        let rules = options
            .has_extension(extension)
            .then(|| options.get_extension(extension).as_message().cloned())
            .flatten();
        self.rules
            .borrow_mut()
            .insert(field.full_name().to_owned(), rules.clone());
        rules
    }

    fn broken(&mut self, subject: &Subject<'_>, reason: String, found: String, hint: Option<String>) {
        let mut problem = Problem::new(self.path.clone(), reason, found).with_hint(hint);
        problem.rule = Some(format!("{}ValidationError.{}", subject.message, subject.field));
        self.problems.push(problem);
    }
}

/// `connect_timeout` as `ConnectTimeout`.
fn camel(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(letters)
        })
        .collect()
}
