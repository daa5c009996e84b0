//! `--mode validate`: everything that can be said of a configuration without opening a socket.

use std::sync::Arc;

use bytes::Bytes;
use remora_translate::bootstrap::Bootstrap;

use super::catalog::{Arrived, Catalog};
use super::held::Kind;

/// Translates every static resource.
///
/// # Errors
/// Every problem of every resource, a line each.
pub fn validate(bootstrap: &Bootstrap) -> anyhow::Result<()> {
    let mut catalog = Catalog::new();
    let mut problems = Vec::new();
    let parts = [
        (Kind::Secret, &bootstrap.secrets),
        (Kind::Cluster, &bootstrap.clusters),
        (Kind::Listener, &bootstrap.listeners),
    ];
    for (kind, resources) in parts {
        for resource in resources {
            let arrived = Arrived {
                source: &None,
                name: &resource.name,
                version: &Arc::from(""),
                body: &Bytes::from(resource.bytes.clone()),
                is_static: true,
            };
            if let Err(reason) = catalog.accept(kind, &arrived, &mut |_| Ok(())) {
                problems.push(format!("{}: {reason}", resource.place));
            }
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(anyhow::anyhow!(problems.join("\n")))
    }
}
