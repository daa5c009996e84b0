//! Whether the policies of a chain permit a connection (`envoy.filters.network.rbac`), once it is known who the peer is.
//!
//! Holds: nothing is connected and nothing is read for a connection that is refused; it is judged again whenever its
//! chain changes (`worker::registry`). A chain without policies costs one look at a list that is mostly empty.

use std::rc::Rc;
use std::time::Instant;

use remora_model::listener::{FilterChain, Terminal};
use remora_model::metadata::Metadata;
use remora_model::policy::{ConnectionAccess, Verdict};

use super::filters::denied_by;
use crate::observe::{ConnectionRecord, ExchangeRecord, LogType};
use crate::worker::Worker;

/// The name space of what is noted, whatever the filter is called.
const NAMESPACE: &str = "envoy.filters.network.rbac";

/// Asks the policies in order; `None` if the connection is to be closed.
pub async fn permit(
    worker: &Worker,
    chain: &FilterChain,
    mut record: ConnectionRecord,
) -> Option<ConnectionRecord> {
    for access in chain.policies() {
        let facts = record.access_facts();
        let control = &access.control;
        let shadow = control.shadow.as_ref().map(|engine| engine.judge(&facts));
        let enforced = control.enforced.as_ref().map(|engine| engine.judge(&facts));
        if let Some(verdict) = shadow {
            count_shadow(worker, access, verdict);
            let mut metadata: Box<Metadata> = record.metadata.take().unwrap_or_default();
            metadata.note(NAMESPACE, control.shadow_words.noted(verdict));
            record.metadata = Some(metadata);
        }
        let Some(verdict) = enforced else { continue };
        let cells = worker.counters.connection_access(&access.stat_prefix);
        if verdict.allowed {
            cells.access.allowed.one();
            continue;
        }
        cells.access.denied.one();
        let policy = verdict.policy.map(|name| &**name);
        tracing::debug!(listener = %record.listener, peer = %record.peer, policy, "connection refused by a policy");
        log(worker, chain, record, denied_by(policy));
        if let Some(delay) = access.delay {
            tokio::time::sleep(delay).await;
        }
        return None;
    }
    Some(record)
}

fn count_shadow(worker: &Worker, access: &ConnectionAccess, verdict: Verdict<'_>) {
    let Some([allowed, denied]) = &access.control.shadow_words.stats else {
        let cells = worker.counters.connection_access(&access.stat_prefix);
        if verdict.allowed {
            cells.access.shadow_allowed.one();
        } else {
            cells.access.shadow_denied.one();
        }
        return;
    };
    let stat = if verdict.allowed { allowed } else { denied };
    let tally = worker.counters.connection_tally(&access.stat_prefix, stat);
    tally.tally.count.one();
}

/// The line of a tunnel that does not come to be.
fn log(worker: &Worker, chain: &FilterChain, connection: ConnectionRecord, details: String) {
    let Terminal::Tcp(proxy) = &chain.terminal else {
        return;
    };
    let mut record = ExchangeRecord::new(Rc::new(connection), Instant::now());
    record.metadata = record.connection.metadata.clone();
    record.failure = Some(format!("a policy refused the connection: {details}"));
    record.termination = Some(details.into());
    record.ended = Some(record.started.elapsed());
    record.log_type = LogType::TcpConnectionEnd;
    worker.shared.observe.log(&proxy.access_logs, &record);
}
