//! Against hyper, an implementation that is not ours.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame as HyperFrame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::task::LocalSet;

use super::*;

/// Answers every request with what it said, until the client closes.
async fn echo(mut server: ServerConnection) {
    while let Some(request) = head(&mut server).await.unwrap() {
        let (content, trailers) = body(&mut server).await.unwrap();
        let length = if trailers.is_some() {
            BodyLength::Unknown
        } else {
            BodyLength::Exact(content.len() as u64)
        };
        let mut response = answer(200, length);
        response
            .headers
            .insert("x-path", HeaderValue::from_str(request.path.as_str()).unwrap());
        server.send_head(response).unwrap();
        if !content.is_empty() {
            poll_fn(|cx| server.poll_ready(cx)).await.unwrap();
            server.send_data(content.into(), trailers.is_none()).unwrap();
        }
        if let Some(trailers) = trailers {
            server.send_trailers(trailers).unwrap();
        }
        assert_eq!(finish(&mut server).await, Ok(Next::KeepAlive));
    }
}

fn in_pieces(
    content: &'static str,
    trailer: Option<&'static str>,
) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin {
    let data = content
        .as_bytes()
        .chunks(1000)
        .map(|piece| HyperFrame::data(Bytes::from_static(piece)));
    let trailers = trailer.map(|value| {
        HyperFrame::trailers(HeaderMap::from_iter([(
            http::HeaderName::from_static("x-t"),
            HeaderValue::from_static(value),
        )]))
    });
    let frames: Vec<_> = data.chain(trailers).map(Ok).collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

#[tokio::test]
async fn hyper_as_client_gets_what_it_sent() {
    let (server, peer) = server();
    let local = LocalSet::new();
    local.spawn_local(echo(server));
    local
        .run_until(async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(peer))
                .await
                .unwrap();
            tokio::task::spawn_local(connection);
            let long: &str = "0123456789".repeat(30_000).leak();
            for (content, trailer) in [
                ("", None),
                ("hello", None),
                (long, None),
                ("hello", Some("v")),
                (long, Some("v")),
            ] {
                sender.ready().await.unwrap();
                let request = Request::post("/p?q")
                    .header("host", "a")
                    .header("te", "trailers")
                    .header("trailer", "x-t")
                    .body(in_pieces(content, trailer))
                    .unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.headers()["x-path"], "/p?q");
                let collected = response.into_body().collect().await.unwrap();
                assert_eq!(collected.trailers().map(|t| t["x-t"].to_str().unwrap()), trailer);
                assert!(
                    collected.to_bytes() == content.as_bytes(),
                    "{} bytes",
                    content.len()
                );
            }
        })
        .await;
}

async fn hyper_echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let content = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::builder()
        .header("x-path", path)
        .body(Full::new(content))
        .unwrap())
}

#[tokio::test]
async fn hyper_as_server_gets_what_we_sent() {
    let (mut client, peer) = client();
    let service = hyper::service::service_fn(hyper_echo);
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(peer), service);
    let serving = tokio::spawn(async move { connection.await.unwrap() });
    let long = vec![b'x'; 300_000];
    for (length, content) in [
        (BodyLength::None, &b""[..]),
        (BodyLength::Exact(5), b"hello"),
        (BodyLength::Unknown, b"hello"),
        (BodyLength::Exact(300_000), &long),
        (BodyLength::Unknown, &long),
    ] {
        let request = RequestHead {
            method: Method::PUT,
            body: length,
            ..get("/p")
        };
        client.send_request(&request).unwrap();
        for piece in content.chunks(50_000) {
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            client.send_data(Bytes::copy_from_slice(piece), false).unwrap();
        }
        client.send_data(Bytes::new(), true).unwrap();
        flush(&mut client).await.unwrap();
        let ResponseEvent::Head(head) = response(&mut client).await.unwrap() else {
            panic!("a final head")
        };
        assert_eq!(head.headers["x-path"], "/p");
        assert!(body(&mut client).await.unwrap().0 == content, "{length:?}");
        assert!(client.reusable());
    }
    drop(client);
    serving.await.unwrap();
}
