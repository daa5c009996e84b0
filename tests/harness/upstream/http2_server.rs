//! The HTTP/2 side of an upstream: every stream in a task of its own.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::http1_server::{body, content_type, trailers};
use super::{Behaviour, Received, Shared};
use crate::http1::Fields;

/// Serves until the connection ends.
pub(super) async fn serve<S>(stream: S, shared: Arc<Shared>, number: u64) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 22)
        .handshake::<_, Bytes>(stream)
        .await?;
    let mut streams = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        streams.spawn(exchange(request, respond, Arc::clone(&shared), number));
        while streams.try_join_next().is_some() {}
    }
    Ok(())
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
    number: u64,
) -> Result<()> {
    let (head, mut stream) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let behaviour = shared
        .behaviour
        .with(text("x-behave"), text("x-envoy-attempt-count"));
    let mut received = Received {
        upstream: shared.name.clone(),
        connection: number,
        version: "HTTP/2".to_owned(),
        method: head.method.to_string(),
        target: head
            .uri
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        authority: head.uri.authority().map_or_else(String::new, ToString::to_string),
        headers: fields(&head.headers),
        framing: "stream",
        ..Received::default()
    };
    if behaviour.echo {
        shared.record(received.clone());
        return echo(stream, respond, &behaviour, &received).await;
    }
    received.complete = receive(&mut stream, &mut received).await.is_ok();
    shared.record(received.clone());
    if let Some(delay) = behaviour.delay {
        tokio::time::sleep(delay).await;
    }
    if behaviour.drop {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    }
    if behaviour.hints {
        let hints = Response::builder()
            .status(103)
            .header("link", "</a.css>; rel=preload")
            .body(())?;
        respond.send_informational(hints)?;
    }
    let bodiless = received.method == "HEAD" || matches!(behaviour.status, Some(204 | 304));
    let response = head_of(&behaviour, &received)?;
    let mut send = respond.send_response(response, bodiless)?;
    if bodiless {
        Ok(())
    } else {
        answer(&mut send, &behaviour, &received).await
    }
}

async fn receive(stream: &mut RecvStream, received: &mut Received) -> Result<()> {
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        received.body.extend_from_slice(&data);
    }
    if let Some(trailers) = stream.trailers().await? {
        received.trailers = fields(&trailers);
    }
    Ok(())
}

async fn answer(send: &mut SendStream<Bytes>, behaviour: &Behaviour, received: &Received) -> Result<()> {
    let body = body(behaviour, received);
    let (first, second) = body.split_at(body.len() / 2);
    write(send, first).await?;
    if behaviour.cut {
        send.send_reset(Reason::INTERNAL_ERROR);
        return Ok(());
    }
    if let Some(stall) = behaviour.stall {
        tokio::time::sleep(stall).await;
    }
    write(send, second).await?;
    finish(send, behaviour)
}

/// Sends every piece back as it comes, so that both directions of a long stream are seen to be open at once.
async fn echo(
    mut stream: RecvStream,
    mut respond: SendResponse<Bytes>,
    behaviour: &Behaviour,
    received: &Received,
) -> Result<()> {
    let mut send = respond.send_response(head_of(behaviour, received)?, false)?;
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        write(&mut send, &data).await?;
    }
    finish(&mut send, behaviour)
}

fn finish(send: &mut SendStream<Bytes>, behaviour: &Behaviour) -> Result<()> {
    let mut map = HeaderMap::new();
    for (name, value) in trailers(behaviour) {
        map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if map.is_empty() {
        send.send_data(Bytes::new(), true)?;
    } else {
        send.send_trailers(map)?;
    }
    Ok(())
}

/// Sends all of `bytes` within the peer's windows.
async fn write(send: &mut SendStream<Bytes>, bytes: &[u8]) -> Result<()> {
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        send.reserve_capacity(rest.len());
        let capacity = std::future::poll_fn(|context| send.poll_capacity(context)).await;
        let capacity = capacity.context("the stream was closed")??;
        send.send_data(rest.split_to(capacity.min(rest.len())), false)?;
    }
    Ok(())
}

fn head_of(behaviour: &Behaviour, received: &Received) -> Result<Response<()>> {
    let mut head = Response::builder()
        .status(behaviour.status.unwrap_or(200))
        .header("x-upstream", &received.upstream)
        .header("content-type", content_type(behaviour));
    for (name, value) in &behaviour.headers {
        head = head.header(name, value);
    }
    Ok(head.body(())?)
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}
