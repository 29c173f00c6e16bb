//! Pure. A request's fields, checked by RFC 9113's rules, and the memory of those that came before.

use super::hpack::{Decoder, Fields, ShortValue};
use crate::limits::http2 as limits;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Why a request's fields are malformed. Its stream is reset with PROTOCOL_ERROR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// A pseudo-field after a regular one.
    PseudoLate,
    /// A pseudo-field that requests do not have.
    PseudoUnknown,
    PseudoTwice,
    /// `:method`, `:scheme` or `:path` is missing or empty.
    PseudoMissing,
    /// A pseudo-field among trailers.
    PseudoInTrailers,
    /// An upper-case letter or another byte that a name may not have.
    Name,
    /// A byte that a value may not have, or white space at its ends.
    Value,
    /// A field that belongs to HTTP/1.1's connections.
    ConnectionField,
    /// `te` other than `trailers`.
    Te,
    /// `content-length` that is no number, or two that differ.
    ContentLength,
}

/// The fields of one request. Shared by all requests that have the same ones.
pub struct Head {
    text: Box<[u8]>,
    /// Names and values in order, pseudo-fields left out.
    fields: Box<[(Range<u32>, Range<u32>)]>,
    method: Range<u32>,
    scheme: Range<u32>,
    authority: Range<u32>,
    path: Range<u32>,
    content_length: Option<u64>,
}

impl Head {
    /// Checks and keeps the fields of the block that `decoder` decoded last.
    pub fn request(decoder: &Decoder) -> Result<Head, HeadError> {
        let fields = decoder.fields();
        let mut head = Builder::with_capacity(fields.list_bytes(), fields.numbers().len());
        for (name, value) in decoder.list() {
            head.push(name, value)?;
        }
        head.finish()
    }

    pub fn method(&self) -> &[u8] {
        self.text(&self.method)
    }

    pub fn scheme(&self) -> &[u8] {
        self.text(&self.scheme)
    }

    /// `:authority`; empty when the request has none.
    pub fn authority(&self) -> &[u8] {
        self.text(&self.authority)
    }

    pub fn path(&self) -> &[u8] {
        self.text(&self.path)
    }

    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The first value of a field; names are in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields()
            .find(|(n, _)| *n == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Names and values in order, pseudo-fields and the varying field left out.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|(name, value)| (self.text(name), self.text(value)))
    }

    fn text(&self, range: &Range<u32>) -> &[u8] {
        &self.text[range.start as usize..range.end as usize]
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = String::from_utf8_lossy(self.method());
        write!(f, "{method} {}", String::from_utf8_lossy(self.path()))?;
        for (name, value) in self.fields() {
            let name = String::from_utf8_lossy(name);
            write!(f, ", {name}: {}", String::from_utf8_lossy(value))?;
        }
        Ok(())
    }
}

/// A head under construction.
struct Builder {
    text: Vec<u8>,
    fields: Vec<(Range<u32>, Range<u32>)>,
    /// `:method`, `:scheme`, `:authority`, `:path`.
    pseudo: [Option<Range<u32>>; 4],
    content_length: Option<u64>,
}

impl Builder {
    fn with_capacity(bytes: usize, count: usize) -> Builder {
        Builder {
            text: Vec::with_capacity(bytes),
            fields: Vec::with_capacity(count),
            pseudo: [const { None }; 4],
            content_length: None,
        }
    }

    fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        check_value(value)?;
        if name.first() == Some(&b':') {
            let at = match name {
                b":method" => 0,
                b":scheme" => 1,
                b":authority" => 2,
                b":path" => 3,
                _ => return Err(HeadError::PseudoUnknown),
            };
            if !self.fields.is_empty() {
                return Err(HeadError::PseudoLate);
            }
            let range = self.keep(value);
            if self.pseudo[at].replace(range).is_some() {
                return Err(HeadError::PseudoTwice);
            }
            return Ok(());
        }
        check_name(name)?;
        check_field(name, value)?;
        if name == b"content-length" {
            let size = parse_content_length(value)?;
            if self
                .content_length
                .replace(size)
                .is_some_and(|before| before != size)
            {
                return Err(HeadError::ContentLength);
            }
        }
        let name = self.keep(name);
        let value = self.keep(value);
        self.fields.push((name, value));
        Ok(())
    }

    /// The list is shorter than `HEADER_LIST_BYTES_MAX`, so offsets fit 32 bits.
    fn keep(&mut self, text: &[u8]) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(text);
        start..self.text.len() as u32
    }

    fn finish(self) -> Result<Head, HeadError> {
        let [method, scheme, authority, path] = self.pseudo;
        let method = method
            .filter(|m| !m.is_empty())
            .ok_or(HeadError::PseudoMissing)?;
        let connect = &self.text[method.start as usize..method.end as usize] == b"CONNECT";
        let (scheme, path) = if connect {
            if scheme.is_some() || path.is_some() || authority.is_none() {
                return Err(HeadError::PseudoMissing);
            }
            (0..0, 0..0)
        } else {
            let scheme = scheme
                .filter(|s| !s.is_empty())
                .ok_or(HeadError::PseudoMissing)?;
            (
                scheme,
                path.filter(|p| !p.is_empty())
                    .ok_or(HeadError::PseudoMissing)?,
            )
        };
        Ok(Head {
            text: self.text.into_boxed_slice(),
            fields: self.fields.into_boxed_slice(),
            method,
            scheme,
            authority: authority.unwrap_or(0..0),
            path,
            content_length: self.content_length,
        })
    }
}

