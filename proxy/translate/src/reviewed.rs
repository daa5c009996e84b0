//! How is every field of a message accounted for?
//!
//! Holds: for each message that we read, every field stands in exactly one of three lists (honoured, ignored with a
//! reason, refused with a reason); a field that a newer API adds does not compile until somebody has decided. The lists
//! are data in [`crate::ignored`]. A honoured field is handled by the translation of its message.

use std::collections::HashMap;

use crate::context::Work;

/// A message whose every field was reviewed.
pub(crate) trait Reviewed: prost::Name {
    /// The name that its fields have in the lists: `Cluster` of `Cluster.outlier_detection`.
    const SHORT: &'static str;
    /// Honoured fields, by their names in the message.
    const HONOURED: &'static [&'static str];
    /// Ignored fields by full name, each with the reason.
    const IGNORED: &'static [(&'static str, &'static str)];
    /// Refused fields by full name, each with the reason.
    const REFUSED: &'static [(&'static str, &'static str)];

    /// Counts the ignored fields that are set, and notes a problem for each refused one that is.
    fn review(&self, work: &mut Work<'_, '_>);
}

/// Whether a field says anything, by proto3's rule: not its default.
pub(crate) trait Said {
    fn said(&self) -> bool;
}

impl<T> Said for Option<T> {
    fn said(&self) -> bool {
        self.is_some()
    }
}

impl<T> Said for Vec<T> {
    fn said(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V> Said for HashMap<K, V> {
    fn said(&self) -> bool {
        !self.is_empty()
    }
}

impl Said for String {
    fn said(&self) -> bool {
        !self.is_empty()
    }
}

impl Said for bool {
    fn said(&self) -> bool {
        *self
    }
}

impl Said for i32 {
    fn said(&self) -> bool {
        *self != 0
    }
}

impl Said for u32 {
    fn said(&self) -> bool {
        *self != 0
    }
}

impl Said for i64 {
    fn said(&self) -> bool {
        *self != 0
    }
}

/// Says for every field of a message whether it is honoured, ignored or refused.
macro_rules! reviewed {
    ($message:path as $name:literal {
        honoured: [$($honoured:ident),* $(,)?]
        ignored: { $($ignored:ident: $why:literal),* $(,)? }
        refused: { $($refused:ident: $because:literal),* $(,)? }
    }) => {
        impl $crate::reviewed::Reviewed for $message {
            const SHORT: &'static str = $name;
            const HONOURED: &'static [&'static str] = &[$(stringify!($honoured)),*];
            const IGNORED: &'static [(&'static str, &'static str)] =
                &[$((concat!($name, ".", stringify!($ignored)), $why)),*];
            const REFUSED: &'static [(&'static str, &'static str)] =
                &[$((concat!($name, ".", stringify!($refused)), $because)),*];

            fn review(&self, work: &mut $crate::context::Work<'_, '_>) {
                let Self { $($honoured: _,)* $($ignored,)* $($refused,)* } = self;
                $(if $crate::reviewed::Said::said($ignored) {
                    work.ignored(concat!($name, ".", stringify!($ignored)));
                })*
                $(if $crate::reviewed::Said::said($refused) {
                    work.wrong_at(stringify!($refused), concat!("is not supported: ", $because));
                })*
                let _ = work;
            }
        }
    };
}
pub(crate) use reviewed;
