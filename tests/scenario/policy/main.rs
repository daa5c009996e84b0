//! Who may connect and who may ask: policies on open connections, on requests, and by the names of certificates.

mod connections;
mod identities;
mod networks;
