//! What is wrong with a text, where, and what was expected instead?
//!
//! What always holds: a path is written with the field names of the proto files and looks into `Any` as if it were not
//! there, for example `static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefix`; map keys
//! stand in brackets and quotes.

use std::fmt;

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Field path from the root of the message; empty for the message itself.
    pub path: String,
    /// Where in the text, when the text says it.
    pub at: Option<Position>,
    /// What the field takes, for example `a duration in seconds with an 's' suffix, such as "0.250s"`; for a broken field
    /// rule its sentence, for example `value length must be at least 1 characters`.
    pub expected: String,
    /// What stood there, for example `"250ms"`; empty when there is nothing to show.
    pub found: String,
    /// A suggestion, for example `did you mean "per_try_timeout"?`.
    pub hint: Option<String>,
    /// For a broken field rule the message and field in Envoy's notation, for example `ClusterValidationError.Name`.
    pub rule: Option<String>,
}

impl Problem {
    /// A problem of a value that is not what its field takes.
    pub fn new(path: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            at: None,
            expected: expected.into(),
            found: found.into(),
            hint: None,
            rule: None,
        }
    }

    /// The same problem with a suggestion.
    #[must_use]
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// The same problem with its place in the text.
    #[must_use]
    pub fn with_position(mut self, at: Option<Position>) -> Self {
        self.at = at;
        self
    }

    /// One line that starts with the file: `FILE:LINE:COLUMN: PATH: expected ..., found ...`.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        match self.at {
            Some(_) => format!("{file}:{self}"),
            None => format!("{file}: {self}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.at {
            write!(f, "{at}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        match &self.rule {
            Some(rule) => write!(f, "{rule}: {}", self.expected)?,
            None => write!(f, "expected {}", self.expected)?,
        }
        if !self.found.is_empty() {
            write!(f, ", found {}", self.found)?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with one text, in the order of the text; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// One line per problem, each starting with the file.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        self.0
            .iter()
            .map(|problem| problem.in_file(file))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `did you mean "..."?` for the candidate nearest to `word`, when one is near: at most a third of its letters differ.
pub(super) fn did_you_mean(word: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let limit = word.len().div_ceil(3);
    candidates
        .filter_map(|candidate| Some((edit_distance(word, &candidate, limit)?, candidate)))
        .min()
        .map(|(_, candidate)| format!("did you mean {candidate:?}?"))
}

/// The number of insertions, deletions, substitutions and swaps of neighbours between two words, case aside; `None` above
/// `limit`.
fn edit_distance(left: &str, right: &str, limit: usize) -> Option<usize> {
    if left.len().abs_diff(right.len()) > limit {
        return None;
    }
    let left: Vec<u8> = left.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let right: Vec<u8> = right.bytes().map(|byte| byte.to_ascii_lowercase()).collect();
    let mut before = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (i, letter) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in right.iter().enumerate() {
            let mut best = (previous[j] + usize::from(letter != other))
                .min(previous[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *letter == right[j - 1] && left[i - 1] == *other {
                let swapped: &Vec<usize> = &before;
                best = best.min(swapped[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let names = || {
            ["per_try_timeout", "num_retries", "retry_on"]
                .map(String::from)
                .into_iter()
        };
        assert_eq!(
            did_you_mean("per_try_timeoot", names()).as_deref(),
            Some("did you mean \"per_try_timeout\"?")
        );
        assert_eq!(
            did_you_mean("rtery_on", names()).as_deref(),
            Some("did you mean \"retry_on\"?")
        );
        assert_eq!(did_you_mean("banana", names()), None);
    }

    #[test]
    fn a_line_says_file_place_path_and_both_sides() {
        let problem = Problem::new("node.id", "a string", "the number 5")
            .with_position(Some(Position { line: 3, column: 7 }));
        assert_eq!(
            problem.in_file("b.yaml"),
            "b.yaml:3:7: node.id: expected a string, found the number 5"
        );
    }
}
