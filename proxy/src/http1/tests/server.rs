//! The server's side against raw bytes.

use super::*;

async fn exchange(server: &mut ServerConnection, response: ResponseHead, content: &'static str) -> Next {
    head(server).await.unwrap().expect("a request was sent");
    server.send_head(response).unwrap();
    if !content.is_empty() {
        server
            .send_data(Bytes::from_static(content.as_bytes()), true)
            .unwrap();
    }
    finish(server).await.unwrap()
}

#[tokio::test]
async fn a_head_and_its_first_bytes_leave_in_one_write() {
    for length in [3, 4096] {
        let (mut server, mut peer) = server();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        head(&mut server).await.unwrap();
        server.send_head(answer(200, BodyLength::Exact(length))).unwrap();
        server
            .send_data(vec![b'x'; length as usize].into(), true)
            .unwrap();
        assert_eq!(finish(&mut server).await, Ok(Next::KeepAlive));
        assert_eq!(server.writes(), 1, "{length} bytes");
        let text = available(&mut peer).await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nxxx")),
            "{text:.80}"
        );
    }
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer() {
    let (mut server, mut peer) = server();
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
    ] {
        peer.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(
            exchange(&mut server, answer(200, BodyLength::Exact(2)), "ok").await,
            Next::KeepAlive
        );
        assert!(now(|cx| server.poll_head(cx)).await.is_pending());
        assert_eq!(server.held(), 0);
    }
}

