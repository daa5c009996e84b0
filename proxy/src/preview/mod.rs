//! What would this configuration do? The commands `remora check`, `diff` and `fields`, which run nothing.
//!
//! Holds: what is said comes from `remora-translate`, which also serves; here it only becomes words or JSON. The
//! descriptors that reading needs live as long as the command. Exit codes: 0 nothing to report, 1 something to report
//! (a rejection, a difference), 2 not to be read.

mod check;
mod diff;
mod fields;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use remora_translate::preview::{Contents, Input, Tier, Unreadable};
use remora_translate::{Pool, PoolError};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// Sentences.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// `remora check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Files of xDS resources, bootstraps or config dumps (YAML, JSON, .pb); all of them make one world. `-` is
    /// standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// `remora diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The configuration before: a file of xDS resources, a bootstrap or a config dump. `-` is standard input
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The configuration after
    #[arg(value_name = "B")]
    after: PathBuf,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// `remora fields`.
#[derive(Debug, Args)]
pub struct FieldsArguments {
    /// Only messages whose full name contains this, such as `Cluster` or `route.v3.`
    #[arg(long = "type", value_name = "T")]
    message: Option<String>,
    /// Only fields that are honoured, ignored or rejected
    #[arg(long, value_enum)]
    tier: Option<TierArgument>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "text")]
    output: TableOutput,
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TableOutput {
    /// A line each.
    #[default]
    Text,
    /// One JSON list.
    Json,
    /// A page of Markdown.
    Markdown,
}

/// A tier of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TierArgument {
    /// Does what the API says.
    Honoured,
    /// Has no effect, and is counted.
    Ignored,
    /// Makes its resource be rejected.
    Rejected,
}

impl From<TierArgument> for Tier {
    fn from(said: TierArgument) -> Self {
        match said {
            TierArgument::Honoured => Self::Honoured,
            TierArgument::Ignored => Self::Ignored,
            TierArgument::Rejected => Self::Rejected,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// A file cannot be opened.
    #[error("unable to read file: {0}: {1}")]
    File(PathBuf, io::Error),
    /// A file is nothing that we know.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The descriptors do not load.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The answer cannot be written.
    #[error("unable to write the answer: {0}")]
    Write(#[from] io::Error),
}

/// Exit code for what cannot be read.
const UNREADABLE: u8 = 2;

/// Runs a command: its answer goes to standard output, a failure to standard error.
fn answer(run: impl FnOnce(&mut dyn Write) -> Result<bool, PreviewError>) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let said = run(&mut out).and_then(|clean| {
        out.flush()?;
        Ok(clean)
    });
    match said {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(PreviewError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            // The program's last word; where even that cannot be written, the exit code speaks.
            let _ = writeln!(io::stderr(), "remora: {error}");
            ExitCode::from(UNREADABLE)
        }
    }
}

/// `remora check FILE...`: 0 where everything is accepted, 1 where something is rejected.
pub fn check(arguments: &CheckArguments) -> ExitCode {
    answer(|out| {
        let pool = Pool::load()?;
        let contents = read(&pool, &arguments.files)?;
        let checked = remora_translate::preview::check(&pool, contents, &crate::tls::check);
        match arguments.output {
            Output::Text => check::text(&checked, out)?,
            Output::Json => check::json(&checked, out)?,
        }
        Ok(checked.rejections.is_empty())
    })
}

/// `remora diff A B`: 0 where both do the same, 1 where they differ.
pub fn diff(arguments: &DiffArguments) -> ExitCode {
    answer(|out| {
        let pool = Pool::load()?;
        let before = read(&pool, std::slice::from_ref(&arguments.before))?;
        let after = read(&pool, std::slice::from_ref(&arguments.after))?;
        let changes = remora_translate::preview::diff(&pool, &before, &after);
        match arguments.output {
            Output::Text => diff::text(&changes, out)?,
            Output::Json => diff::json(&changes, out)?,
        }
        Ok(changes.is_empty())
    })
}

/// `remora fields`: the table of every field of every message that is read.
pub fn fields(arguments: &FieldsArguments) -> ExitCode {
    answer(|out| {
        let mut rows = remora_translate::preview::fields(&Pool::load()?);
        if let Some(part) = &arguments.message {
            rows.retain(|row| row.message.contains(part.as_str()));
        }
        if let Some(tier) = arguments.tier {
            rows.retain(|row| row.tier == tier.into());
        }
        match arguments.output {
            TableOutput::Text => fields::text(&rows, out)?,
            TableOutput::Json => fields::json(&rows, out)?,
            TableOutput::Markdown => fields::page(&rows, out)?,
        }
        Ok(true)
    })
}

/// What is in the files.
fn read(pool: &Pool, paths: &[PathBuf]) -> Result<Contents, PreviewError> {
    let mut files = Vec::new();
    for path in paths {
        let content = if path.as_os_str() == "-" {
            io::read_to_string(io::stdin()).map(String::into_bytes)
        } else {
            std::fs::read(path)
        };
        let content = content.map_err(|error| PreviewError::File(path.clone(), error))?;
        files.push((path.display().to_string(), content));
    }
    let inputs: Vec<Input<'_>> = files
        .iter()
        .map(|(name, content)| Input { name, content })
        .collect();
    Ok(Contents::read(pool, &inputs)?)
}
