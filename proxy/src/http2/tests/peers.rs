//! Against hyper, whose use of h2 is not ours.

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

#[tokio::test]
async fn hyper_as_client_gets_what_it_sent() {
    local(async {
        let (ours, theirs) = memory();
        serve(ServerConnection::new(ours, Options::default()), echo);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(theirs));
        let (mut sender, connection) = handshake.await.unwrap();
        spawn_local(connection);
        for length in [0, 5, 300_000] {
            let content = Bytes::from(vec![b'x'; length]);
            let request = Request::post("http://a/p")
                .body(Full::new(content.clone()))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.headers()["x-path"], "/p");
            assert!(
                response.into_body().collect().await.unwrap().to_bytes() == content,
                "{length}"
            );
        }
    })
    .await;
}

async fn hyper_echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let uri = request.uri().to_string();
    let content = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::builder()
        .header("x-uri", uri)
        .body(Full::new(content))
        .unwrap())
}

#[tokio::test]
async fn hyper_as_server_gets_what_we_sent() {
    local(async {
        let (ours, theirs) = duplex(1 << 20);
        let service = hyper::service::service_fn(hyper_echo);
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(builder.serve_connection(TokioIo::new(theirs), service));
        let mut sender = connect(ours, &Options::default()).await;
        for (length, size) in [
            (BodyLength::None, 0),
            (BodyLength::Exact(5), 5),
            (BodyLength::Unknown, 5),
            (BodyLength::Unknown, 300_000),
        ] {
            let mut stream = sender.send_request(request(Method::PUT, length)).unwrap();
            let content = vec![b'x'; size];
            send(&mut stream, &content, true).await.unwrap();
            assert_eq!(
                response(&mut stream).await.unwrap().headers["x-uri"],
                "http://host/p?q"
            );
            assert!(body(&mut stream).await.unwrap().0 == content, "{length:?} {size}");
        }
    })
    .await;
}

/// Ends every body with an empty frame before the trailers, as a relay of frames does.
async fn chatty(mut connection: h2::server::Connection<DuplexStream, Bytes>) {
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"answer"), false).unwrap();
        stream.send_data(Bytes::new(), false).unwrap();
        stream.send_trailers(HeaderMap::new()).unwrap();
    }
}

#[tokio::test]
async fn an_empty_frame_in_every_answer_does_not_end_the_connection() {
    local(async {
        let (ours, theirs) = duplex(1 << 20);
        tokio::spawn(async move { chatty(h2::server::handshake(theirs).await.unwrap()).await });
        let mut sender = connect(ours, &Options::default()).await;
        for number in 0..300 {
            poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
            let mut stream = sender
                .send_request(request(Method::GET, BodyLength::None))
                .unwrap();
            response(&mut stream).await.unwrap();
            let (content, _) = body(&mut stream)
                .await
                .unwrap_or_else(|error| panic!("{number}: {error:?}"));
            assert_eq!(content, b"answer");
        }
    })
    .await;
}
