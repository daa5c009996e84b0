//! Envoy's access log language: text with `%OPERATOR(ARGUMENT):LENGTH%`, or a JSON tree of such texts.

use std::sync::Arc;

/// A compiled format.
#[derive(Debug, Clone)]
pub enum Format {
    /// `text_format`: pieces in order, no newline added.
    Text {
        /// Pieces.
        pieces: Vec<Piece>,
        /// `omit_empty_values`: absent values print as nothing instead of `-`.
        omit_empty: bool,
    },
    /// `json_format`: one object per line.
    Json {
        /// The object.
        root: Arc<JsonNode>,
        /// `omit_empty_values`: absent values are left out instead of `null`.
        omit_empty: bool,
    },
}

/// A node of a JSON format.
#[derive(Debug, Clone)]
pub enum JsonNode {
    /// Keys in sorted order (as Envoy prints them).
    Object(Vec<(Box<str>, JsonNode)>),
    /// Elements in order.
    List(Vec<JsonNode>),
    /// A string with operators; a single operator keeps its type (numbers stay numbers).
    Text(Vec<Piece>),
    /// A constant number, boolean or null, printed as JSON.
    Constant(Box<str>),
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Printed as it is.
    Literal(Box<str>),
    /// Replaced by its value, cut to this many bytes.
    Value(Operator, Option<usize>),
}
