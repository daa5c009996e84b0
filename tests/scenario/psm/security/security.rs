//! `security_test`.

use anyhow::{Result, ensure};
use harness::certificates::Authority;
use tonic::Code;

use super::{CLIENT, Pair, Policy};
use crate::caller::{Caller, Rpc};
use crate::service::BOTH;

/// Calls that must all succeed, or all fail.
const RPCS: usize = 10;

/// Calls succeed, and the server is told of this client, or of none.
async fn succeeds(pair: &Pair, client: Option<&str>) -> Result<()> {
    pair.client
        .caller()
        .send(&BOTH.map(Rpc::new), RPCS)
        .await
        .all_ok()?;
    for call in pair.application.seen().calls {
        let told = call.metadata.get("x-forwarded-client-cert");
        let told = told.and_then(|it| it.to_str().ok());
        let is_right = match client {
            Some(client) => told.is_some_and(|told| told.ends_with(&format!("URI={client}"))),
            None => told.is_none_or(|told| !told.contains("URI=")),
        };
        ensure!(is_right, "{:?}: the server is told of {told:?}", call.method);
    }
    Ok(())
}

/// Whether who speaks plain text to the server's Remora is heard.
async fn hears_plain_text(pair: &Pair) -> bool {
    let tally = Caller::new(pair.server.port.address())
        .send(&BOTH.map(Rpc::new), 1)
        .await;
    tally.all_ok().is_ok()
}

/// No call gets through, however often, and every one is told that the server cannot be reached.
async fn cannot_reach(pair: &Pair) -> Result<()> {
    let tally = pair
        .client
        .caller()
        .send_at_once(&BOTH.map(Rpc::new), RPCS, 1)
        .await;
    for method in BOTH {
        tally.share(method, Code::Unavailable, 1.0, 0.0)?;
    }
    let calls = pair.application.seen().calls;
    ensure!(calls.is_empty(), "{} calls got through", calls.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_mtls() -> Result<()> {
    let authority = Authority::new("psm")?;
    let pair = Pair::start(&Policy::new([true; 4]), &authority, &authority).await?;
    succeeds(&pair, Some(CLIENT)).await?;
    ensure!(!hears_plain_text(&pair).await, "plain text was heard");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_tls() -> Result<()> {
    let authority = Authority::new("psm")?;
    let pair = Pair::start(&Policy::new([true, false, true, false]), &authority, &authority).await?;
    succeeds(&pair, None).await?;
    ensure!(!hears_plain_text(&pair).await, "plain text was heard");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_plaintext_fallback() -> Result<()> {
    let authority = Authority::new("psm")?;
    let pair = Pair::start(&Policy::new([false; 4]), &authority, &authority).await?;
    succeeds(&pair, None).await?;
    ensure!(hears_plain_text(&pair).await, "plain text was not heard");
    Ok(())
}

/// The server demands a certificate, and the client has none; nor does one of another authority do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_mtls_error() -> Result<()> {
    let authority = Authority::new("psm")?;
    let pair = Pair::start(&Policy::new([true, true, true, false]), &authority, &authority).await?;
    cannot_reach(&pair).await?;
    let stranger = Authority::new("stranger")?;
    let pair = Pair::start(&Policy::new([true; 4]), &stranger, &authority).await?;
    cannot_reach(&pair).await
}

/// The server is another one than the client was told to expect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_server_authz_error() -> Result<()> {
    let authority = Authority::new("psm")?;
    let policy = Policy {
        expected_server: "spiffe://psm.test/ns/incorrect-namespace/sa/server".to_owned(),
        ..Policy::new([true, false, true, false])
    };
    let pair = Pair::start(&policy, &authority, &authority).await?;
    cannot_reach(&pair).await
}
