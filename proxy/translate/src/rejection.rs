//! What is wrong with a resource, field by field?
//!
//! Holds: a [`Rejection`] names the resource and lists all of its problems, not the first only; its one-line form is
//! what the control plane reads in the NACK. Nothing secret is ever part of a problem.

use std::fmt;

use remora_model::Name;

/// Problems shown in the one-line form; the rest is only counted.
const SHOWN: usize = 8;

/// One thing that is wrong with a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field inside the resource, in proto names: `filter_chains[0].filters[1]`; empty for the whole.
    pub path: String,
    /// What was expected and what was found, or why it cannot be honoured.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.sentence)
        } else {
            write!(f, "{}: {}", self.path, self.sentence)
        }
    }
}

/// A resource that cannot be used, and everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Rejection {
    /// Name of the resource, or `""` where not even that could be read.
    pub resource: Name,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl Rejection {
    /// All problems in one line, without the name of the resource.
    pub fn reason(&self) -> String {
        let mut line = self
            .problems
            .iter()
            .take(SHOWN)
            .map(Problem::to_string)
            .collect::<Vec<_>>()
            .join("; ");
        if self.problems.len() > SHOWN {
            line.push_str(&format!("; and {} more", self.problems.len() - SHOWN));
        }
        line
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str) -> Problem {
        Problem {
            path: path.into(),
            sentence: "is wrong".into(),
        }
    }

    #[test]
    fn a_line_names_the_resource_and_every_field() {
        let rejection = Rejection {
            resource: "web".into(),
            problems: vec![problem("a.b[0]"), problem("")],
        };
        assert_eq!(rejection.to_string(), "web: a.b[0]: is wrong; is wrong");
    }

    #[test]
    fn a_long_list_is_cut() {
        let rejection = Rejection {
            resource: "web".into(),
            problems: vec![problem("x"); 11],
        };
        assert!(rejection.to_string().ends_with("x: is wrong; and 3 more"));
    }
}
