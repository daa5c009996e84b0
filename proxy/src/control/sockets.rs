//! The sockets that listeners are bound to: opened when a listener is accepted, handed to the workers when it is ready,
//! closed when the last listener with their address is gone.
//!
//! Holds: an address that cannot be bound is a reason to reject the listener; an update that keeps an address keeps its
//! socket.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use remora_model::listener::{ListenAddress, Listener};

use crate::accept::{self, BoundSocket};
use crate::worker::{Command, WorkerThread};

#[derive(Debug)]
enum Held {
    /// Bound, not yet given to the workers.
    Waiting(Vec<BoundSocket>),
    /// The workers accept on it.
    Accepting,
}

/// All sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    held: HashMap<ListenAddress, Held>,
    local: HashMap<ListenAddress, SocketAddr>,
}

impl Sockets {
    /// Binds what the listener needs and is not bound yet.
    ///
    /// # Errors
    /// The address that failed, and why; what was bound for this call is released.
    pub fn bind(&mut self, listener: &Listener, workers: usize) -> Result<(), String> {
        if !listener.bind_to_port {
            return Ok(());
        }
        let mut fresh = Vec::new();
        for address in &listener.addresses {
            if self.held.contains_key(address) {
                continue;
            }
            match accept::bind(address, workers, listener.tcp_backlog) {
                Ok(sockets) => {
                    if let Some(local) = sockets.first().and_then(BoundSocket::local) {
                        self.local.insert(address.clone(), local);
                    }
                    self.held.insert(address.clone(), Held::Waiting(sockets));
                    fresh.push(address.clone());
                }
                Err(error) => {
                    for address in fresh {
                        self.held.remove(&address);
                    }
                    return Err(format!("cannot bind '{address}': {}", words_of(&error)));
                }
            }
        }
        Ok(())
    }

    /// Gives the sockets of a listener that is ready to the workers. They listen from here on: before, a connection
    /// is refused instead of waiting for a listener that may never be ready.
    pub fn start(&mut self, listener: &Listener, workers: &[WorkerThread]) {
        if !listener.bind_to_port {
            return;
        }
        for address in &listener.addresses {
            let Some(held) = self.held.get_mut(address) else {
                continue;
            };
            if let Held::Waiting(sockets) = std::mem::replace(held, Held::Accepting) {
                for (worker, socket) in workers.iter().zip(sockets) {
                    if let Err(error) = socket.listen() {
                        tracing::error!(%error, %address, "cannot listen");
                    }
                    worker.tell(Command::Listen(address.clone(), socket));
                }
            }
        }
    }

    /// Closes every socket whose address is not `wanted`.
    pub fn keep_only(&mut self, wanted: impl Fn(&ListenAddress) -> bool, workers: &[WorkerThread]) {
        self.held.retain(|address, held| {
            let keep = wanted(address);
            if !keep && matches!(held, Held::Accepting) {
                for worker in workers {
                    worker.tell(Command::Unlisten(address.clone()));
                }
            }
            keep
        });
        self.local.retain(|address, _| self.held.contains_key(address));
    }

    /// The address that the system gave for a configured one.
    pub fn local(&self, address: &ListenAddress) -> Option<SocketAddr> {
        self.local.get(address).copied()
    }
}

fn words_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "Address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "Cannot assign requested address".into(),
        io::ErrorKind::PermissionDenied => "Permission denied".into(),
        _ => error.to_string(),
    }
}
