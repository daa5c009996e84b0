//! The caller's hold on a running client, and the half of a driver that is the same for streams and files.
//!
//! What holds: the lock is held for one call of the session and never across an await; events reach the caller in
//! the order in which they happened; a caller that stops receiving ends the driver.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use crate::session::Session;
use crate::status::{StreamStatus, TypeStatus};
use crate::update::{Event, Interest, Rejection, ResponseToken};

/// Events on their way to the caller, before the driver waits for it.
const EVENT_QUEUE: usize = 16;

/// Says what is wanted and gives verdicts, at any time, connected or not. The client ends when its events are
/// dropped, not when its handles are.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    session: Mutex<Session>,
    /// There may be requests to send.
    requests: Notify,
    /// There may be events to deliver, or an earlier deadline.
    events: Notify,
}

impl Handle {
    /// See [`Session::want`].
    pub fn want(&self, type_url: &str, interest: Interest) {
        self.session().want(type_url, interest);
        self.changed();
    }

    /// See [`Session::set_fetch_timeout`].
    pub fn set_fetch_timeout(&self, type_url: &str, timeout: Option<Duration>) {
        self.session().set_fetch_timeout(type_url, timeout);
    }

    /// See [`Session::verdict`].
    pub fn verdict(&self, response: ResponseToken, rejections: Vec<Rejection>) {
        self.session().verdict(response, rejections, now());
        self.changed();
    }

    /// See [`Session::status`].
    #[must_use]
    pub fn status(&self, type_url: &str) -> Option<TypeStatus> {
        self.session().status(type_url)
    }

    /// See [`Session::statuses`].
    #[must_use]
    pub fn statuses(&self) -> Vec<TypeStatus> {
        self.session().statuses()
    }

    /// See [`Session::overview`].
    #[must_use]
    pub fn overview(&self) -> Vec<TypeStatus> {
        self.session().overview()
    }

    /// See [`Session::stream_status`].
    #[must_use]
    pub fn stream_status(&self) -> StreamStatus {
        self.session().stream_status().clone()
    }

    /// Whether a stream is open now (`control_plane.connected_state`).
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session().is_open()
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        self.0.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes both halves of the driver.
    fn changed(&self) {
        self.0.requests.notify_one();
        self.0.events.notify_one();
    }

    /// The half that talks to the peer wakes the other one.
    pub(crate) fn may_have_events(&self) {
        self.0.events.notify_one();
    }

    /// Until the caller said something.
    pub(crate) async fn may_have_requests(&self) {
        self.0.requests.notified().await;
    }
}

/// The clock of the runtime, so that a test can hold it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Delivers events and watches the deadlines of one session.
#[derive(Debug)]
pub(crate) struct Attendant {
    pub(crate) handle: Handle,
    events: mpsc::Sender<Event>,
}

impl Attendant {
    pub(crate) fn new(session: Session) -> (Self, mpsc::Receiver<Event>) {
        let shared = Shared {
            session: Mutex::new(session),
            requests: Notify::new(),
            events: Notify::new(),
        };
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        (
            Self {
                handle: Handle(Arc::new(shared)),
                events,
            },
            receiver,
        )
    }

    /// Does `work`, and meanwhile everything that the session needs without its peer. Nothing when the caller is gone.
    pub(crate) async fn attend<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let (deadline, has_event) = {
                let session = self.handle.session();
                (session.next_deadline(), session.has_event())
            };
            let far = || tokio::time::Instant::now() + Duration::from_secs(3600);
            let wake_at = deadline.map_or_else(far, tokio::time::Instant::from_std);
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.events.closed() => return None,
                permit = self.events.reserve(), if has_event => {
                    if let (Ok(permit), Some(event)) = (permit, self.handle.session().poll_event()) {
                        permit.send(event);
                        // An event less may let the peer be read again.
                        self.handle.0.requests.notify_one();
                    }
                }
                () = tokio::time::sleep_until(wake_at) => {
                    self.handle.session().on_time(now());
                    self.handle.0.requests.notify_one();
                }
                () = self.handle.0.events.notified() => {}
            }
        }
    }
}
