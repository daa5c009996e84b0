//! What does a text look like before anybody says which message it is?
//!
//! A file of resources may be a `DiscoveryResponse`, a config dump or a bare list; whoever reads it looks around first and
//! then has each part read as its message ([`Pool::read_branch`]).
//!
//! What always holds: positions are those of the whole text; a key is found in both of its cases (`route_config`,
//! `routeConfig`). It judges nothing.

use super::problem::{Position, Problems};
use super::read::{Document, ReadOptions};
use super::tree::{self, Entry, Node, Value};
use crate::Pool;

/// What a config dump shows in place of a secret, as text and as bytes in base64.
const REDACTED: [&str; 2] = ["[redacted]", "W3JlZGFjdGVkXQ=="];
/// Stands for a private key that a dump hides: PEM as far as its frame goes, and no key.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
/// Stands for a session ticket key that a dump hides: 80 zero bytes.
const TICKET_KEY_BYTES: usize = 80;

/// A YAML or JSON text that was parsed.
#[derive(Clone, Debug)]
pub struct Tree(Node);

/// One value of a [`Tree`].
#[derive(Clone, Copy, Debug)]
pub struct Branch<'t>(&'t Node);

impl Tree {
    /// Parses a text.
    ///
    /// # Errors
    /// The first thing that makes it neither YAML nor JSON.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        tree::parse(text)
            .map(Self)
            .map_err(|problem| Problems(vec![*problem]))
    }

    /// The tree of a JSON value, without positions.
    #[must_use]
    pub fn of(value: serde_json::Value) -> Self {
        Self(tree::from_json(value))
    }

    /// The whole.
    #[must_use]
    pub fn root(&self) -> Branch<'_> {
        Branch(&self.0)
    }

    /// Puts stand-ins where a config dump hides private keys and session ticket keys, so that the rest of such a
    /// secret can be read. Returns how many.
    pub fn fill_redacted(&mut self) -> usize {
        fill(&mut self.0, None)
    }

    /// Takes every `key` away whose value is written as `scalar`, at any depth.
    pub fn forget(&mut self, key: &str, scalar: &str) {
        forget(&mut self.0, key, scalar);
    }
}

fn forget(node: &mut Node, key: &str, scalar: &str) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| forget(item, key, scalar)),
        Value::Map(entries) => {
            entries.retain(|entry| {
                let same =
                    matches!(&entry.node.value, Value::Number(text) | Value::String(text) if text == scalar);
                !(same && snake(&entry.key) == key)
            });
            entries
                .iter_mut()
                .for_each(|entry| forget(&mut entry.node, key, scalar));
        }
        Value::Null | Value::Bool { .. } | Value::Number(_) | Value::String(_) => {}
    }
}

/// `around`: the stand-in for what is hidden at this place.
fn fill(node: &mut Node, around: Option<&str>) -> usize {
    match &mut node.value {
        Value::String(text) => match around {
            Some(stand_in) if REDACTED.contains(&text.as_str()) => {
                stand_in.clone_into(text);
                1
            }
            _ => 0,
        },
        Value::List(items) => items.iter_mut().map(|item| fill(item, around)).sum(),
        Value::Map(entries) => entries.iter_mut().map(|entry| fill_entry(entry, around)).sum(),
        Value::Null | Value::Bool { .. } | Value::Number(_) => 0,
    }
}

fn is_redacted(node: &Node) -> bool {
    matches!(&node.value, Value::String(text) if REDACTED.contains(&text.as_str()))
}

fn fill_entry(entry: &mut Entry, around: Option<&str>) -> usize {
    // Envoy hides the names of files too: what they hold is given instead.
    let named = matches!(
        entry.key.as_str(),
        "filename" | "environment_variable" | "environmentVariable"
    );
    if around.is_some() && named && is_redacted(&entry.node) {
        entry.key = "inline_string".to_owned();
    }
    let ticket_key = "A".repeat(TICKET_KEY_BYTES);
    let stand_in = match entry.key.as_str() {
        "private_key" | "privateKey" => Some(KEY),
        "session_ticket_keys" | "sessionTicketKeys" => Some(ticket_key.as_str()),
        _ => around,
    };
    if let ("inline_bytes" | "inlineBytes", Some(stand_in)) = (entry.key.as_str(), around) {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.encode(stand_in);
        return fill(&mut entry.node, Some(&bytes));
    }
    fill(&mut entry.node, stand_in)
}

