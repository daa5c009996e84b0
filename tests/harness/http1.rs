//! How does an HTTP/1 message look on the wire, byte for byte?
//!
//! A plain reader for both directions, kept apart from every HTTP library so that tests can send what a library
//! would refuse and see what a library would tidy up: header case and order, framing, trailers, informational heads.
//! It trusts its peer to end lines with CRLF and bounds nothing: it reads what tests wrote and proxies forwarded.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Header or trailer lines as they came: case and order kept.
pub type Fields = Vec<(String, String)>;

/// The first line and the header lines of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Request line or status line, without its line end.
    pub start_line: String,
    /// Header lines.
    pub headers: Fields,
}

/// How the body's end is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body by the rules of the method or status.
    None,
    /// `content-length` octets.
    Length(usize),
    /// Chunked transfer coding.
    Chunked,
    /// Until the connection closes.
    UntilClose,
}

/// A body with what came after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The octets, transfer coding removed.
    pub bytes: Vec<u8>,
    /// Trailer lines of a chunked body.
    pub trailers: Fields,
    /// False when the connection ended before the body did.
    pub complete: bool,
}

impl Head {
    /// The first value of header `name`, compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The word at `index` of the first line.
    pub fn word(&self, index: usize) -> &str {
        self.start_line.split(' ').nth(index).unwrap_or("")
    }

    /// The status of a response head; 0 if there is none.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// How a request with this head is framed.
    pub fn request_framing(&self) -> Framing {
        self.declared().unwrap_or(Framing::None)
    }

    /// How a response with this head is framed, given whether it answers a `HEAD`.
    pub fn response_framing(&self, method: &str) -> Framing {
        let status = self.status();
        let bodiless = method == "HEAD" || (100..200).contains(&status) || status == 204 || status == 304;
        if bodiless || (method == "CONNECT" && status == 200) {
            return Framing::None;
        }
        self.declared().unwrap_or(Framing::UntilClose)
    }

    fn declared(&self) -> Option<Framing> {
        let chunked = self
            .header("transfer-encoding")
            .is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        if chunked {
            return Some(Framing::Chunked);
        }
        self.header("content-length")
            .and_then(|v| v.trim().parse().ok())
            .map(Framing::Length)
    }
}

/// Reads a head; `None` when the connection ended before its first byte.
pub async fn read_head<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Option<Head>> {
    let Some(start_line) = read_line(reader).await? else {
        return Ok(None);
    };
    let headers = read_fields(reader)
        .await
        .with_context(|| format!("after '{start_line}'"))?;
    Ok(Some(Head { start_line, headers }))
}

/// Reads a body with the given framing. An early end is not an error but `complete: false`.
pub async fn read_body<R: AsyncBufRead + Unpin>(reader: &mut R, framing: Framing) -> Body {
    let mut body = Body::default();
    body.complete = match framing {
        Framing::None => true,
        Framing::Length(length) => read_exactly(reader, length, &mut body.bytes).await,
        Framing::UntilClose => reader.read_to_end(&mut body.bytes).await.is_ok(),
        Framing::Chunked => read_chunks(reader, &mut body).await.is_ok(),
    };
    body
}

/// One chunk of the chunked coding.
pub fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

/// Fields as a JSON array of pairs.
pub fn fields_json(fields: &Fields) -> Value {
    fields.iter().map(|(name, value)| json!([name, value])).collect()
}

async fn read_chunks<R: AsyncBufRead + Unpin>(reader: &mut R, body: &mut Body) -> Result<()> {
    loop {
        let line = read_line(reader)
            .await?
            .context("the connection ended where a chunk size should be")?;
        let size = line.split(';').next().unwrap_or("").trim();
        let size =
            usize::from_str_radix(size, 16).with_context(|| format!("'{line}' is not a chunk size"))?;
        if size == 0 {
            body.trailers = read_fields(reader).await?;
            return Ok(());
        }
        if !read_exactly(reader, size, &mut body.bytes).await {
            bail!("the connection ended inside a chunk");
        }
        read_line(reader).await?;
    }
}

async fn read_exactly<R: AsyncBufRead + Unpin>(reader: &mut R, length: usize, into: &mut Vec<u8>) -> bool {
    let before = into.len();
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    let result = reader.take(limit).read_to_end(into).await;
    result.is_ok() && into.len() - before == length
}

async fn read_fields<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Fields> {
    let mut fields = Fields::new();
    loop {
        let line = read_line(reader)
            .await?
            .context("the connection ended inside the header lines")?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("'{line}' is not a header line"))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Option<String>> {
    let mut line = Vec::new();
    let count = reader.read_until(b'\n', &mut line).await?;
    if count == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        bail!(
            "the connection ended inside the line '{}'",
            String::from_utf8_lossy(&line)
        );
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chunked_message_is_read_with_its_trailers() {
        let wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nx-t: 1\r\n\r\n";
        let mut reader = &wire[..];
        let head = read_head(&mut reader).await.unwrap().unwrap();
        assert_eq!(
            (head.status(), head.response_framing("GET")),
            (200, Framing::Chunked)
        );
        let body = read_body(&mut reader, head.response_framing("GET")).await;
        assert_eq!(body.bytes, b"abcd");
        assert_eq!(body.trailers, [("x-t".to_owned(), "1".to_owned())]);
        assert!(body.complete);
    }

    #[tokio::test]
    async fn an_early_end_is_seen() {
        let mut reader = &b"ab"[..];
        assert!(!read_body(&mut reader, Framing::Length(3)).await.complete);
    }
}
