//! The server's side.

use super::*;

/// A bare h2 client against our server.
async fn bare(
    options: Options,
) -> (
    h2::client::SendRequest<Bytes>,
    tokio::task::JoinHandle<Option<StreamError>>,
) {
    let (ours, theirs) = memory();
    let server = serve(ServerConnection::new(ours, options), echo);
    let (sender, connection) = h2::client::handshake(theirs).await.unwrap();
    spawn_local(connection);
    (sender, server)
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

async fn outcome(
    sender: &mut h2::client::SendRequest<Bytes>,
    request: Request<()>,
) -> Result<u16, Option<Reason>> {
    let (response, _) = sender
        .send_request(request, true)
        .map_err(|error| error.reason())?;
    response
        .await
        .map(|response| response.status().as_u16())
        .map_err(|error| error.reason())
}

#[tokio::test]
async fn malformed_requests_are_reset_and_never_given_out() {
    local(async {
        let (mut sender, _server) = bare(Options::default()).await;
        let malformed = Err(Some(Reason::PROTOCOL_ERROR));
        let cases = [
            (
                "9113 8.3.1 Host differs",
                get("http://a/").header("host", "b"),
                malformed,
            ),
            (
                "9113 8.3.1 Host agrees",
                get("http://a/").header("host", "a"),
                Ok(200),
            ),
            (
                "9113 8.3.1 two Hosts",
                get("http://a/").header("host", "a").header("host", "a"),
                malformed,
            ),
            ("9113 8.3.1 userinfo", get("http://u@a/"), malformed),
            (
                "9113 8.2.1 space at the end",
                get("http://a/").header("x", "y "),
                malformed,
            ),
            (
                "9113 8.2.1 tab at the start",
                get("http://a/").header("x", "\ty"),
                malformed,
            ),
            (
                "9113 8.2.2 te: trailers",
                get("http://a/").header("te", "trailers"),
                Ok(200),
            ),
            (
                "9113 8.1.1 content-length",
                get("http://a/").header("content-length", "3"),
                malformed,
            ),
            ("9113 8.3.1 scheme", get("ftp://a/"), malformed),
            ("9113 8.3.1 UTF-8 path", get("http://a/\u{e9}"), malformed),
        ];
        for (section, request, expected) in cases {
            assert_eq!(
                outcome(&mut sender, request.body(()).unwrap()).await,
                expected,
                "{section}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_fields_are_answered_with_431() {
    local(async {
        let (mut sender, _server) = bare(Options::default()).await;
        let many =
            |name: &str, count| (0..count).fold(get("http://a/"), |request, _| request.header(name, "v"));
        assert_eq!(
            outcome(&mut sender, many("x", 100).body(()).unwrap()).await,
            Ok(200)
        );
        assert_eq!(
            outcome(&mut sender, many("x", 101).body(()).unwrap()).await,
            Ok(431)
        );
        assert_eq!(
            outcome(&mut sender, many("cookie", 200).body(()).unwrap()).await,
            Ok(200),
            "crumbs are one field"
        );
        let large = get("http://a/")
            .header("x", "v".repeat(62 << 10))
            .body(())
            .unwrap();
        assert_eq!(outcome(&mut sender, large).await, Ok(431));
    })
    .await;
}

#[tokio::test]
async fn cookie_crumbs_become_one_value() {
    let (seen, mut heads) = tokio::sync::mpsc::unbounded_channel();
    local(async {
        let (ours, theirs) = memory();
        serve(ServerConnection::new(ours, Options::default()), move |head, _| {
            let seen = seen.clone();
            async move { seen.send(head).unwrap() }
        });
        let (mut sender, connection) = h2::client::handshake(theirs).await.unwrap();
        spawn_local(connection);
        let request = get("http://a/")
            .header("cookie", "a=b")
            .header("cookie", "c=d")
            .body(())
            .unwrap();
        let _ = outcome(&mut sender, request).await;
        let head = heads.recv().await.unwrap();
        assert_eq!(
            head.headers.get_all("cookie").iter().collect::<Vec<_>>(),
            ["a=b; c=d"]
        );
        assert_eq!((head.body, head.version), (BodyLength::None, Version::HTTP_2));
    })
    .await;
}

#[tokio::test]
async fn a_body_that_belies_its_length_is_an_error() {
    let (seen, mut bodies) = tokio::sync::mpsc::unbounded_channel();
    local(async {
        let (ours, theirs) = memory();
        serve(
            ServerConnection::new(ours, Options::default()),
            move |head, mut stream| {
                let seen = seen.clone();
                async move { seen.send((head.body, body(&mut stream).await)).unwrap() }
            },
        );
        let (mut sender, connection) = h2::client::handshake(theirs).await.unwrap();
        spawn_local(connection);
        for content in ["ab", "abcd"] {
            let request = Request::post("http://a/")
                .header("content-length", "3")
                .body(())
                .unwrap();
            let (_response, mut stream) = sender.send_request(request, false).unwrap();
            stream
                .send_data(Bytes::from_static(content.as_bytes()), true)
                .unwrap();
            let (length, body) = bodies.recv().await.unwrap();
            assert_eq!(length, BodyLength::Exact(3));
            assert!(
                matches!(body, Err(StreamError::Protocol(_) | StreamError::Reset(_))),
                "{content}: {body:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_rapid_reset_ends_the_connection() {
    local(async {
        let (mut sender, server) = bare(Options::default()).await;
        for _ in 0..200 {
            let Ok(()) = poll_fn(|cx| sender.poll_ready(cx)).await else {
                break;
            };
            let Ok((_, mut stream)) = sender.send_request(get("http://a/").body(()).unwrap(), false) else {
                break;
            };
            stream.send_reset(Reason::CANCEL);
        }
        assert_eq!(
            server.await.unwrap(),
            Some(StreamError::Protocol("http2.inbound_frames_flood"))
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_that_resets_or_leaves_is_noticed() {
    let (seen, mut gone) = tokio::sync::mpsc::unbounded_channel();
    local(async {
        let (ours, theirs) = memory();
        serve(
            ServerConnection::new(ours, Options::default()),
            move |head, mut stream| {
                let seen = seen.clone();
                async move {
                    if head.method == Method::PUT {
                        stream.send_head(answer(200, BodyLength::Unknown)).unwrap();
                    }
                    seen.send(poll_fn(|cx| stream.poll_gone(cx)).await).unwrap();
                }
            },
        );
        let mut sender = connect(theirs, &Options::default()).await;
        for method in [Method::GET, Method::PUT] {
            let stream = sender.send_request(request(method, BodyLength::None)).unwrap();
            settle().await;
            drop(stream);
            assert_eq!(gone.recv().await.unwrap(), StreamError::Reset(Reason::CANCEL));
        }
        assert_eq!(sender.active_streams(), 0);
    })
    .await;
}

#[tokio::test]
async fn what_many_streams_give_in_one_turn_leaves_in_one_write() {
    local(async {
        let (ours, theirs) = memory();
        let mut server = ServerConnection::new(ours, Options::default());
        let mut sender = connect(theirs, &Options::default()).await;
        let mut asked = Vec::new();
        for _ in 0..8 {
            asked.push(
                sender
                    .send_request(request(Method::GET, BodyLength::None))
                    .unwrap(),
            );
        }
        settle().await;
        let requests = sender.gather().writes();
        let mut streams = Vec::new();
        while streams.len() < 8 {
            let accepted = poll_fn(|cx| server.poll_accept(cx)).await;
            streams.push(accepted.unwrap().unwrap().1);
        }
        assert!(now(|cx| server.poll_accept(cx)).await.is_pending());
        settle().await;
        assert!(
            now(|cx| server.poll_accept(cx)).await.is_pending(),
            "settings are settled"
        );
        let before = server.gather().writes();
        for stream in &mut streams {
            stream.send_head(answer(200, BodyLength::Exact(1000))).unwrap();
            stream.send_data(vec![b'x'; 1000].into(), true).unwrap();
        }
        assert!(now(|cx| server.poll_accept(cx)).await.is_pending());
        assert_eq!(
            server.gather().writes() - before,
            1,
            "eight heads and eight bodies"
        );
        for stream in &mut asked {
            assert_eq!(response(stream).await.unwrap().body, BodyLength::Exact(1000));
            assert_eq!(body(stream).await.unwrap().0.len(), 1000);
        }
        assert_eq!(requests, 1, "the preface, the settings and eight requests");
    })
    .await;
}

#[tokio::test]
async fn a_graceful_shutdown_lets_streams_finish() {
    local(async {
        let (ours, theirs) = memory();
        let mut server = ServerConnection::new(ours, Options::default());
        let mut sender = connect(theirs, &Options::default()).await;
        let mut asked = sender
            .send_request(request(Method::GET, BodyLength::None))
            .unwrap();
        let (_, mut stream) = poll_fn(|cx| server.poll_accept(cx)).await.unwrap().unwrap();
        assert!(server.has_streams());
        server.graceful_shutdown();
        let served = spawn_local(async move { poll_fn(|cx| server.poll_accept(cx)).await.is_none() });
        settle().await;
        assert_eq!(
            poll_fn(|cx| sender.poll_ready(cx)).await,
            Err(StreamError::Refused)
        );
        assert!(!sender.is_open());
        stream.send_head(answer(200, BodyLength::None)).unwrap();
        assert_eq!(response(&mut asked).await.unwrap().status, StatusCode::OK);
        drop((asked, stream));
        assert!(served.await.unwrap(), "the connection ends in good order");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_no_ping_is_dead() {
    local(async {
        let seconds = std::time::Duration::from_secs;
        let http2 = Http2Options {
            keepalive: Some((seconds(30), seconds(5))),
            ..Http2Options::default()
        };
        let options = Options {
            http2,
            ..Options::default()
        };
        let (ours, theirs) = memory();
        let server = serve(ServerConnection::new(ours, options), echo);
        let started = tokio::time::Instant::now();
        // It says its preface and settings, acknowledges nothing, and stays.
        let mut peer = theirs;
        tokio::io::AsyncWriteExt::write_all(
            &mut peer,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        )
        .await
        .unwrap();
        assert_eq!(
            server.await.unwrap(),
            Some(StreamError::Io(std::io::ErrorKind::TimedOut))
        );
        assert_eq!(started.elapsed(), seconds(35));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_lives() {
    local(async {
        let seconds = std::time::Duration::from_secs;
        let http2 = Http2Options {
            keepalive: Some((seconds(30), seconds(5))),
            ..Http2Options::default()
        };
        let (mut sender, server) = bare(Options {
            http2,
            ..Options::default()
        })
        .await;
        tokio::time::sleep(seconds(300)).await;
        assert_eq!(
            outcome(&mut sender, get("http://a/").body(()).unwrap()).await,
            Ok(200)
        );
        assert!(!server.is_finished());
    })
    .await;
}

#[tokio::test]
async fn what_is_no_preface_ends_the_connection_without_a_reset() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    local(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let io = Io::Plain(Socket::new(Transport::Tcp(stream)));
        let mut server = ServerConnection::new(io, Options::default());
        let closed = spawn_local(async move {
            let end = poll_fn(|cx| server.poll_accept(cx)).await.unwrap();
            poll_fn(|cx| server.poll_close(cx)).await.unwrap();
            end.map(|_| ()).unwrap_err()
        });
        // The first read takes no more than a preface; the rest stays unread, and closing would reset.
        peer.write_all(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10))
            .await
            .unwrap();
        peer.read_to_end(&mut Vec::new())
            .await
            .expect("an end, not a reset");
        drop(peer);
        assert_eq!(
            closed.await.unwrap(),
            StreamError::Protocol("http2.violation.of.messaging.rule")
        );
    })
    .await;
}

#[tokio::test]
async fn what_no_client_library_sends_is_reset_too() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    local(async {
        // GET / of http://a, then literal fields with new names.
        const GET: &[u8] = b"\x82\x84\x86\x41\x01a";
        let cases: [(&str, Vec<u8>); 9] = [
            (
                "9113 8.2.2 connection",
                [GET, b"\x00\x0aconnection\x05close"].concat(),
            ),
            (
                "9113 8.2.2 transfer-encoding",
                [GET, b"\x00\x11transfer-encoding\x07chunked"].concat(),
            ),
            ("9113 8.2.2 te", [GET, b"\x00\x02te\x04gzip"].concat()),
            ("9113 8.2.2 upgrade", [GET, b"\x00\x07upgrade\x01w"].concat()),
            (
                "9113 8.3 late pseudo-header",
                b"\x82\x84\x86\x00\x01x\x01y\x41\x01a".to_vec(),
            ),
            ("9113 8.3 repeated pseudo-header", [GET, b"\x84"].concat()),
            ("9113 8.3 status in a request", [GET, b"\x88"].concat()),
            ("9113 8.3.1 no method", b"\x84\x86\x41\x01a".to_vec()),
            ("9113 8.3.1 empty path", b"\x82\x04\x00\x86\x41\x01a".to_vec()),
        ];
        for (section, block) in cases {
            let (ours, mut peer) = memory();
            let never = |head: RequestHead, _: ServerStream| async move { panic!("{head:?} was given out") };
            serve(ServerConnection::new(ours, Options::default()), never);
            peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            peer.write_all(&[frame(4, 0, 0, &[]), frame(1, 5, 1, &block)].concat())
                .await
                .unwrap();
            settle().await;
            let mut answer = vec![0; 4096];
            let length = peer.read(&mut answer).await.unwrap();
            let reset = frame(3, 0, 1, &[0, 0, 0, 1]);
            assert!(
                answer[..length].windows(reset.len()).any(|bytes| bytes == reset),
                "{section}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_graceful_shutdown_says_goaway_twice() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    local(async {
        let (ours, mut peer) = memory();
        let mut server = ServerConnection::new(ours, Options::default());
        let get = frame(1, 5, 1, b"\x82\x84\x86\x41\x01a");
        peer.write_all(
            &[
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                frame(4, 0, 0, &[]),
                get,
            ]
            .concat(),
        )
        .await
        .unwrap();
        let (_, stream) = poll_fn(|cx| server.poll_accept(cx)).await.unwrap().unwrap();
        server.graceful_shutdown();
        spawn_local(async move { poll_fn(|cx| server.poll_accept(cx)).await.is_none() });
        let mut last_streams = Vec::new();
        while last_streams.len() < 2 {
            let mut header = [0; 9];
            peer.read_exact(&mut header).await.unwrap();
            let mut payload = vec![0; usize::from(header[2])];
            peer.read_exact(&mut payload).await.unwrap();
            match (header[3], header[4]) {
                (6, 0) => peer.write_all(&frame(6, 1, 0, &payload)).await.unwrap(),
                (7, _) => last_streams.push(u32::from_be_bytes(payload[..4].try_into().unwrap())),
                _ => {}
            }
        }
        assert_eq!(last_streams, [0x7fff_ffff, 1]);
        drop(stream);
    })
    .await;
}