impl<'t> Branch<'t> {
    /// The value under a key, which is given in its proto form.
    #[must_use]
    pub fn at(self, key: &str) -> Option<Branch<'t>> {
        self.entries()
            .find(|(found, _)| *found == key || snake(found) == key)
            .map(|(_, value)| value)
    }

    /// Keys and values of an object, in the order of the text; none of anything else.
    pub fn entries(self) -> impl Iterator<Item = (&'t str, Branch<'t>)> {
        let entries = match &self.0.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries
            .iter()
            .map(|Entry { key, node, .. }| (key.as_str(), Branch(node)))
    }

    /// The items of a list; none of anything else.
    pub fn items(self) -> impl Iterator<Item = Branch<'t>> {
        let items = match &self.0.value {
            Value::List(items) => items.as_slice(),
            _ => &[],
        };
        items.iter().map(Branch)
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self.0.value, Value::List(_))
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(self) -> bool {
        matches!(self.0.value, Value::Map(_))
    }

    /// The text, if it is one.
    #[must_use]
    pub fn text(self) -> Option<&'t str> {
        match &self.0.value {
            Value::String(text) | Value::Number(text) => Some(text),
            _ => None,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        self.0.at
    }

    /// What it is, in words.
    #[must_use]
    pub fn describe(self) -> String {
        self.0.value.describe()
    }
}

/// A key in the form of the proto files.
fn snake(key: &str) -> String {
    let mut snake = String::with_capacity(key.len());
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

impl Pool {
    /// Reads a part of a text as the message `message_name`; an `@type` in it is passed over. Paths start at the part.
    ///
    /// # Errors
    /// Everything that is wrong with the part.
    pub fn read_branch(
        &self,
        branch: Branch<'_>,
        message_name: &str,
        options: ReadOptions,
    ) -> Result<Document, Problems> {
        self.read_tree(branch.0, message_name, "", options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_looked_around_in_before_it_is_read() {
        let tree = Tree::parse("resources:\n- name: a\n  connectTimeout: 1s\n").unwrap();
        let item = tree.root().at("resources").unwrap().items().next().unwrap();
        assert_eq!(item.at("connect_timeout").and_then(Branch::text), Some("1s"));
        let pool = Pool::load().unwrap();
        let read = pool.read_branch(item, "envoy.config.cluster.v3.Cluster", ReadOptions::default());
        assert_eq!(
            read.unwrap().locate("connect_timeout"),
            Some(Position { line: 3, column: 19 })
        );
    }

    #[test]
    fn what_a_dump_hides_gets_a_stand_in_and_nothing_else_does() {
        let text = r#"{"own": {"private_key": {"filename": "[redacted]"}},
            "tls_certificate": {"private_key": {"inline_bytes": "W3JlZGFjdGVkXQ=="},
            "certificate_chain": {"inline_string": "[redacted]"}},
            "session_ticket_keys": {"keys": [{"inline_string": "[redacted]"}]}}"#;
        let mut tree = Tree::parse(text).unwrap();
        assert_eq!(tree.fill_redacted(), 3);
        let own = tree.root().at("own").unwrap().at("private_key").unwrap();
        assert!(own.at("inline_string").is_some() && own.at("filename").is_none());
        let certificate = tree.root().at("tls_certificate").unwrap();
        let inside = |key: &str, form: &str| certificate.at(key).unwrap().at(form).unwrap().text().unwrap();
        assert!(inside("private_key", "inline_bytes").starts_with("LS0tLS1CRUdJTi"));
        assert_eq!(inside("certificate_chain", "inline_string"), "[redacted]");
    }
}
