//! The client's side.

use super::*;

#[tokio::test]
async fn a_request_has_its_answer_with_trailers() {
    local(async {
        let mut sender = pair(Options::default(), echo).await;
        let long = vec![b'x'; 300_000];
        for (content, trailer) in [
            (&b""[..], None),
            (b"hello", None),
            (&long, None),
            (b"hello", Some("v")),
            (&long, Some("v")),
        ] {
            let mut stream = sender
                .send_request(request(Method::POST, BodyLength::Unknown))
                .unwrap();
            assert_eq!(sender.active_streams(), 1);
            send(&mut stream, content, trailer.is_none()).await.unwrap();
            if let Some(value) = trailer {
                let fields = [("x-t", value), ("authorization", "dropped")];
                let name = |name: &'static str| http::HeaderName::from_static(name);
                let fields = fields.map(|(key, value)| (name(key), HeaderValue::from_static(value)));
                stream.send_trailers(HeaderMap::from_iter(fields)).unwrap();
            }
            let head = response(&mut stream).await.unwrap();
            assert_eq!(head.headers["x-path"], "/p?q");
            let (found, trailers) = body(&mut stream).await.unwrap();
            assert!(found == content, "{} bytes", content.len());
            assert_eq!(
                trailers.map(|fields| (fields.len(), fields["x-t"].clone())),
                trailer.map(|v| (1, HeaderValue::from_static(v)))
            );
            assert!(
                poll_fn(|cx| stream.poll_frame(cx)).await.is_none(),
                "it stays at its end"
            );
            drop(stream);
            assert_eq!(sender.active_streams(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn only_what_was_not_processed_is_refused() {
    local(async {
        let handle = |head: RequestHead, mut stream: ServerStream| async move {
            let reason = if head.method == Method::GET {
                Reason::REFUSED_STREAM
            } else {
                Reason::INTERNAL_ERROR
            };
            stream.reset(reason);
        };
        let mut sender = pair(Options::default(), handle).await;
        let mut refused = sender
            .send_request(request(Method::GET, BodyLength::None))
            .unwrap();
        assert_eq!(
            response(&mut refused).await.map(|_| ()),
            Err(StreamError::Refused)
        );
        let mut failed = sender
            .send_request(request(Method::PUT, BodyLength::None))
            .unwrap();
        assert_eq!(
            response(&mut failed).await.map(|_| ()),
            Err(StreamError::Reset(Reason::INTERNAL_ERROR))
        );
    })
    .await;
}

#[tokio::test]
async fn a_goaway_refuses_exactly_the_streams_above_its_last() {
    use tokio::io::AsyncWriteExt;
    local(async {
        let (ours, mut peer) = duplex(1 << 20);
        let mut sender = connect(ours, &Options::default()).await;
        let mut first = sender
            .send_request(request(Method::GET, BodyLength::None))
            .unwrap();
        let mut second = sender
            .send_request(request(Method::GET, BodyLength::None))
            .unwrap();
        settle().await;
        peer.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        peer.write_all(&frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2]))
            .await
            .unwrap();
        assert_eq!(response(&mut second).await.map(|_| ()), Err(StreamError::Refused));
        assert_eq!(
            sender.send_request(request(Method::GET, BodyLength::None)).err(),
            Some(StreamError::Refused)
        );
        // HPACK's static index 8 is `:status: 200`.
        peer.write_all(&frame(1, 4, 1, &[0x88])).await.unwrap();
        assert_eq!(response(&mut first).await.unwrap().status, StatusCode::OK);
        drop(peer);
        let cut = body(&mut first).await;
        assert!(
            matches!(cut, Err(StreamError::Io(_))),
            "the stream that was processed is cut, not refused: {cut:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn responses_that_break_the_rules_are_errors() {
    use tokio::io::AsyncWriteExt;
    local(async {
        // 0x08 is a literal `:status`, 0x00 a literal with a new name.
        let cases: [(&str, &[u8]); 4] = [
            ("9113 8.6: 101", b"\x08\x03101"),
            ("9110 15: class 6", b"\x08\x03600"),
            ("9113 8.2.1: space at the end", b"\x88\x00\x01x\x02y "),
            ("9113 8.2.2: connection", b"\x88\x00\x0aconnection\x05close"),
        ];
        for (section, block) in cases {
            let (ours, mut peer) = duplex(1 << 20);
            let mut sender = connect(ours, &Options::default()).await;
            let mut stream = sender
                .send_request(request(Method::GET, BodyLength::None))
                .unwrap();
            settle().await;
            peer.write_all(&frame(4, 0, 0, &[])).await.unwrap();
            peer.write_all(&frame(1, 5, 1, block)).await.unwrap();
            let outcome = poll_fn(|cx| stream.poll_response(cx)).await;
            assert!(
                matches!(outcome, Err(StreamError::Protocol(_))),
                "{section}: {outcome:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_closes_is_known_to_its_senders() {
    local(async {
        let (ours, peer) = duplex(1 << 20);
        let mut sender = connect(ours, &Options::default()).await;
        assert!(sender.is_open());
        drop(peer);
        settle().await;
        assert!(!sender.is_open());
        assert_eq!(
            sender.send_request(request(Method::GET, BodyLength::None)).err(),
            Some(StreamError::Refused)
        );
    })
    .await;
}

#[tokio::test]
async fn informational_heads_come_before_the_final_one() {
    local(async {
        let handle = |_: RequestHead, mut stream: ServerStream| async move {
            stream.send_informational(answer(103, BodyLength::None)).unwrap();
            stream.send_head(answer(204, BodyLength::None)).unwrap();
        };
        let mut sender = pair(Options::default(), handle).await;
        let mut stream = sender
            .send_request(request(Method::GET, BodyLength::None))
            .unwrap();
        let early = poll_fn(|cx| stream.poll_response(cx)).await.unwrap();
        assert!(
            matches!(early, ResponseEvent::Informational(head) if head.status == StatusCode::EARLY_HINTS)
        );
        assert_eq!(
            response(&mut stream).await.unwrap().status,
            StatusCode::NO_CONTENT
        );
    })
    .await;
}

#[tokio::test]
async fn a_sender_waits_for_window_and_no_stream_starves_another() {
    local(async {
        // The connection's window is what two streams' windows would be.
        let options = windows(65_535, 131_070);
        let mut sender = pair(options, |head, stream| async move {
            match head.method {
                // It never reads, nor ends.
                Method::POST => drop((poll_fn(|_| Poll::<()>::Pending).await, stream)),
                _ => echo(head, stream).await,
            }
        })
        .await;
        settle().await;
        let mut stuck = sender
            .send_request(request(Method::POST, BodyLength::Unknown))
            .unwrap();
        let mut given = 0;
        while let Poll::Ready(room) = now(|cx| stuck.poll_ready(cx)).await {
            room.unwrap();
            stuck.send_data(vec![b'x'; 10_000].into(), false).unwrap();
            given += 10_000;
            assert!(given < 1 << 20, "backpressure");
            settle().await;
        }
        assert!(
            given > 65_535,
            "the window was used, and a bounded amount waits: {given}"
        );
        let mut idle = sender
            .send_request(request(Method::PUT, BodyLength::Unknown))
            .unwrap();
        assert!(
            matches!(now(|cx| idle.poll_ready(cx)).await, Poll::Ready(Ok(1..))),
            "room is no claim on the window"
        );
        let mut other = sender
            .send_request(request(Method::PUT, BodyLength::Unknown))
            .unwrap();
        let content = vec![b'y'; 300_000];
        let sending = send(&mut other, &content, true);
        sending.await.unwrap();
        response(&mut other).await.unwrap();
        assert_eq!(body(&mut other).await.unwrap().0.len(), 300_000);
    })
    .await;
}

#[tokio::test]
async fn an_extended_connect_is_an_upgrade_on_both_sides() {
    local(async {
        let options = Options {
            extended_connect: true,
            ..Options::default()
        };
        let handle = |head: RequestHead, mut stream: ServerStream| async move {
            assert_eq!(
                (head.method, head.upgrade.as_deref(), head.body),
                (Method::GET, Some("websocket"), BodyLength::None)
            );
            assert!(
                poll_fn(|cx| stream.poll_frame(cx)).await.is_none(),
                "nothing before the switch"
            );
            stream.send_head(answer(101, BodyLength::Unknown)).unwrap();
            let (content, _) = body(&mut stream).await.unwrap();
            send(&mut stream, &content, true).await.unwrap();
        };
        let mut sender = pair(options, handle).await;
        settle().await;
        let mut upgrade = request(Method::GET, BodyLength::None);
        upgrade.upgrade = Some("websocket".into());
        let mut stream = sender.send_request(upgrade).unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
        let head = response(&mut stream).await.unwrap();
        assert_eq!(
            (head.status, &head.headers["upgrade"]),
            (
                StatusCode::SWITCHING_PROTOCOLS,
                &HeaderValue::from_static("websocket")
            )
        );
        send(&mut stream, b"raw", true).await.unwrap();
        assert_eq!(body(&mut stream).await.unwrap().0, b"raw");
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_that_is_not_offered_or_not_granted_ends() {
    local(async {
        let mut sender = pair(Options::default(), echo).await;
        settle().await;
        let upgrade = || RequestHead {
            upgrade: Some("w".into()),
            ..request(Method::GET, BodyLength::None)
        };
        let error = sender.send_request(upgrade()).err();
        assert_eq!(
            error,
            Some(StreamError::Protocol("http2.extended_connect_not_enabled"))
        );

        let options = Options {
            extended_connect: true,
            ..Options::default()
        };
        let handle = |_: RequestHead, mut stream: ServerStream| async move {
            stream.send_head(answer(403, BodyLength::None)).unwrap();
        };
        let mut sender = pair(options, handle).await;
        settle().await;
        let mut stream = sender.send_request(upgrade()).unwrap();
        assert_eq!(response(&mut stream).await.unwrap().status, StatusCode::FORBIDDEN);
        assert!(body(&mut stream).await.unwrap().0.is_empty());
    })
    .await;
}

#[tokio::test]
async fn head_and_bodiless_responses_end_with_their_heads() {
    local(async {
        let handle = |head: RequestHead, mut stream: ServerStream| async move {
            if head.method == Method::HEAD {
                stream.send_head(answer(200, BodyLength::Exact(7))).unwrap();
                send(&mut stream, b"dropped", true).await.unwrap();
            } else {
                stream.send_head(answer(304, BodyLength::None)).unwrap();
            }
        };
        let mut sender = pair(Options::default(), handle).await;
        for (method, status, length) in [(Method::HEAD, 200, Some("7")), (Method::GET, 304, None)] {
            let mut stream = sender.send_request(request(method, BodyLength::None)).unwrap();
            let head = response(&mut stream).await.unwrap();
            assert_eq!((head.status.as_u16(), head.body), (status, BodyLength::None));
            assert_eq!(
                head.headers.get("content-length").map(|v| v.to_str().unwrap()),
                length
            );
            assert!(body(&mut stream).await.unwrap().0.is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn connection_specific_fields_never_leave() {
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    local(async {
        let handle = move |head: RequestHead, _stream| {
            let seen = seen.clone();
            async move { seen.send(head).unwrap() }
        };
        let mut sender = pair(Options::default(), handle).await;
        let mut head = request(Method::GET, BodyLength::None);
        for (name, value) in [
            ("connection", "x"),
            ("keep-alive", "5"),
            ("upgrade", "w"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("x-kept", "1"),
        ] {
            head.headers.insert(
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let _stream = sender.send_request(head).unwrap();
        let head = heads.recv().await.unwrap();
        let mut names: Vec<_> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        names.sort_unstable();
        assert_eq!(names, [("te", "trailers"), ("x-kept", "1")]);
        assert_eq!(head.authority.unwrap(), "host");
    })
    .await;
}
