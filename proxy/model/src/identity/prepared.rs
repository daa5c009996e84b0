//! A place beside a part where the shell keeps what it derived from it.
//!
//! Holds: one derived value at a time, with the generations of the secrets that it was derived from; it dies with the
//! part. Taken once per handshake, so a plain mutex is enough.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Secret generations that a derived value stands for: (certificate, validation); 0 where there is none.
pub type Generations = (u64, u64);

type Slot = Option<(Generations, Arc<dyn Any + Send + Sync>)>;

/// A slot for one derived value.
#[derive(Default)]
pub struct Prepared(Mutex<Slot>);

impl Prepared {
    /// The value derived from these generations, made by `derive` where it is not there yet: from the value before it,
    /// where there was one.
    ///
    /// # Errors
    /// Those of `derive`; the value before is kept then.
    pub fn get_or_derive<T: Any + Send + Sync, E>(
        &self,
        generations: Generations,
        derive: impl FnOnce(Option<Arc<T>>) -> Result<Arc<T>, E>,
    ) -> Result<Arc<T>, E> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = None;
        if let Some((of, value)) = slot.as_ref()
            && let Ok(value) = Arc::clone(value).downcast::<T>()
        {
            if *of == generations {
                return Ok(value);
            }
            before = Some(value);
        }
        let value = derive(before)?;
        *slot = Some((generations, value.clone()));
        Ok(value)
    }

    /// Whether something was derived.
    pub fn is_used(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}
