//! The program `remora`.

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "remora", version, about = "A sidecar proxy that follows Envoy xDS v3")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lay, remove or print the rules that send this network namespace's connections through the proxy
    Redirect(remora::redirect::Arguments),
}

#[expect(
    clippy::print_stderr,
    reason = "the program's last word, before or without a log"
)]
fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Redirect(arguments) => remora::redirect::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remora: {error}");
            ExitCode::FAILURE
        }
    }
}
