//! The program `remora`: the command line, and nothing that a library user would miss.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use remora::bootstrap::{self, Arguments, Mode};
use remora::observe::Observe;
use remora::observe::logging::Logging;
use remora::{control, preview, redirect};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A sidecar proxy that follows Envoy xDS v3
#[derive(Debug, Parser)]
#[command(name = "remora", version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(flatten)]
    serve: Arguments,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "parsed once")]
enum Command {
    /// Lay, remove or print the rules that send this network namespace's connections through the proxy
    Redirect(redirect::Arguments),
    /// Say what of some configuration is rejected and what is ignored, and why
    Check(preview::CheckArguments),
    /// Say what changes between two configurations: listeners, routes, clusters, endpoints, identities
    Diff(preview::DiffArguments),
    /// Print every field of the xDS messages that are read: honoured, ignored or rejected, and why
    Fields(preview::FieldsArguments),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let outcome = match command_line.command {
        Some(Command::Redirect(arguments)) => redirect::run(arguments).map_err(anyhow::Error::from),
        Some(Command::Check(arguments)) => return preview::check(&arguments),
        Some(Command::Diff(arguments)) => return preview::diff(&arguments),
        Some(Command::Fields(arguments)) => return preview::fields(&arguments),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut CommandLine::command(), "remora", &mut script);
            std::io::stdout().write_all(&script).map_err(anyhow::Error::from)
        }
        None => serve(&command_line.serve),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The program's last word; where even that cannot be written, the exit code speaks.
            let _ = writeln!(std::io::stderr(), "remora: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let observe = Arc::new(Observe::default());
    let logging = Logging::start(&arguments.logging()?)?;
    for flag in arguments.without_effect.given() {
        tracing::warn!("{flag} has no effect here");
    }
    let read = bootstrap::read(arguments)?;
    if arguments.mode == Mode::Validate {
        control::validate(&read.bootstrap)?;
        let name = arguments
            .config_path
            .as_ref()
            .map_or("(inline)".into(), |path| path.display().to_string());
        writeln!(std::io::stdout(), "configuration '{name}' OK")?;
        return Ok(());
    }
    let options = bootstrap::options(arguments, read, observe, logging);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())?;
    runtime.block_on(control::run(options))
}
