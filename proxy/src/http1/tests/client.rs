//! The client's side against raw bytes.

use tokio::net::TcpListener;

use super::*;

async fn sent(peer: &mut DuplexStream, client: &mut ClientConnection, request: &RequestHead) -> String {
    client.send_request(request).unwrap();
    flush(client).await.unwrap();
    available(peer).await
}

async fn final_head(client: &mut ClientConnection) -> ResponseHead {
    match response(client).await.unwrap() {
        ResponseEvent::Head(head) => head,
        ResponseEvent::Informational(head) => panic!("a final head, not {head:?}"),
    }
}

#[tokio::test]
async fn a_connection_is_reused_and_idle_holds_nothing() {
    let (mut client, mut peer) = client();
    for _ in 0..2 {
        assert_eq!(
            sent(&mut peer, &mut client, &get("/a?b")).await,
            "GET /a?b HTTP/1.1\r\nhost: host\r\n\r\n"
        );
        assert!(client.nothing_received());
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok")
            .await
            .unwrap();
        let head = final_head(&mut client).await;
        assert_eq!((head.status, head.body), (StatusCode::OK, BodyLength::Exact(2)));
        assert!(!client.reusable(), "the body was not read");
        assert_eq!(body(&mut client).await.unwrap().0, b"ok");
        assert!(client.reusable());
        assert!(now(|cx| client.poll_idle(cx)).await.is_pending());
        assert_eq!(client.held(), 0);
    }
    assert_eq!(client.bytes_received(), 2 * 46);
}

