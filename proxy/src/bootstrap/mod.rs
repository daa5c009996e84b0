//! What flags, file and machine say, turned into what this process will do.
//!
//! Holds: nothing is started before everything was read; all errors of a file are reported at once. The descriptors that
//! reading needs (12 MB) are gone when reading is done.

mod arguments;

pub use arguments::{Arguments, Mode};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use remora_translate::bootstrap::{Bootstrap, Input, NodeFlags, load};
use remora_translate::{Pool, UnknownFields, WriteOptions};

use crate::control;
use crate::observe::Observe;
use crate::observe::logging::Logging;

/// Workers at most, unless the command line says otherwise: a pod's sidecar rarely earns more, and each costs memory.
const WORKERS: usize = 2;

/// A bootstrap that was read.
#[derive(Debug)]
pub struct Read {
    /// What it says.
    pub bootstrap: Bootstrap,
    /// The node in proto field names.
    pub node: serde_json::Value,
    /// Of everything that the bootstrap was made of: another bootstrap has another one.
    pub fingerprint: u64,
}

/// Reads the bootstrap that the arguments name, on a thread of its own: what the allocator keeps at hand for a thread
/// (with jemalloc 5 MB of the 12 that the descriptors took) is given back when the thread ends.
///
/// # Errors
/// Every problem of file and inline text, a line each.
pub fn read(arguments: &Arguments) -> anyhow::Result<Read> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new()
            .name("bootstrap".into())
            .spawn_scoped(scope, || read_here(arguments))
            .context("starting the reader of the bootstrap")?;
        reader
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the reader of the bootstrap broke off")))
    })
}

fn read_here(arguments: &Arguments) -> anyhow::Result<Read> {
    let file = match &arguments.config_path {
        None => None,
        Some(path) => {
            let content =
                std::fs::read(path).with_context(|| format!("unable to read file: {}", path.display()))?;
            Some((path.display().to_string(), content))
        }
    };
    if file.is_none() && arguments.config_yaml.is_none() {
        return Err(anyhow!(
            "at least one of --config-path or --config-yaml should be non-empty (see remora --help)"
        ));
    }
    let input = Input {
        file: file
            .as_ref()
            .map(|(name, content)| (name.as_str(), content.as_slice())),
        inline: arguments.config_yaml.as_deref(),
        unknown_fields: if arguments.allow_unknown_static_fields {
            UnknownFields::Warn
        } else {
            UnknownFields::Refuse
        },
        node: NodeFlags {
            id: arguments.service_node.as_deref(),
            cluster: arguments.service_cluster.as_deref(),
            zone: arguments.service_zone.as_deref(),
        },
    };
    let pool = Pool::load().context("the descriptors of Envoy's messages")?;
    let loaded = load(&pool, &input).map_err(|refused| anyhow!("{refused}"))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for field in &loaded.bootstrap.ignored {
        tracing::info!("'{field}' is set and has no effect here");
    }
    let options = WriteOptions::default();
    let node = pool.write(
        &loaded.bootstrap.node.encoded,
        "envoy.config.core.v3.Node",
        options,
    )?;
    Ok(Read {
        bootstrap: loaded.bootstrap,
        node,
        fingerprint: fingerprint(&input),
    })
}

/// Of the texts and not of the message: encoded twice, its maps come in two orders.
fn fingerprint(input: &Input<'_>) -> u64 {
    let NodeFlags { id, cluster, zone } = input.node;
    let parts = [
        input.file.map(|(_, content)| content),
        input.inline.map(str::as_bytes),
        id.map(str::as_bytes),
        cluster.map(str::as_bytes),
        zone.map(str::as_bytes),
    ];
    let mut all = Vec::new();
    for part in parts {
        // A length that no text has tells "none" from "empty".
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        all.extend(length.to_le_bytes());
        all.extend_from_slice(part.unwrap_or_default());
    }
    rapidhash::v3::rapidhash_v3(&all)
}

/// What the control thread is to do.
pub fn options(
    arguments: &Arguments,
    read: Read,
    observe: Arc<Observe>,
    logging: Logging,
) -> control::Options {
    let state = arguments
        .state_dir
        .as_ref()
        .map(|directory| control::StateOptions {
            directory: directory.clone(),
            wait: Duration::from_millis(arguments.state_wait_ms),
            fingerprint: read.fingerprint,
        });
    control::Options {
        state,
        ignore_deletion: arguments.ignore_resource_deletion,
        on_demand_idle: arguments.on_demand_endpoints.map(Duration::from_secs),
        bootstrap: read.bootstrap,
        node: read.node,
        concurrency: concurrency(arguments.concurrency),
        drain_time: Duration::from_secs(arguments.drain_time_s),
        admin_address_path: arguments.admin_address_path.as_deref().map(Path::to_path_buf),
        command_line: arguments.described(),
        observe,
        logging,
    }
}

/// How many workers: what was said, else what the cgroup allows, two at most.
fn concurrency(said: Option<usize>) -> usize {
    match said {
        Some(0) | None => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS)),
        Some(workers) => workers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_as_told_or_few() {
        assert_eq!(concurrency(Some(7)), 7);
        assert!((1..=WORKERS).contains(&concurrency(None)));
    }
}
