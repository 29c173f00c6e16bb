//! Pure. Header blocks written without the dynamic table, so that a block can be made once and sent
//! on any stream of any connection; and a client's encoder, which uses the table.

use super::static_table::ENTRIES;
use std::borrow::Cow;

/// An encoded header block. Made once, used often.
#[derive(Clone, Debug)]
pub struct HeaderBlock {
    bytes: Cow<'static, [u8]>,
}

impl HeaderBlock {
    /// A block that is already HPACK. It must not touch the dynamic table.
    pub const fn from_static(bytes: &'static [u8]) -> HeaderBlock {
        HeaderBlock {
            bytes: Cow::Borrowed(bytes),
        }
    }

    /// Encodes fields, pseudo-fields first, names in lower case.
    pub fn new<'a>(fields: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> HeaderBlock {
        let mut bytes = Vec::new();
        for (name, value) in fields {
            put_field(&mut bytes, name, value);
        }
        HeaderBlock {
            bytes: Cow::Owned(bytes),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Appends one field: indexed when the static table has it whole, else a literal that no table
/// keeps.
pub fn put_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(!name.bytes().any(|b| b.is_ascii_uppercase()));
    let mut name_index = 0;
    for (i, &(entry_name, entry_value)) in ENTRIES.iter().enumerate() {
        if entry_name == name {
            if entry_value.as_bytes() == value {
                put_number(out, 0x80, 0x7f, i + 1);
                return;
            }
            if name_index == 0 {
                name_index = i + 1;
            }
        }
    }
    put_number(out, 0, 0x0f, name_index);
    if name_index == 0 {
        put_string(out, name.as_bytes());
    }
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_number(out, 0, 0x7f, text.len());
    out.extend_from_slice(text);
}

fn put_number(out: &mut Vec<u8>, pattern: u8, mask: u8, value: usize) {
    if value < usize::from(mask) {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask);
    let mut rest = value - usize::from(mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// An encoder that uses the peer's dynamic table as long as what is in it fits. It never evicts, so
/// a field once inserted is a byte or two for the connection's life. One per client connection.
pub struct Encoder {
    /// In the order of insertion.
    inserted: Vec<(String, Vec<u8>)>,
    size: usize,
    size_max: usize,
    /// A table size to announce before the next block.
    resize: Option<usize>,
}

impl Encoder {
    pub fn new(table_bytes_max: usize) -> Encoder {
        Encoder {
            inserted: Vec::new(),
            size: 0,
            size_max: table_bytes_max,
            resize: None,
        }
    }

    /// How many fields were inserted: blocks made at the same count stay valid.
    pub fn inserted_count(&self) -> usize {
        self.inserted.len()
    }

    /// The peer keeps less than we counted on: start over without a table.
    pub fn forget_table(&mut self) {
        self.inserted.clear();
        self.size = 0;
        self.size_max = 0;
        self.resize = Some(0);
    }

    /// Appends a block. A field that lies in a table is one number; a new one is inserted.
    pub fn encode(&mut self, fields: &[(String, Vec<u8>)], out: &mut Vec<u8>) {
        if let Some(size) = self.resize.take() {
            put_number(out, 0x20, 0x1f, size);
        }
        for (name, value) in fields {
            let whole = ENTRIES
                .iter()
                .any(|(n, v)| n == name && v.as_bytes() == value);
            if whole {
                put_field(out, name, value);
            } else if let Some(at) = self
                .inserted
                .iter()
                .position(|f| f.0 == *name && f.1 == *value)
            {
                let index = ENTRIES.len() + self.inserted.len() - at;
                put_number(out, 0x80, 0x7f, index);
            } else {
                self.insert(name, value, out);
            }
        }
    }

    fn insert(&mut self, name: &str, value: &[u8], out: &mut Vec<u8>) {
        let size = name.len() + value.len() + super::table::ENTRY_OVERHEAD;
        if self.size + size > self.size_max {
            put_field(out, name, value);
            return;
        }
        out.push(0x40);
        put_string(out, name.as_bytes());
        put_string(out, value);
        self.size += size;
        self.inserted.push((name.into(), value.into()));
    }
}

/// A block whose fields were written with `put_field`.
impl From<Vec<u8>> for HeaderBlock {
    fn from(bytes: Vec<u8>) -> HeaderBlock {
        HeaderBlock {
            bytes: Cow::Owned(bytes),
        }
    }
}