#[tokio::test]
async fn a_request_head_and_its_first_bytes_leave_in_one_write() {
    let (mut client, mut peer) = client();
    let request = RequestHead {
        method: Method::POST,
        body: BodyLength::Unknown,
        ..get("/")
    };
    client.send_request(&request).unwrap();
    client.send_data(vec![b'x'; 2000].into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("t", HeaderValue::from_static("v"));
    client.send_trailers(trailers).unwrap();
    flush(&mut client).await.unwrap();
    assert_eq!(client.writes(), 1);
    let text = available(&mut peer).await;
    let expected = format!(
        "POST / HTTP/1.1\r\nhost: host\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\nt: v\r\n\r\n",
        "x".repeat(2000)
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn an_idle_connection_that_dies_or_speaks_is_of_no_use() {
    for last_words in ["", "HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let (mut client, mut peer) = client();
        sent(&mut peer, &mut client, &get("/")).await;
        peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        final_head(&mut client).await;
        assert!(body(&mut client).await.unwrap().0.is_empty());
        assert!(client.reusable());
        peer.write_all(last_words.as_bytes()).await.unwrap();
        drop(peer);
        assert!(now(|cx| client.poll_idle(cx)).await.is_ready());
        assert!(!client.reusable());
    }
}

#[tokio::test]
async fn a_response_that_nobody_asked_for_never_becomes_an_answer() {
    let (mut client, mut peer) = client();
    sent(&mut peer, &mut client, &get("/")).await;
    peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    final_head(&mut client).await;
    body(&mut client).await.unwrap();
    assert!(!client.reusable());
    assert!(client.send_request(&get("/")).is_err());
}

#[tokio::test]
async fn a_server_that_says_close_or_is_old_is_not_reused() {
    for start in ["HTTP/1.1 200 OK\r\nConnection: close\r\n", "HTTP/1.0 200 OK\r\n"] {
        let (mut client, mut peer) = client();
        sent(&mut peer, &mut client, &get("/")).await;
        peer.write_all(format!("{start}Content-Length: 0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        final_head(&mut client).await;
        body(&mut client).await.unwrap();
        assert!(!client.reusable());
    }
}

#[tokio::test]
async fn a_reused_connection_that_dies_is_told_from_a_failed_response() {
    let (mut client, mut peer) = client();
    sent(&mut peer, &mut client, &get("/")).await;
    drop(peer);
    assert_eq!(
        response(&mut client).await.map(|_| ()),
        Err(StreamError::Truncated)
    );
    assert!(client.nothing_received());

    let (mut client, mut peer) = super::client();
    sent(&mut peer, &mut client, &get("/")).await;
    peer.write_all(b"HTTP/1.1 2").await.unwrap();
    drop(peer);
    assert_eq!(
        response(&mut client).await.map(|_| ()),
        Err(StreamError::Truncated)
    );
    assert!(!client.nothing_received());
}

#[tokio::test]
async fn truncated_bodies_are_errors() {
    for start in [
        "Content-Length: 9\r\n\r\nab",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    ] {
        let (mut client, mut peer) = client();
        sent(&mut peer, &mut client, &get("/")).await;
        peer.write_all(format!("HTTP/1.1 200 OK\r\n{start}").as_bytes())
            .await
            .unwrap();
        drop(peer);
        final_head(&mut client).await;
        assert_eq!(body(&mut client).await, Err(StreamError::Truncated), "{start}");
        assert!(!client.reusable());
    }
}

#[tokio::test]
async fn a_body_until_close_that_ends_with_a_reset_is_not_complete() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let mut client =
        ClientConnection::new(Io::Plain(Socket::new(Transport::Tcp(stream))), Options::default());
    client.send_request(&get("/")).unwrap();
    flush(&mut client).await.unwrap();
    peer.write_all(b"HTTP/1.1 200 OK\r\n\r\npart").await.unwrap();
    assert_eq!(final_head(&mut client).await.body, BodyLength::Unknown);
    let Some(Ok(Frame::Data(_))) = poll_fn(|cx| client.poll_frame(cx)).await else {
        panic!("the first part")
    };
    socket2::SockRef::from(&peer)
        .set_linger(Some(std::time::Duration::ZERO))
        .unwrap();
    drop(peer);
    assert_eq!(
        body(&mut client).await,
        Err(StreamError::Io(std::io::ErrorKind::ConnectionReset))
    );
}

#[tokio::test]
async fn informational_heads_come_before_the_final_one_and_are_bounded() {
    let (mut client, mut peer) = client();
    sent(&mut peer, &mut client, &get("/")).await;
    peer.write_all(
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )
    .await
    .unwrap();
    let Ok(ResponseEvent::Informational(hints)) = response(&mut client).await else {
        panic!("103 first")
    };
    assert_eq!(hints.status, StatusCode::EARLY_HINTS);
    assert_eq!(final_head(&mut client).await.status, StatusCode::OK);

    let (mut client, mut peer) = super::client();
    sent(&mut peer, &mut client, &get("/")).await;
    peer.write_all("HTTP/1.1 103 x\r\n\r\n".repeat(101).as_bytes())
        .await
        .unwrap();
    for _ in 0..100 {
        response(&mut client).await.unwrap();
    }
    assert!(response(&mut client).await.is_err(), "a flood of 1xx");
}

#[tokio::test]
async fn an_upgrade_becomes_raw_and_an_unasked_one_is_an_error() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: w\r\nConnection: upgrade\r\n\r\nraw";
    let (mut client, mut peer) = client();
    let request = RequestHead {
        upgrade: Some("w".into()),
        ..get("/")
    };
    let text = sent(&mut peer, &mut client, &request).await;
    assert_eq!(
        text,
        "GET / HTTP/1.1\r\nhost: host\r\nconnection: Upgrade\r\nupgrade: w\r\n\r\n"
    );
    client.send_data(Bytes::new(), true).unwrap();
    peer.write_all(switch).await.unwrap();
    assert_eq!(
        final_head(&mut client).await.status,
        StatusCode::SWITCHING_PROTOCOLS
    );
    let Some(Ok(Frame::Data(raw))) = poll_fn(|cx| client.poll_frame(cx)).await else {
        panic!("raw bytes")
    };
    assert_eq!(raw, "raw");
    client.send_data(Bytes::from_static(b"\0back"), true).unwrap();
    flush(&mut client).await.unwrap();
    assert_eq!(rest_and_end(&mut peer).await, "\0back");
    assert!(!client.reusable());

    let (mut client, mut peer) = super::client();
    sent(&mut peer, &mut client, &get("/")).await;
    peer.write_all(switch).await.unwrap();
    assert!(matches!(
        response(&mut client).await,
        Err(StreamError::Protocol(_))
    ));
}

async fn rest_and_end(peer: &mut DuplexStream) -> String {
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn garbage_is_refused_at_once() {
    let (mut client, mut peer) = client();
    sent(&mut peer, &mut client, &get("/")).await;
    peer.write_all(b"<html>").await.unwrap();
    assert!(
        matches!(response(&mut client).await, Err(StreamError::Protocol(_))),
        "no wait for a whole head"
    );
}
