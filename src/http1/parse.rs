//! Pure. The head of a request: its line and headers.

use crate::limits::http2::{
    HTTP1_HEAD_BYTES_MAX, HTTP1_HEADERS_MAX, HTTP1_METHOD_BYTES_MAX, PLAIN_BODY_BYTES_MAX,
};
use std::fmt;

/// Why bytes are no request that we take. Each is answered and ends the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestError {
    /// Not `METHOD target HTTP/1.x`.
    Line,
    Version,
    /// A target that names no resource here.
    Target,
    /// A header line without a name and a colon, or with bytes that headers may not have.
    Header,
    /// HTTP/1.1 without exactly one `host`.
    Host,
    HeadTooLarge {
        max: usize,
    },
    ContentLength,
    /// Both a length and chunks.
    TwoLengths,
    /// A transfer coding other than `chunked`.
    TransferCoding,
    Chunk,
    BodyTooLarge {
        max: usize,
    },
}

impl RequestError {
    /// The status that answers it.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::HeadTooLarge { .. } => 431,
            RequestError::BodyTooLarge { .. } => 413,
            RequestError::TransferCoding => 501,
            RequestError::Version => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Line => f.write_str("malformed request line"),
            RequestError::Version => f.write_str("unsupported HTTP version"),
            RequestError::Target => f.write_str("malformed request target"),
            RequestError::Header => f.write_str("malformed header"),
            RequestError::Host => f.write_str("missing or repeated Host header"),
            RequestError::HeadTooLarge { max } => write!(f, "request head above {max} bytes"),
            RequestError::ContentLength => f.write_str("malformed Content-Length"),
            RequestError::TwoLengths => f.write_str("both Content-Length and Transfer-Encoding"),
            RequestError::TransferCoding => f.write_str("unsupported transfer encoding"),
            RequestError::Chunk => f.write_str("malformed chunk"),
            RequestError::BodyTooLarge { max } => write!(f, "request body above {max} bytes"),
        }
    }
}

impl std::error::Error for RequestError {}

/// How a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodySize {
    Known(usize),
    Chunked,
}

/// A request's line and headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHead {
    pub method: String,
    /// In origin form: path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: BodySize,
    pub keep_alive: bool,
    /// The peer understands chunks.
    pub http11: bool,
    pub expects_continue: bool,
}

/// Where the head that begins `bytes` ends: behind its empty line. `searched` bytes are known not
/// to hold the end.
pub fn head_size(bytes: &[u8], searched: usize) -> Result<Option<usize>, RequestError> {
    let from = searched.saturating_sub(3).min(bytes.len());
    let max = HTTP1_HEAD_BYTES_MAX;
    for (at, _) in bytes[from..]
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
    {
        let end = from + at + 1;
        let before = &bytes[..end - 1];
        let before = before.strip_suffix(b"\r").unwrap_or(before);
        if before.last() == Some(&b'\n') {
            if end > max {
                return Err(RequestError::HeadTooLarge { max });
            }
            return Ok(Some(end));
        }
    }
    if bytes.len() > max {
        return Err(RequestError::HeadTooLarge { max });
    }
    check_method(bytes)?;
    Ok(None)
}

/// Refuses what cannot become a request: the first bytes of another protocol hold no line end, and
/// their sender would wait for an answer as long as we wait for one.
fn check_method(bytes: &[u8]) -> Result<(), RequestError> {
    let size = bytes.iter().position(|&b| !is_token(b));
    let size = size.unwrap_or(bytes.len());
    let bad = match bytes.get(size) {
        Some(&end) => end != b' ' || size == 0,
        None => false,
    };
    if bad || size > HTTP1_METHOD_BYTES_MAX {
        return Err(RequestError::Line);
    }
    Ok(())
}

/// Parses a head with its empty line.
pub fn parse_head(bytes: &[u8]) -> Result<RequestHead, RequestError> {
    let mut lines = bytes.split_inclusive(|&b| b == b'\n').map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    let (method, target, http11) = parse_line(lines.next().unwrap_or(b""))?;
    let mut head = RequestHead {
        method,
        target,
        headers: Vec::new(),
        body: BodySize::Known(0),
        keep_alive: http11,
        http11,
        expects_continue: false,
    };
    let mut hosts = 0;
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        if line.is_empty() {
            break;
        }
        let (name, value) = parse_header(line)?;
        match name.as_str() {
            "host" => hosts += 1,
            "content-length" => {
                let size = parse_length(&value)?;
                if length.replace(size).is_some_and(|before| before != size) {
                    return Err(RequestError::ContentLength);
                }
            }
            "transfer-encoding" => {
                if chunked || !value.eq_ignore_ascii_case("chunked") {
                    return Err(RequestError::TransferCoding);
                }
                chunked = true;
            }
            "connection" => {
                for word in value.split(',').map(str::trim) {
                    if word.eq_ignore_ascii_case("close") {
                        head.keep_alive = false;
                    } else if word.eq_ignore_ascii_case("keep-alive") && !http11 {
                        head.keep_alive = true;
                    }
                }
            }
            "expect" => head.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
        if head.headers.len() == HTTP1_HEADERS_MAX {
            return Err(RequestError::HeadTooLarge {
                max: HTTP1_HEAD_BYTES_MAX,
            });
        }
        head.headers.push((name, value));
    }
    if hosts > 1 || (http11 && hosts == 0) {
        return Err(RequestError::Host);
    }
    head.body = match (length, chunked) {
        (Some(_), true) => return Err(RequestError::TwoLengths),
        (None, true) if !http11 => return Err(RequestError::TransferCoding),
        (None, true) => BodySize::Chunked,
        (length, false) => BodySize::Known(length.unwrap_or(0)),
    };
    Ok(head)
}

fn parse_line(line: &[u8]) -> Result<(String, String, bool), RequestError> {
    let line = std::str::from_utf8(line).map_err(|_| RequestError::Line)?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(RequestError::Line);
    };
    if method.is_empty() || !method.bytes().all(is_token) || method.len() > HTTP1_METHOD_BYTES_MAX {
        return Err(RequestError::Line);
    }
    let http11 = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ if version.starts_with("HTTP/") => return Err(RequestError::Version),
        _ => return Err(RequestError::Line),
    };
    if !target.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(RequestError::Target);
    }
    let target = if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        target
    } else {
        // Absolute form, as proxies send it.
        let rest = target
            .strip_prefix("http://")
            .or(target.strip_prefix("https://"));
        let rest = rest.ok_or(RequestError::Target)?;
        rest.find('/').map_or("/", |at| &rest[at..])
    };
    Ok((method.into(), target.into(), http11))
}

fn parse_header(line: &[u8]) -> Result<(String, String), RequestError> {
    let colon = line
        .iter()
        .position(|&b| b == b':')
        .ok_or(RequestError::Header)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // A name that begins with white space would continue the line before: no longer allowed.
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(RequestError::Header);
    }
    let value = value.trim_ascii();
    if value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
        return Err(RequestError::Header);
    }
    let name = name
        .iter()
        .map(|b| char::from(b.to_ascii_lowercase()))
        .collect();
    Ok((name, String::from_utf8_lossy(value).into_owned()))
}

fn parse_length(value: &str) -> Result<usize, RequestError> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RequestError::ContentLength);
    }
    let max = PLAIN_BODY_BYTES_MAX;
    match value.parse() {
        Ok(size) if size <= max => Ok(size),
        _ => Err(RequestError::BodyTooLarge { max }),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
