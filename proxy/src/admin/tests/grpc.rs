//! gRPC on the admin port, by hyper's client and frames made by hand.

use super::*;

#[test]
fn grpc_is_spoken_beside_http1_on_the_same_port() {
    with_admin(&StandIn::live(), |address| async move {
        // A request for the status without contents (field 3).
        let framed = |message: &[u8]| {
            let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            framed.extend(message);
            framed
        };
        let service = "/envoy.service.status.v3.ClientStatusDiscoveryService/";
        let fetched = call(
            &address,
            &format!("{service}FetchClientStatus"),
            framed(b"\x18\x01"),
        )
        .await;
        assert_eq!(fetched.status(), "0");
        assert!(fetched.text().contains("envoy.config.cluster.v3.Cluster"));
        assert!(fetched.text().contains("n1"));
        let two = [framed(b""), framed(b"\x18\x01")].concat();
        let streamed = call(&address, &format!("{service}StreamClientStatus"), two.clone()).await;
        assert_eq!((streamed.status(), streamed.messages()), ("0", 2));
        for (path, body, status) in [
            ("FetchClientStatus", Vec::new(), "13"),
            ("FetchClientStatus", two, "13"),
            ("FetchClientStatus", framed(b"\xff"), "3"),
            ("FetchClientStatus", vec![1, 0, 0, 0, 0], "12"),
            ("FetchClientStatus", vec![0, 1, 0, 0, 0], "8"),
            ("FetchClientStatus", vec![0, 0, 0, 0, 9, 1], "13"),
            ("Nothing", Vec::new(), "12"),
        ] {
            let refused = call(&address, &format!("{service}{path}"), body.clone()).await;
            assert_eq!(refused.status(), status, "{path} {body:?}");
        }
        assert_eq!(get(&address, "/ready").await.body, "LIVE\n");
    });
}

/// What a gRPC call came to.
struct Called {
    body: Bytes,
    trailers: http::HeaderMap,
}

impl Called {
    fn status(&self) -> &str {
        self.trailers["grpc-status"].to_str().unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn messages(&self) -> usize {
        let (mut rest, mut count) = (&self.body[..], 0);
        while let Some((&[0, a, b, c, d], message)) = rest.split_first_chunk::<5>() {
            rest = &message[u32::from_be_bytes([a, b, c, d]) as usize..];
            count += 1;
        }
        count
    }
}

async fn call(address: &ListenAddress, path: &str, body: Vec<u8>) -> Called {
    let ListenAddress::Socket(socket) = address else {
        panic!("not TCP")
    };
    let stream = tokio::net::TcpStream::connect(socket).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
        .await
        .unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://admin{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(http_body_util::Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    Called {
        body: collected.to_bytes(),
        trailers,
    }
}
