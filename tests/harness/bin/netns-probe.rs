//! What a test runs inside a network namespace: listeners and callers that say what they saw, as any user.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use remora::accept::original_destination::original_destination;
use socket2::{Domain, Socket, Type};

/// How long a call may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Parser)]
enum Arguments {
    /// Become a user and group, then run a program
    As {
        uid: u32,
        gid: u32,
        program: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Listen on each NAME=ADDRESS, write one line when ready, and tell each caller what is known about its connection;
    /// ends with standard input
    Listen { listeners: Vec<String> },
    /// Call an address and write the line that its listener answers
    Call {
        /// Bind this address first
        #[arg(long)]
        from: Option<std::net::IpAddr>,
        to: SocketAddr,
    },
    /// `remora redirect`
    Redirect(Box<remora::redirect::Arguments>),
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::As {
            uid,
            gid,
            program,
            arguments,
        } => Err(Command::new(&program).args(arguments).gid(gid).uid(uid).exec()).context(program),
        Arguments::Listen { listeners } => listen(&listeners),
        Arguments::Call { from, to } => call(from, to),
        Arguments::Redirect(arguments) => Ok(remora::redirect::run(*arguments)?),
    }
}

fn listen(listeners: &[String]) -> Result<()> {
    for listener in listeners {
        let (name, address) = listener.split_once('=').context("expected NAME=ADDRESS")?;
        let listener = std::net::TcpListener::bind(address).with_context(|| format!("binding {address}"))?;
        let name = name.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A caller that has gone away is its own test's failure.
                let _ = answer(&name, stream);
            }
        });
    }
    writeln!(std::io::stdout(), "listening")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn answer(name: &str, mut stream: std::net::TcpStream) -> Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let original = original_destination(&stream)?.map_or("-".to_owned(), |original| original.0.to_string());
    Ok(writeln!(stream, "{name} peer={peer} original={original}")?)
}

fn call(from: Option<std::net::IpAddr>, to: SocketAddr) -> Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if let Some(from) = from {
        socket
            .bind(&SocketAddr::new(from, 0).into())
            .with_context(|| format!("binding {from}"))?;
    }
    socket
        .connect_timeout(&to.into(), PATIENCE)
        .with_context(|| format!("calling {to}"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(socket.take(1024)).read_line(&mut line)?;
    Ok(write!(std::io::stdout(), "{line}")?)
}
