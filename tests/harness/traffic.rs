//! Did anybody notice? Steady traffic under a change, and what became of every request.
//!
//! Workers send at fixed times, each on its own connection, and count who answered (by `x-upstream`). An answer that is
//! not 200, a short body or a broken connection is a failure with its words. A connection that the proxy closed in the
//! open, by `connection: close` or GOAWAY between two requests, is opened anew and counted, not failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::client::{Http2Client, RawClient};
use crate::tls;

/// Which protocol a worker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2, prior knowledge or over TLS.
    Http2,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub to: SocketAddr,
    /// Over what.
    pub protocol: Protocol,
    /// TLS, if any; the server name is `server.test`.
    pub tls: Option<Arc<ClientConfig>>,
    /// How many workers, each with one connection.
    pub connections: u32,
    /// Requests per second of all workers together.
    pub per_second: u32,
    /// `host` or `:authority`.
    pub host: String,
    /// The path.
    pub path: String,
    /// The value of `x-behave`, if any.
    pub behave: Option<String>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests answered by 200 and a whole body.
    pub answered: u64,
    /// Who answered how many.
    pub by_upstream: BTreeMap<String, u64>,
    /// What went wrong, one line each.
    pub failures: Vec<String>,
    /// Connections opened again after the proxy closed one in the open.
    pub reconnects: u64,
    /// The time of every answered request.
    pub latencies: Vec<Duration>,
}

/// Traffic that runs until [`Traffic::stop`].
#[derive(Debug)]
pub struct Traffic {
    tally: watch::Sender<Tally>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Plan {
    /// 200 requests per second over 8 connections.
    pub fn new(to: SocketAddr, protocol: Protocol) -> Self {
        Self {
            to,
            protocol,
            tls: None,
            connections: 8,
            per_second: 200,
            host: "test.local".to_owned(),
            path: "/".to_owned(),
            behave: None,
        }
    }
}

impl Tally {
    fn add(&mut self, outcome: Result<(String, Duration)>) {
        match outcome {
            Ok((upstream, latency)) => {
                self.answered += 1;
                *self.by_upstream.entry(upstream).or_default() += 1;
                self.latencies.push(latency);
            }
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    /// The latency below which `share` (0 to 1) of the answered requests lie; zero when there are none.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "an index within the list"
        )]
        let index = ((sorted.len() as f64 - 1.0).max(0.0) * share.clamp(0.0, 1.0)).round() as usize;
        sorted.get(index).copied().unwrap_or_default()
    }
}

impl Traffic {
    /// Starts the workers.
    pub fn start(plan: &Plan) -> Self {
        let (tally, stop) = (watch::Sender::new(Tally::default()), watch::Sender::new(false));
        let mut workers = JoinSet::new();
        for number in 0..plan.connections.max(1) {
            let worker = Worker {
                plan: plan.clone(),
                number,
                tally: tally.clone(),
                connection: None,
            };
            workers.spawn(worker.run(stop.subscribe()));
        }
        Self { tally, stop, workers }
    }

    /// The counts so far.
    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits until `enough` holds of the counts.
    ///
    /// # Errors
    /// When it does not within `within`.
    pub async fn wait(&self, within: Duration, enough: impl Fn(&Tally) -> bool) -> Result<()> {
        let mut tally = self.tally.subscribe();
        match tokio::time::timeout(within, tally.wait_for(|tally| enough(tally))).await {
            Ok(_) => Ok(()),
            Err(_) => bail!("not within {within:?}: {:?}", self.summary()),
        }
    }

    /// Waits until requests that begin from now on are answered by `upstream`.
    ///
    /// # Errors
    /// When they are not within `within`.
    pub async fn moves_to(&self, within: Duration, upstream: &str) -> Result<()> {
        let count = |tally: &Tally| tally.by_upstream.get(upstream).copied().unwrap_or(0);
        let before = count(&self.tally());
        self.wait(within, |tally| count(tally) > before + 10)
            .await
            .with_context(|| format!("moving to {upstream}"))
    }

