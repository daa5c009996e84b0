//! Resources of one type from a file that holds a `DiscoveryResponse` (`path_config_source`): the same events as
//! from a server, without one.
//!
//! What holds: the file is read when something is renamed into the watched directory, and at no other sign (Envoy's
//! rule), because a file written in place could be seen half-written. A file that cannot be read or parsed changes
//! nothing. Verdicts are remembered; there is nobody to send them to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;

use crate::directory_watch::DirectoryWatch;
use crate::handle::{Attendant, Handle, now};
use crate::session::{Session, Settings, Variant};
use crate::update::Event;
use crate::wire::ResponseHead;

/// How often a directory that cannot be watched is looked at.
const RETRY: Duration = Duration::from_secs(1);

/// One file.
#[derive(Clone, Debug)]
pub struct FileConfig {
    /// The type of the resources in it; the file may leave it out.
    pub type_url: Arc<str>,
    /// The file.
    pub path: PathBuf,
    /// The directory in which renames count; the file's own if unset.
    pub watched_directory: Option<PathBuf>,
    /// See [`Settings::fetch_timeout`].
    pub fetch_timeout: Option<Duration>,
}

/// Starts to follow a file on the current runtime; it ends when the receiver of its events is dropped.
///
/// `parse` turns the content (YAML, JSON or protobuf, told apart by the path) into an encoded
/// `envoy.service.discovery.v3.DiscoveryResponse`, or says why it is none.
pub fn spawn<P>(config: FileConfig, parse: P) -> (Handle, mpsc::Receiver<Event>)
where
    P: Fn(&Path, &[u8]) -> Result<Bytes, String> + Send + Sync + 'static,
{
    let mut settings = Settings::new(Variant::StateOfTheWorld, Bytes::new());
    settings.only_type = Some(config.type_url.clone());
    settings.fetch_timeout = config.fetch_timeout;
    let (attendant, events) = Attendant::new(Session::new(settings));
    let handle = attendant.handle.clone();
    let follower = Follower {
        config,
        parse,
        handle: handle.clone(),
        raw: Err(String::new()),
        response: None,
        complaint: None,
    };
    tokio::spawn(async move {
        // Ends when the caller stops receiving.
        let _: Option<()> = attendant.attend(follower.run()).await;
    });
    (handle, events)
}

struct Follower<P> {
    config: FileConfig,
    parse: P,
    handle: Handle,
    /// What was read last, or why nothing was.
    raw: Result<Vec<u8>, String>,
    /// The last response that could be parsed.
    response: Option<Bytes>,
    /// Why the file is of no use, until somebody who wants the type was told.
    complaint: Option<String>,
}

impl<P: Fn(&Path, &[u8]) -> Result<Bytes, String>> Follower<P> {
    async fn run(mut self) {
        let name = self.config.path.to_string_lossy().into();
        self.handle.session().connected(name, now());
        self.handle.may_have_events();
        loop {
            let watch = DirectoryWatch::new(&self.directory());
            // Read after the watch stands, so that no rename falls between.
            self.read().await;
            match watch {
                Ok(watch) => self.follow(watch).await,
                Err(error) => {
                    tracing::warn!(directory = %self.directory().display(), %error, "cannot watch, looking every second");
                    self.listen_for(tokio::time::sleep(RETRY)).await;
                }
            }
        }
    }

    /// Until the watch is of no use any more.
    async fn follow(&mut self, mut watch: DirectoryWatch) {
        loop {
            if self.listen_for(watch.renamed()).await.is_err() {
                self.listen_for(tokio::time::sleep(RETRY)).await;
                return;
            }
            self.read().await;
        }
    }

    /// Waits for `sign`, and meanwhile answers changes of interest from what was read last.
    async fn listen_for<T>(&mut self, sign: impl Future<Output = T>) -> T {
        let mut sign = std::pin::pin!(sign);
        loop {
            self.serve_interest();
            tokio::select! {
                result = &mut sign => return result,
                () = self.handle.may_have_requests() => {}
            }
        }
    }

    fn serve_interest(&mut self) {
        let mut changed = false;
        while let Some(request) = { self.handle.session().poll_request(now()) } {
            changed |= request.changes_interest;
        }
        if changed {
            self.offer();
        }
        self.complain();
    }

    async fn read(&mut self) {
        let path = self.config.path.clone();
        let raw = tokio::fs::read(&path)
            .await
            .map_err(|error| format!("{}: {error}", path.display()));
        if raw == self.raw {
            return;
        }
        let parsed = match &raw {
            Ok(raw) => (self.parse)(&path, raw).and_then(versioned),
            Err(reason) => Err(reason.clone()),
        };
        self.raw = raw;
        // What is wanted must be known before something is offered.
        self.serve_interest();
        match parsed {
            Ok(response) => {
                self.response = Some(response);
                self.complaint = None;
                self.offer();
            }
            Err(reason) => {
                self.complaint = Some(reason);
                self.complain();
            }
        }
    }

    fn complain(&mut self) {
        let mut session = self.handle.session();
        if !session.knows(&self.config.type_url) {
            return;
        }
        if let Some(reason) = self.complaint.take() {
            session.refuse(&self.config.type_url, reason, now());
            self.handle.may_have_events();
        }
    }

    fn offer(&self) {
        if let Some(response) = &self.response {
            let mut session = self.handle.session();
            if let Err(malformed) = session.on_message(response.clone(), now()) {
                session.refuse(&self.config.type_url, malformed.to_string(), now());
            }
            self.handle.may_have_events();
        }
    }

    fn directory(&self) -> PathBuf {
        let parent = || {
            self.config
                .path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
        };
        let directory = self.config.watched_directory.as_deref().or_else(parent);
        directory.unwrap_or(Path::new(".")).to_owned()
    }
}

/// A response without a version gets its hash, as fields that follow win over fields before.
fn versioned(response: Bytes) -> Result<Bytes, String> {
    let head = ResponseHead::decode(response.clone())
        .map_err(|error| format!("expected a discovery response: {error}"))?;
    if !head.version.is_empty() {
        return Ok(response);
    }
    let version = format!("{:016x}", rapidhash::v3::rapidhash_v3(&response));
    let head = ResponseHead {
        version,
        ..ResponseHead::default()
    };
    Ok([response.to_vec(), head.encode_to_vec()].concat().into())
}

#[cfg(test)]
mod tests;
