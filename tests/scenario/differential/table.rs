//! What a row of the table is.

/// One request and the status that Envoy gives it; 0 when the connection just ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) listener: Listener,
    pub(crate) send: Send,
    pub(crate) status: u16,
}

/// Which listener of the bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Main,
    Edge,
    Plain,
    Timed,
    Rare,
    Replies,
    Tuned,
    Announce,
    Little,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Send {
    /// HTTP/1 text; line ends are written as LF and sent as CRLF, an empty line ends the head.
    Text(&'static str),
    /// A conversation on one HTTP/1 connection, ending with the reading of a response.
    Steps(&'static [Step]),
    /// An HTTP/2 request: method, authority, path, headers, body, trailers.
    Http2(Http2),
}

/// A step of a conversation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Sends text as in [`Send::Text`], without ending the head.
    Text(&'static str),
    /// Sends so many octets `x`.
    Fill(usize),
    /// Reads one head and notes it.
    Head,
    /// Reads exactly so many octets and notes them.
    Read(usize),
    /// Reads a whole response to the method and notes it; the last step is always this one for `GET` unless the
    /// conversation noted something itself.
    Response(&'static str),
}

/// An HTTP/2 request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Http2 {
    pub(crate) method: &'static str,
    pub(crate) authority: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) body: &'static str,
    pub(crate) trailers: &'static [(&'static str, &'static str)],
}

/// A status that stands in no table: what Envoy gives is what is wanted.
pub(crate) const ANY: u16 = u16::MAX;

/// An HTTP/1 row on the main listener.
pub(crate) const fn text(name: &'static str, text: &'static str, status: u16) -> Row {
    on(Listener::Main, name, text, status)
}

/// An HTTP/1 row on any listener.
pub(crate) const fn on(listener: Listener, name: &'static str, text: &'static str, status: u16) -> Row {
    Row {
        name,
        listener,
        send: Send::Text(text),
        status,
    }
}

/// A conversation.
pub(crate) const fn steps(name: &'static str, steps: &'static [Step], status: u16) -> Row {
    Row {
        name,
        listener: Listener::Main,
        send: Send::Steps(steps),
        status,
    }
}

/// A `GET` over HTTP/2 on the main listener.
pub(crate) const fn http2(
    name: &'static str,
    authority: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
) -> Row {
    http2_on(Listener::Main, name, authority, path, headers, status)
}

/// A `GET` over HTTP/2 on any listener.
pub(crate) const fn http2_on(
    listener: Listener,
    name: &'static str,
    authority: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
) -> Row {
    let send = Send::Http2(Http2 {
        method: "GET",
        authority,
        path,
        headers,
        body: "",
        trailers: &[],
    });
    Row {
        name,
        listener,
        send,
        status,
    }
}

/// A gRPC call without a message on the main listener; its outcome stands in its trailers.
pub(crate) const fn grpc(
    name: &'static str,
    authority: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
) -> Row {
    let send = Send::Http2(Http2 {
        method: "POST",
        authority,
        path,
        headers,
        body: "",
        trailers: &[],
    });
    Row {
        name,
        listener: Listener::Main,
        send,
        status: 200,
    }
}

/// A `POST` over HTTP/2 on the main listener.
pub(crate) const fn http2_post(
    name: &'static str,
    authority: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    trailers: &'static [(&'static str, &'static str)],
    status: u16,
) -> Row {
    let send = Send::Http2(Http2 {
        method: "POST",
        authority,
        path: "/post",
        headers,
        body,
        trailers,
    });
    Row {
        name,
        listener: Listener::Main,
        send,
        status,
    }
}
