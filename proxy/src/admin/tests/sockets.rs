//! Where it listens, and how many it serves.

use super::*;

#[test]
fn the_bound_address_is_written_down_and_a_unix_socket_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path: Arc<str> = folder.path().join("admin.sock").to_str().unwrap().into();
    let file = folder.path().join("address");
    let house = StandIn::live();
    with_admin(&house, |_| async {
        // A socket that was left behind by a process that is gone.
        drop(std::os::unix::net::UnixListener::bind(&*path).unwrap());
        let server = AdminServer::bind(&ListenAddress::Pipe(Arc::clone(&path)))
            .await
            .unwrap();
        server.write_address(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), *path);
        assert!(
            AdminServer::bind(&ListenAddress::Pipe(Arc::clone(&path)))
                .await
                .is_err(),
            "it is in use"
        );
        let operator: Rc<dyn Operator> = Rc::clone(&house) as Rc<dyn Operator>;
        let logging = Logging::detached(&LoggingOptions::default()).unwrap();
        tokio::task::spawn_local(server.serve(AdminContext {
            operator,
            observe: Arc::default(),
            logging,
        }));
        let mut stream = tokio::net::UnixStream::connect(&*path).await.unwrap();
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("LIVE"),
            "{answer}"
        );
    });
}

#[test]
fn connections_beyond_the_bound_wait_their_turn() {
    with_admin(&StandIn::live(), |address| async move {
        let ListenAddress::Socket(socket) = address.clone() else {
            panic!("not TCP")
        };
        let mut idle = Vec::new();
        for _ in 0..server::MAX_CONNECTIONS {
            let mut stream = tokio::net::TcpStream::connect(socket).await.unwrap();
            // An answer shows that the connection has its place.
            stream
                .write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\n\r\n")
                .await
                .unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            idle.push(stream);
        }
        let mut waiting = std::pin::pin!(get(&address, "/ready"));
        let early = tokio::time::timeout(Duration::from_millis(200), waiting.as_mut()).await;
        assert!(early.is_err(), "served beyond the bound");
        idle.pop();
        assert_eq!(waiting.await.status, StatusCode::OK);
    });
}