    /// Lets the requests under way finish.
    ///
    /// # Errors
    /// When one of them failed.
    pub async fn stop_unharmed(self) -> Result<()> {
        let tally = self.stop().await;
        let some = &tally.failures[..tally.failures.len().min(5)];
        ensure!(some.is_empty(), "{} answered, but {some:?}", tally.answered);
        Ok(())
    }

    /// Lets the requests under way finish and returns the counts.
    pub async fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        while self.workers.join_next().await.is_some() {}
        self.tally()
    }

    fn summary(&self) -> String {
        let tally = self.tally.borrow();
        let failures = &tally.failures[..tally.failures.len().min(5)];
        format!(
            "{} answered by {:?}, failures {failures:?}",
            tally.answered, tally.by_upstream
        )
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

enum Connection {
    Http1(RawClient<Box<dyn Stream>>),
    Http2(Http2Client),
}

struct Worker {
    plan: Plan,
    number: u32,
    tally: watch::Sender<Tally>,
    connection: Option<Connection>,
}

impl Worker {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let workers = self.plan.connections.max(1);
        let period = Duration::from_secs(1) * workers / self.plan.per_second.max(1);
        let start = tokio::time::Instant::now() + period * self.number / workers;
        let mut ticks = tokio::time::interval_at(start, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            let begun = Instant::now();
            let outcome = self.once().await;
            if outcome.is_err() {
                self.connection = None;
            }
            self.tally
                .send_modify(|tally| tally.add(outcome.map(|upstream| (upstream, begun.elapsed()))));
        }
    }

    async fn once(&mut self) -> Result<String> {
        if let Some(Connection::Http2(client)) = &self.connection
            && client.handle().ready().await.is_err()
        {
            self.connection = None;
            self.tally.send_modify(|tally| tally.reconnects += 1);
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await.context("connecting")?,
        };
        match connection {
            Connection::Http1(client) => self.http1(client).await,
            Connection::Http2(client) => self.http2(client).await,
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.plan.to).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.plan.tls {
            None => Box::new(stream),
            Some(config) => Box::new(tls::connect(Arc::clone(config), "server.test", stream).await?),
        };
        Ok(match self.plan.protocol {
            Protocol::Http1 => Connection::Http1(RawClient::over(stream)),
            Protocol::Http2 => Connection::Http2(Http2Client::over(stream).await?),
        })
    }

    async fn http1(&mut self, mut client: RawClient<Box<dyn Stream>>) -> Result<String> {
        let Plan {
            path, host, behave, ..
        } = &self.plan;
        let behave = behave
            .as_ref()
            .map_or_else(String::new, |words| format!("x-behave: {words}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{behave}\r\n");
        let response = client.exchange(request.as_bytes()).await?;
        if response.status() != 200 || !response.body.complete {
            bail!("{} with {:?}", response.head.start_line, response.text());
        }
        let closes = response
            .head
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if closes {
            self.tally.send_modify(|tally| tally.reconnects += 1);
        } else {
            self.connection = Some(Connection::Http1(client));
        }
        Ok(response.head.header("x-upstream").unwrap_or("").to_owned())
    }

    async fn http2(&mut self, client: Http2Client) -> Result<String> {
        let Plan {
            path, host, behave, ..
        } = &self.plan;
        let mut request = http::Request::builder().uri(format!("http://{host}{path}"));
        if let Some(words) = behave {
            request = request.header("x-behave", words);
        }
        let response = client.exchange(request.body(())?, Bytes::new(), None).await?;
        if response.head.status() != 200 || response.reset.is_some() {
            bail!(
                "{} with {:?}, reset {:?}",
                response.head.status(),
                response.body,
                response.reset
            );
        }
        self.connection = Some(Connection::Http2(client));
        let upstream = response
            .head
            .headers()
            .get("x-upstream")
            .and_then(|value| value.to_str().ok());
        Ok(upstream.unwrap_or("").to_owned())
    }
}