#[tokio::test]
async fn a_request_body_in_progress_holds_no_read_buffer() {
    let (mut server, mut peer) = server();
    peer.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab")
        .await
        .unwrap();
    head(&mut server).await.unwrap();
    assert!(matches!(
        now(|cx| server.poll_frame(cx)).await,
        Poll::Ready(Some(Ok(Frame::Data(_))))
    ));
    assert!(now(|cx| server.poll_frame(cx)).await.is_pending());
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn pipelined_requests_are_served_in_order() {
    let (mut server, mut peer) = server();
    let requests = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    peer.write_all(requests.as_bytes()).await.unwrap();
    peer.shutdown().await.unwrap();
    for path in ["/1", "/2", "/3"] {
        let request = head(&mut server).await.unwrap().unwrap();
        assert_eq!(request.path, path);
        server.send_head(answer(204, BodyLength::None)).unwrap();
        assert_eq!(finish(&mut server).await, Ok(Next::KeepAlive));
    }
    assert!(head(&mut server).await.unwrap().is_none());
}

#[tokio::test]
async fn any_split_of_the_bytes_is_the_same_request() {
    let text = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e\r\nde\r\n0\r\nT: v\r\n\r\n";
    for cut in 1..text.len() {
        let (mut server, mut peer) = server();
        peer.write_all(&text[..cut]).await.unwrap();
        let mut request = None;
        if let Poll::Ready(head) = now(|cx| server.poll_head(cx)).await {
            request = head.unwrap();
        }
        peer.write_all(&text[cut..]).await.unwrap();
        let request = if request.is_some() {
            request
        } else {
            head(&mut server).await.unwrap()
        };
        assert_eq!(request.unwrap().path, "/x", "cut at {cut}");
        let (content, trailers) = body(&mut server).await.unwrap();
        assert_eq!(
            (content.as_slice(), &trailers.unwrap()["t"]),
            (&b"abcde"[..], &HeaderValue::from_static("v"))
        );
    }
}

#[tokio::test]
async fn a_refused_head_is_answered_and_closes() {
    let (mut server, mut peer) = server();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        .await
        .unwrap();
    let Err(HeadFailure::Refused(error)) = head(&mut server).await else {
        panic!("two hosts")
    };
    server
        .send_head(ResponseHead {
            status: error.status,
            ..answer(400, BodyLength::Exact(3))
        })
        .unwrap();
    server.send_data(Bytes::from_static(b"no."), true).unwrap();
    assert_eq!(finish(&mut server).await, Ok(Next::Close));
    drop(server);
    assert_eq!(
        rest(peer).await,
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno."
    );
}

#[tokio::test]
async fn a_slow_head_can_be_told_from_an_idle_connection() {
    let (mut server, mut peer) = server();
    assert!(now(|cx| server.poll_head(cx)).await.is_pending());
    assert!(!server.head_started());
    peer.write_all(b"GET /").await.unwrap();
    assert!(now(|cx| server.poll_head(cx)).await.is_pending());
    assert!(server.head_started());
    server.refuse(crate::http1::grammar::request::TIMED_OUT);
    server.send_head(answer(408, BodyLength::None)).unwrap();
    assert_eq!(finish(&mut server).await, Ok(Next::Close));
    assert!(
        available(&mut peer)
            .await
            .starts_with("HTTP/1.1 408 Request Timeout\r\n")
    );
}

#[rustfmt::skip]
#[tokio::test]
async fn responses_are_framed_for_their_request() {
    let (get, head, old) = (
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    );
    let keep = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let close = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (request, status, length, content, expected) in [
        (get, 200, BodyLength::None, "", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (get, 200, BodyLength::Exact(2), "ab", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"),
        (get, 200, BodyLength::Unknown, "ab", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        (get, 204, BodyLength::None, "", "HTTP/1.1 204 No Content\r\n\r\n"),
        (get, 304, BodyLength::None, "", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        (get, 299, BodyLength::None, "", "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n"),
        (head, 200, BodyLength::None, "", "HTTP/1.1 200 OK\r\n\r\n"),
        (head, 200, BodyLength::Exact(2), "ab", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
        (old, 200, BodyLength::Unknown, "ab", "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nab"),
        (keep, 200, BodyLength::Exact(2), "ab", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nab"),
        (keep, 200, BodyLength::Unknown, "ab", "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nab"),
        (close, 200, BodyLength::None, "", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    ] {
        let (mut server, mut peer) = server();
        peer.write_all(request.as_bytes()).await.unwrap();
        let next = exchange(&mut server, answer(status, length), content).await;
        let closes = expected.contains("close");
        assert_eq!(
            next,
            if closes { Next::Close } else { Next::KeepAlive },
            "{request:?}"
        );
        assert_eq!(
            available(&mut peer).await,
            expected,
            "{request:?} {status} {length:?}"
        );
    }
}

#[tokio::test]
async fn the_length_of_a_head_response_is_kept() {
    let (mut server, mut peer) = server();
    peer.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut response = answer(200, BodyLength::None);
    response
        .headers
        .insert("content-length", HeaderValue::from_static("77"));
    assert_eq!(exchange(&mut server, response, "").await, Next::KeepAlive);
    assert_eq!(
        available(&mut peer).await,
        "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n"
    );
}

#[tokio::test]
async fn a_body_longer_or_shorter_than_announced_is_an_error() {
    for (content, error) in [
        ("abc", StreamError::Protocol("http1.body_disallowed")),
        ("a", StreamError::Truncated),
    ] {
        let (mut server, mut peer) = server();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        head(&mut server).await.unwrap();
        server.send_head(answer(200, BodyLength::Exact(2))).unwrap();
        assert_eq!(server.send_data(content.into(), true), Err(error));
        assert_eq!(finish(&mut server).await, Ok(Next::Close));
    }
}

#[tokio::test]
async fn continue_is_sent_when_asked_and_otherwise_the_connection_closes() {
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let (mut willing, mut peer) = server();
    peer.write_all(request).await.unwrap();
    assert!(head(&mut willing).await.unwrap().unwrap().expects_continue);
    willing.send_informational(answer(100, BodyLength::None)).unwrap();
    flush(&mut willing).await.unwrap();
    assert_eq!(available(&mut peer).await, "HTTP/1.1 100 Continue\r\n\r\n");
    peer.write_all(b"ab").await.unwrap();
    assert_eq!(body(&mut willing).await.unwrap().0, b"ab");
    willing.send_head(answer(200, BodyLength::None)).unwrap();
    assert_eq!(finish(&mut willing).await, Ok(Next::KeepAlive));

    let (mut unwilling, mut peer) = server();
    peer.write_all(request).await.unwrap();
    assert_eq!(
        exchange(&mut unwilling, answer(417, BodyLength::None), "").await,
        Next::Close
    );
    assert!(
        available(&mut peer).await.contains("connection: close\r\n"),
        "the client may or may not send its body"
    );
}

#[tokio::test]
async fn little_of_an_unread_body_is_drained_and_much_closes() {
    for (length, sent, next) in [
        (5, 5, Next::KeepAlive),
        (60_000, 60_000, Next::KeepAlive),
        (1 << 20, 10, Next::Close),
    ] {
        let (mut server, mut peer) = server();
        peer.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        peer.write_all(&vec![b'G'; sent]).await.unwrap();
        assert_eq!(
            exchange(&mut server, answer(413, BodyLength::None), "").await,
            next,
            "{length}"
        );
    }
    let (mut server, mut peer) = server();
    peer.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    peer.write_all("fff0\r\n".as_bytes()).await.unwrap();
    peer.write_all(&vec![b'G'; 0xfff0]).await.unwrap();
    peer.write_all(format!("\r\nfff0\r\n{}", "G".repeat(0xfff0)).as_bytes())
        .await
        .unwrap();
    assert_eq!(
        exchange(&mut server, answer(413, BodyLength::None), "").await,
        Next::Close,
        "an endless chunked body"
    );
}

#[tokio::test]
async fn close_is_announced_when_set() {
    let (mut server, mut peer) = server();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    server.set_close();
    assert_eq!(
        exchange(&mut server, answer(200, BodyLength::None), "").await,
        Next::Close
    );
    assert!(available(&mut peer).await.contains("connection: close\r\n"));
}

#[tokio::test]
async fn no_byte_after_an_upgrade_request_is_given_out_before_the_switch() {
    let (mut server, mut peer) = server();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: w\r\nConnection: upgrade\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(
        head(&mut server).await.unwrap().unwrap().upgrade.as_deref(),
        Some("w")
    );
    assert!(matches!(now(|cx| server.poll_frame(cx)).await, Poll::Ready(None)));
    let mut switch = answer(101, BodyLength::Unknown);
    switch.headers.insert("upgrade", HeaderValue::from_static("w"));
    server.send_head(switch).unwrap();
    server.send_data(Bytes::from_static(b"hello"), false).unwrap();
    flush(&mut server).await.unwrap();
    assert_eq!(
        available(&mut peer).await,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: w\r\nconnection: Upgrade\r\n\r\nhello"
    );
    let Some(Ok(Frame::Data(raw))) = poll_fn(|cx| server.poll_frame(cx)).await else {
        panic!("raw bytes")
    };
    assert_eq!(raw, "GET /smuggled HTTP/1.1\r\n\r\n");
    server.send_data(Bytes::new(), true).unwrap();
    flush(&mut server).await.unwrap();
    assert_eq!(
        rest_of_direction(&mut peer).await,
        0,
        "the end of our direction is passed on while theirs is open"
    );
    peer.write_all(b"late").await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(body(&mut server).await.unwrap().0, b"late");
    assert_eq!(finish(&mut server).await, Ok(Next::Close));
}

async fn rest_of_direction(peer: &mut DuplexStream) -> usize {
    peer.read(&mut [0; 64]).await.unwrap()
}

#[tokio::test]
async fn a_tunnel_takes_the_stream_and_what_was_read_ahead() {
    let (mut server, mut peer) = server();
    peer.write_all(b"CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nahead")
        .await
        .unwrap();
    head(&mut server).await.unwrap();
    server.send_head(answer(200, BodyLength::Unknown)).unwrap();
    flush(&mut server).await.unwrap();
    assert_eq!(available(&mut peer).await, "HTTP/1.1 200 OK\r\n\r\n");
    let (_io, ahead) = server.into_parts();
    assert_eq!(ahead, "ahead");
}

#[tokio::test]
async fn a_sender_waits_for_room() {
    let (io, mut peer) = memory(16);
    let mut server = ServerConnection::new(
        io,
        Options {
            send_buffer: 100,
            ..Options::default()
        },
    );
    peer.write_all(b"GET / HTTP/").await.unwrap();
    assert!(now(|cx| server.poll_head(cx)).await.is_pending());
    peer.write_all(b"1.0\r\n\r\n").await.unwrap();
    head(&mut server).await.unwrap();
    server.send_head(answer(200, BodyLength::Unknown)).unwrap();
    assert!(matches!(
        now(|cx| server.poll_ready(cx)).await,
        Poll::Ready(Ok(1..))
    ));
    server.send_data(vec![b'x'; 200].into(), false).unwrap();
    assert!(now(|cx| server.poll_ready(cx)).await.is_pending());
    let reader = tokio::spawn(rest(peer));
    poll_fn(|cx| server.poll_ready(cx)).await.unwrap();
    server.send_data(Bytes::new(), true).unwrap();
    finish(&mut server).await.unwrap();
    drop(server);
    assert!(reader.await.unwrap().ends_with(&"x".repeat(200)));
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_and_pipelined_bytes_are_kept() {
    let (mut server, mut peer) = server();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    head(&mut server).await.unwrap();
    assert!(now(|cx| server.poll_gone(cx)).await.is_pending());
    peer.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(now(|cx| server.poll_gone(cx)).await.is_pending());
    server.send_head(answer(200, BodyLength::None)).unwrap();
    finish(&mut server).await.unwrap();
    assert_eq!(head(&mut server).await.unwrap().unwrap().path, "/next");
    drop(peer);
    assert_eq!(poll_fn(|cx| server.poll_gone(cx)).await, StreamError::Truncated);
}

#[tokio::test]
async fn an_interrupted_response_is_visibly_unfinished() {
    let (mut server, mut peer) = server();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    head(&mut server).await.unwrap();
    server.send_head(answer(200, BodyLength::Unknown)).unwrap();
    server.send_data(Bytes::from_static(b"part"), false).unwrap();
    flush(&mut server).await.unwrap();
    server.reset(h2::Reason::CANCEL);
    assert_eq!(finish(&mut server).await, Ok(Next::Close));
    drop(server);
    assert!(rest(peer).await.ends_with("4\r\npart\r\n"), "no last chunk");
}

#[tokio::test]
async fn a_write_error_is_told_to_every_later_call() {
    let (mut server, mut peer) = server();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    head(&mut server).await.unwrap();
    drop(peer);
    server.send_head(answer(200, BodyLength::Unknown)).unwrap();
    let broken = StreamError::Io(std::io::ErrorKind::BrokenPipe);
    assert_eq!(flush(&mut server).await, Err(broken.clone()));
    assert_eq!(poll_fn(|cx| server.poll_ready(cx)).await, Err(broken));
}
