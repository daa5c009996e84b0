//! Resolving the endpoints of STRICT_DNS and LOGICAL_DNS clusters, again and again.
//!
//! Holds: one task per cluster; a failed resolution keeps what was resolved before (Envoy's rule) and is tried again at
//! the failure rate or, without one, the refresh rate; the wait follows the shortest TTL where the cluster says so, never under a second.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use remora_model::cluster::{Discovery, Dns, DnsFamily};
use remora_model::endpoint::{Assignment, EndpointAddress, EndpointDetails, EndpointSpec};
use tokio::sync::mpsc;

/// A cluster whose endpoints were resolved.
#[derive(Debug)]
pub struct Resolved {
    /// The cluster's name.
    pub cluster: remora_model::Name,
    /// Its endpoints; `None` if nothing could be resolved this time.
    pub assignment: Option<Assignment>,
}

/// Resolves for ever.
pub async fn follow(cluster: remora_model::Name, discovery: Discovery, to: mpsc::Sender<Resolved>) {
    let (dns, logical) = match discovery {
        Discovery::StrictDns(dns) => (dns, false),
        Discovery::LogicalDns(dns) => (dns, true),
        _ => return,
    };
    let resolver = match TokioResolver::builder_tokio().and_then(|builder| builder.build()) {
        Ok(resolver) => resolver,
        Err(error) => {
            tracing::error!(%error, %cluster, "no DNS resolver");
            return;
        }
    };
    let mut failures = 0;
    loop {
        let (assignment, ttl) = resolve(&resolver, &dns, logical).await;
        failures = if assignment.is_none() { failures + 1 } else { 0 };
        if to
            .send(Resolved {
                cluster: Arc::clone(&cluster),
                assignment,
            })
            .await
            .is_err()
        {
            return;
        }
        let wait = match (ttl, dns.failure) {
            (_, Some(failure)) if failures > 0 => failure.wait(failures, &mut fastrand::Rng::new()),
            (Some(ttl), _) if dns.respect_ttl => ttl.max(Duration::from_secs(1)),
            _ => dns.refresh,
        };
        let jitter = dns.jitter.mul_f64(fastrand::f64());
        tokio::time::sleep(wait + jitter).await;
    }
}

/// All targets resolved, and the shortest TTL. `None` if no name resolved.
async fn resolve(
    resolver: &TokioResolver,
    dns: &Dns,
    logical: bool,
) -> (Option<Assignment>, Option<Duration>) {
    let mut assignment = (*dns.targets).clone();
    let (mut found, mut ttl) = (false, None::<Duration>);
    for locality in &mut assignment.localities {
        let mut endpoints = Vec::new();
        for target in &locality.endpoints {
            let EndpointAddress::Host(host, port) = &target.address else {
                found = true;
                endpoints.push(target.clone());
                continue;
            };
            let (addresses, lives) = lookup(resolver, host, dns.family).await;
            found |= !addresses.is_empty();
            ttl = match (ttl, lives) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let details = target.details();
            let hostname = &details.hostname;
            // One endpoint with all addresses, or one for each.
            let take = if logical { 1 } else { usize::MAX };
            let others: Vec<_> = addresses
                .iter()
                .skip(take)
                .map(|ip| SocketAddr::new(*ip, *port))
                .collect();
            endpoints.extend(addresses.into_iter().take(take).map(|ip| {
                Arc::new(EndpointSpec {
                    address: EndpointAddress::Socket(SocketAddr::new(ip, *port)),
                    details: Some(Arc::new(EndpointDetails {
                        hostname: Some(hostname.clone().unwrap_or_else(|| Arc::clone(host))),
                        others: others.clone(),
                        ..details.clone()
                    })),
                    ..EndpointSpec::clone(target)
                })
            }));
        }
        locality.endpoints = endpoints;
    }
    (found.then_some(assignment), ttl)
}

async fn lookup(resolver: &TokioResolver, host: &str, family: DnsFamily) -> (Vec<IpAddr>, Option<Duration>) {
    let answer = match resolver.lookup_ip(host).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%host, %error, "DNS");
            return (Vec::new(), None);
        }
    };
    let ttl = answer
        .valid_until()
        .saturating_duration_since(std::time::Instant::now());
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = answer.iter().partition(IpAddr::is_ipv4);
    let addresses = match family {
        DnsFamily::V4Only => v4,
        DnsFamily::V6Only => v6,
        DnsFamily::V4Preferred if v4.is_empty() => v6,
        DnsFamily::V4Preferred => v4,
        DnsFamily::Auto if v6.is_empty() => v4,
        DnsFamily::Auto => v6,
        DnsFamily::All => v4.into_iter().chain(v6).collect(),
    };
    (addresses, Some(ttl))
}
