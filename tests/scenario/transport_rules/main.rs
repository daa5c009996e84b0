//! Does the proxy keep every rule of the xDS transport, whatever its control plane does?
//!
//! One test per rule, named after it (`s7_...` is rule S7; the table stands in `README.md`), against the real binary
//! and a control plane that follows the test's script. What is asserted is what was *said*: requests are compared
//! message by message, in both wire variants where the rule concerns both.

mod answers;
mod failure;
mod ignorable;
mod introspection;
mod lifetime;
mod order;
mod refusals;
mod scene;
mod streams;
mod subscriptions;
mod transports;

use anyhow::Result;
use harness::process::Proxy;

/// Runs one script in both wire variants, with the proxies under test.
macro_rules! in_both_variants {
    ($($(#[$attribute:meta])* $name:ident => $script:path;)*) => {$(
        mod $name {
            use harness::scripted::{Delta, Sotw};

            use super::*;

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn delta() -> anyhow::Result<()> {
                if $crate::is_runnable(concat!(stringify!($name), " delta"))? {
                    $script(Scene::<Delta>::start().await?).await?;
                }
                Ok(())
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn state_of_the_world() -> anyhow::Result<()> {
                if $crate::is_runnable(concat!(stringify!($name), " state of the world"))? {
                    $script(Scene::<Sotw>::start().await?).await?;
                }
                Ok(())
            }
        }
    )*};
}
pub(crate) use in_both_variants;

/// Runs one script, which sets its own scene, in both wire variants.
macro_rules! in_each_variant {
    ($($(#[$attribute:meta])* $name:ident => $script:ident;)*) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn delta() -> anyhow::Result<()> {
                if $crate::is_runnable(concat!(stringify!($name), " delta"))? {
                    $script::<harness::scripted::Delta>().await?;
                }
                Ok(())
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn state_of_the_world() -> anyhow::Result<()> {
                if $crate::is_runnable(concat!(stringify!($name), " state of the world"))? {
                    $script::<harness::scripted::Sotw>().await?;
                }
                Ok(())
            }
        }
    )*};
}
pub(crate) use in_each_variant;

/// Whether there is a Remora to test; these scripts are about its manners, not about Envoy's.
///
/// # Errors
/// When it is missing and nothing may be skipped.
fn is_runnable(test: &str) -> Result<bool> {
    Ok(Proxy::under_test(test)?.contains(&Proxy::Remora))
}
