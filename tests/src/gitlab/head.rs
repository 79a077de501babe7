//! The head of a request, as HTTP/1.1 writes it. What no client should send is refused, not guessed at.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use url::Url;

/// No client of ours writes longer heads.
const LONGEST: usize = 64 * 1024;
/// What takes a body here takes a few hundred bytes.
const LARGEST_BODY: usize = 1 << 20;
const END: &[u8] = b"\r\n\r\n";

/// A request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    /// Path and query are the client's; the host is made up.
    pub(super) url: Url,
    /// The names in small letters.
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What came over a connection.
#[derive(Debug)]
pub(super) enum Received {
    Request(Head),
    /// Bytes that are no request.
    Malformed,
    /// The client has gone.
    End,
}

impl Head {
    /// The first header of this name, in small letters.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Whether the client wants the connection for another request.
    pub(super) fn keeps_alive(&self) -> bool {
        !self
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let mut request = lines.next()?.split(' ');
        let (method, target) = (request.next()?, request.next()?);
        let is_http = request.next() == Some("HTTP/1.1") && request.next().is_none();
        let headers: Option<Vec<_>> = lines.map(header).collect();
        let head = Self {
            method: method.to_owned(),
            url: Url::parse(&format!("http://gitlab{target}")).ok()?,
            headers: headers?,
            body: Vec::new(),
        };
        let is_strict = is_http && target.starts_with('/') && head.header("host").is_some();
        is_strict.then_some(head)
    }

    /// How long the body is; `None` where that is not said in plain.
    fn body_length(&self) -> Option<usize> {
        match self.header("content-length") {
            _ if self.header("transfer-encoding").is_some() => None,
            Some(length) => length.parse().ok().filter(|length| *length <= LARGEST_BODY),
            None => Some(0),
        }
    }
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let is_name = !name.is_empty() && !name.contains([' ', '\t']);
    is_name.then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// Reads the next request; what came with it of the one after stays in `buffer`.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Received> {
    let end = loop {
        if let Some(end) = buffer.windows(END.len()).position(|bytes| bytes == END) {
            break end;
        }
        if buffer.len() > LONGEST {
            return Ok(Received::Malformed);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(Received::End);
        }
    };
    let head = Head::parse(&buffer[..end]);
    buffer.drain(..end + END.len());
    let Some((body, mut head)) = head.and_then(|head| Some((head.body_length()?, head))) else {
        return Ok(Received::Malformed);
    };
    while buffer.len() < body {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(Received::End);
        }
    }
    head.body = buffer.drain(..body).collect();
    Ok(Received::Request(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut bytes: &[u8]) -> Vec<Received> {
        let mut buffer = Vec::new();
        let mut received = Vec::new();
        loop {
            let next = receive(&mut bytes, &mut buffer).await.unwrap();
            let is_request = matches!(next, Received::Request(_));
            received.push(next);
            if !is_request {
                return received;
            }
        }
    }

    #[tokio::test]
    async fn requests_come_one_after_the_other_with_their_bodies() {
        let sent = b"GET /a%2Fb?c=d HTTP/1.1\r\nHost: x\r\nPRIVATE-TOKEN:  y \r\n\r\n\
            POST /e HTTP/1.1\r\nhost: x\r\nContent-Length: 3\r\nConnection: Close\r\n\r\n{}\nGET /cut";
        let received = all(sent).await;
        let [
            Received::Request(get),
            Received::Request(post),
            Received::End,
        ] = &received[..]
        else {
            panic!("{received:?}");
        };
        assert_eq!((get.method.as_str(), get.url.path()), ("GET", "/a%2Fb"));
        assert_eq!(get.url.query(), Some("c=d"));
        assert_eq!(get.header("private-token"), Some("y"));
        assert!(get.keeps_alive());
        assert_eq!((post.method.as_str(), post.url.path()), ("POST", "/e"));
        assert_eq!(
            (get.body.as_slice(), post.body.as_slice()),
            (&b""[..], &b"{}\n"[..])
        );
        assert!(!post.keeps_alive());
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused() {
        for wrong in [
            "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        ] {
            let received = all(wrong.as_bytes()).await;
            assert!(matches!(received[..], [Received::Malformed]), "{wrong:?}");
        }
    }
}
