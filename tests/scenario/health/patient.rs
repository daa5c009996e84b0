//! An application whose answers to health checks a test changes while it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// The path of its checks; everything else is a request.
pub(crate) const PATH: &str = "/healthz";

/// How it answers a check.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes again and again after the first ones.
    Endless(Vec<u8>, Vec<u8>),
    /// The connection closes.
    Close,
    /// Nothing.
    Silence,
}

impl Answer {
    /// A status, with a header (`name: value`) or none, and a body.
    pub(crate) fn http(status: u16, header: &str, body: &str) -> Self {
        let end = if header.is_empty() { "" } else { "\r\n" };
        let length = body.len();
        let text = format!("HTTP/1.1 {status} x\r\n{header}{end}content-length: {length}\r\n\r\n{body}");
        Self::Bytes(text.into_bytes())
    }
}

#[derive(Debug)]
struct State {
    answer: Answer,
    /// Header of answers to requests.
    header: String,
    checks: Vec<String>,
    requests: usize,
    connections: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Patient {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

impl Patient {
    pub(crate) async fn start(answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            answer,
            header: String::new(),
            checks: Vec::new(),
            requests: 0,
            connections: 0,
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                lock(&shared).connections += 1;
                // How a connection ends is the proxy's matter.
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self {
            address,
            state,
            task: task.abort_handle(),
        })
    }

    /// One that passes its checks.
    pub(crate) async fn well() -> Result<Self> {
        Self::start(Answer::http(200, "", "ok")).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers checks like this; forgets those that it had.
    pub(crate) fn answers(&self, answer: Answer) {
        let mut state = lock(&self.state);
        state.answer = answer;
        state.checks.clear();
    }

    /// From now on its answers to requests have this header.
    pub(crate) fn says(&self, header: &str) {
        format!("{header}\r\n").clone_into(&mut lock(&self.state).header);
    }

    /// The heads of the checks since its answer changed.
    pub(crate) fn checks(&self) -> Vec<String> {
        lock(&self.state).checks.clone()
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> usize {
        lock(&self.state).requests
    }

    /// The connections so far.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.state).connections
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Result<()> {
    let mut heard = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = heard.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut heard).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&heard[..end]).into_owned();
        heard.drain(..end);
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        while heard.len() < length.unwrap_or(0) {
            stream.read_buf(&mut heard).await?;
        }
        heard.drain(..length.unwrap_or(0));
        if !head.split(' ').nth(1).is_some_and(|path| path.starts_with(PATH)) {
            let header = {
                let mut state = lock(&state);
                state.requests += 1;
                state.header.clone()
            };
            let text = format!("HTTP/1.1 200 OK\r\n{header}content-length: 0\r\n\r\n");
            stream.write_all(text.as_bytes()).await?;
            continue;
        }
        let answer = {
            let mut state = lock(&state);
            state.checks.push(head);
            state.answer.clone()
        };
        match answer {
            Answer::Bytes(bytes) => stream.write_all(&bytes).await?,
            Answer::Endless(first, again) => {
                stream.write_all(&first).await?;
                loop {
                    stream.write_all(&again).await?;
                }
            }
            Answer::Close => return Ok(()),
            Answer::Silence => {}
        }
    }
}