/// Checks a request's trailers: the block that `decoder` decoded last.
pub fn check_trailers(decoder: &Decoder) -> Result<(), HeadError> {
    for (name, value) in decoder.list() {
        if name.first() == Some(&b':') {
            return Err(HeadError::PseudoInTrailers);
        }
        check_name(name)?;
        check_value(value)?;
        check_field(name, value)?;
    }
    Ok(())
}

fn check_name(name: &[u8]) -> Result<(), HeadError> {
    let fine = |&b: &u8| matches!(b, 0x21..=0x7e) && !b.is_ascii_uppercase() && b != b':';
    if name.is_empty() || !name.iter().all(fine) {
        return Err(HeadError::Name);
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), HeadError> {
    let space = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let bad = |b: &u8| matches!(b, 0 | b'\r' | b'\n');
    if space(value.first()) || space(value.last()) || value.iter().any(bad) {
        return Err(HeadError::Value);
    }
    Ok(())
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), HeadError> {
    match name {
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err(HeadError::ConnectionField)
        }
        b"te" if value != b"trailers" => Err(HeadError::Te),
        _ => Ok(()),
    }
}

fn parse_content_length(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::ContentLength);
    }
    Ok(value
        .iter()
        .fold(0, |size, digit| size * 10 + u64::from(digit - b'0')))
}

/// A name and its value.
type FieldText = (Box<[u8]>, Box<[u8]>);

/// The fields of a response, or of its trailers. Shared by all that have the same ones.
#[derive(Debug)]
pub struct Response {
    /// `None` in trailers.
    status: Option<u16>,
    fields: Vec<FieldText>,
}

impl Response {
    /// Keeps the fields of the block that `decoder` decoded last. `None` when the status is no
    /// number.
    pub fn from_fields(decoder: &Decoder) -> Option<Response> {
        let mut response = Response {
            status: None,
            fields: Vec::new(),
        };
        for (name, value) in decoder.list() {
            if name == b":status" {
                let digits = value.iter().all(u8::is_ascii_digit) && value.len() == 3;
                let number = |n: u16, b: &u8| n * 10 + u16::from(b - b'0');
                response.status = Some(digits.then(|| value.iter().fold(0, number))?);
            } else {
                response.fields.push((name.into(), value.into()));
            }
        }
        Some(response)
    }

    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The first value of a field; names are in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(n, _)| **n == *name.as_bytes());
        found.map(|(_, value)| &**value)
    }
}

/// Blocks above this many bytes are recognised by their fields only.
const BLOCK_BYTES_MAX: usize = 128;

/// One remembered list.
struct Remembered<T> {
    numbers: Box<[u64]>,
    head: Arc<T>,
    /// The block that gave this list when the table had `version`, and its varying value.
    block: Vec<u8>,
    version: u64,
    varying: Option<ShortValue>,
}

/// The last few heads of a connection, found by the bytes of their block while the table stands
/// still, and by the numbers of their fields otherwise. One per connection.
pub struct HeadMemo<T> {
    entries: Vec<Remembered<T>>,
    /// The entry that answered last.
    recent: usize,
    /// The entry that the next new head replaces.
    oldest: usize,
}

impl<T> Default for HeadMemo<T> {
    fn default() -> HeadMemo<T> {
        HeadMemo {
            entries: Vec::new(),
            recent: 0,
            oldest: 0,
        }
    }
}

impl<T> HeadMemo<T> {
    /// The head of a block that came before, byte for byte, with the table as it is.
    #[inline]
    pub fn by_block(&mut self, block: &[u8], version: u64) -> Option<(Arc<T>, Option<ShortValue>)> {
        let same = |entry: &Remembered<T>| entry.version == version && entry.block == block;
        if !self.entries.get(self.recent).is_some_and(same) {
            self.recent = self.entries.iter().position(same)?;
        }
        let entry = &self.entries[self.recent];
        Some((entry.head.clone(), entry.varying))
    }

    /// The head of a list that came before. `block` is remembered as another way to say it, unless
    /// `version` is `None`: then decoding the block changed the table.
    pub fn by_fields(
        &mut self,
        fields: &Fields,
        block: &[u8],
        version: Option<u64>,
    ) -> Option<Arc<T>> {
        if !fields.all_indexed() {
            return None;
        }
        let numbers = fields.numbers();
        let same = |entry: &Remembered<T>| *entry.numbers == *numbers;
        if !self.entries.get(self.recent).is_some_and(same) {
            self.recent = self.entries.iter().position(same)?;
        }
        let entry = &mut self.entries[self.recent];
        if let Some(version) = version.filter(|_| block.len() <= BLOCK_BYTES_MAX) {
            entry.block.clear();
            entry.block.extend_from_slice(block);
            entry.version = version;
            entry.varying = fields.varying();
        }
        Some(entry.head.clone())
    }

    /// Remembers a head whose fields all lie in tables.
    pub fn remember(&mut self, fields: &Fields, head: &Arc<T>) {
        if !fields.all_indexed() || fields.list_bytes() > limits::HEAD_MEMO_BYTES_MAX {
            return;
        }
        let entry = Remembered {
            numbers: fields.numbers().into(),
            head: head.clone(),
            block: Vec::new(),
            version: u64::MAX,
            varying: None,
        };
        if self.entries.len() < limits::HEAD_MEMO_COUNT_MAX {
            self.entries.push(entry);
        } else {
            self.entries[self.oldest] = entry;
            self.oldest = (self.oldest + 1) % limits::HEAD_MEMO_COUNT_MAX;
        }
    }
}
