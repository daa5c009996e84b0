//! Slows responses down (`response_rate_limit` of the fault filter).

use std::cell::RefCell;

use remora_model::filter::ActiveFault;

use crate::data_path::body::Stages;
use crate::data_path::body::pace::Paced;
use crate::exchange::{BodyLength, ResponseHead};

/// A response that is to be slowed down.
#[derive(Debug)]
pub struct Slow {
    kib_per_second: u64,
    /// Goes to the stage with the response.
    active: RefCell<Option<ActiveFault>>,
}

impl Slow {
    /// To so many KiB a second.
    pub fn new(kib_per_second: u64, active: ActiveFault) -> Self {
        Self {
            kib_per_second,
            active: RefCell::new(Some(active)),
        }
    }

    /// Puts it in the way of a body. An answer of our own is short and leaves at once.
    pub fn respond(&self, head: &ResponseHead, own: bool, stages: &mut Option<Box<Stages>>) {
        if own || head.body == BodyLength::None {
            return;
        }
        if let Some(active) = self.active.take() {
            let paced = Paced::new(self.kib_per_second, active);
            stages.get_or_insert_default().push(Box::new(paced));
        }
    }
}
