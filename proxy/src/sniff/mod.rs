//! What is a connection? TLS, HTTP/1, HTTP/2 or opaque, from its first bytes.
