//! JSON text as it is made, indented by two spaces.

use std::ops::ControlFlow;

use serde_json::Value;

/// A piece leaves when it has this many bytes.
const PIECE: usize = 16 << 10;

/// Writes one document.
pub(super) struct JsonStream<'o> {
    out: &'o mut dyn FnMut(String) -> ControlFlow<()>,
    piece: String,
    /// Whether each object or array that is open has something in it.
    open: Vec<bool>,
    after_key: bool,
}

impl<'o> JsonStream<'o> {
    /// Nothing is written yet.
    pub(super) fn new(out: &'o mut dyn FnMut(String) -> ControlFlow<()>) -> Self {
        Self {
            out,
            piece: String::new(),
            open: Vec::new(),
            after_key: false,
        }
    }

    /// Begins an object (`{`) or an array (`[`).
    pub(super) fn open(&mut self, bracket: char) -> ControlFlow<()> {
        self.begin_item();
        self.piece.push(bracket);
        self.open.push(false);
        self.flush(PIECE)
    }

    /// Ends it.
    pub(super) fn close(&mut self, bracket: char) -> ControlFlow<()> {
        if self.open.pop() == Some(true) {
            self.new_line();
        }
        self.piece.push(bracket);
        self.flush(PIECE)
    }

    /// The name of what follows.
    pub(super) fn key(&mut self, name: &str) -> ControlFlow<()> {
        self.begin_item();
        self.piece.push_str(&Value::from(name).to_string());
        self.piece.push_str(": ");
        self.after_key = true;
        self.flush(PIECE)
    }

    /// A whole value.
    pub(super) fn value(&mut self, value: &Value) -> ControlFlow<()> {
        self.begin_item();
        let text = format!("{value:#}");
        let mut lines = text.split('\n');
        self.piece.push_str(lines.next().unwrap_or_default());
        for line in lines {
            self.new_line();
            self.piece.push_str(line);
        }
        self.flush(PIECE)
    }

    /// The document is complete.
    pub(super) fn end(mut self) -> ControlFlow<()> {
        self.piece.push('\n');
        self.flush(0)
    }

    fn begin_item(&mut self) {
        if std::mem::take(&mut self.after_key) {
            return;
        }
        if let Some(last) = self.open.last_mut() {
            if std::mem::replace(last, true) {
                self.piece.push(',');
            }
            self.new_line();
        }
    }

    fn new_line(&mut self) {
        self.piece.push('\n');
        self.piece.extend(std::iter::repeat_n("  ", self.open.len()));
    }

    fn flush(&mut self, at_least: usize) -> ControlFlow<()> {
        if self.piece.len() <= at_least {
            return ControlFlow::Continue(());
        }
        (self.out)(std::mem::take(&mut self.piece))
    }
}
