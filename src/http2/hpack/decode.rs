//! Pure. Header blocks to lists of fields.

use super::huffman;
use super::static_table::ENTRIES;
use super::table::{ENTRY_OVERHEAD, Entry, Table};
use std::fmt;
use std::ops::Range;

/// Field numbers: 1 to 61 are the static table; from here on, entries of the dynamic table in the
/// order of their insertion; from `LITERAL` on, fields of this block alone.
const DYNAMIC: u64 = 64;
const LITERAL: u64 = 1 << 63;

/// What is wrong with a header block. The connection must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HpackError {
    /// The block ends inside a field.
    Truncated,
    /// A number above what any table or string can have.
    NumberTooLarge,
    /// No entry has this index.
    IndexUnknown { index: usize },
    /// A string that is not Huffman code.
    Huffman,
    /// A table size above what our SETTINGS allow.
    TableSize { got: usize, max: usize },
    /// A table size after the first field.
    TableSizeLate,
}

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HpackError::Truncated => f.write_str("header block ends inside a field"),
            HpackError::NumberTooLarge => f.write_str("header block holds an oversized number"),
            HpackError::IndexUnknown { index } => write!(f, "no header table entry {index}"),
            HpackError::Huffman => f.write_str("header string is not Huffman code"),
            HpackError::TableSize { got, max } => {
                write!(f, "header table size {got} above the allowed {max}")
            }
            HpackError::TableSizeLate => f.write_str("header table size after the first field"),
        }
    }
}

impl std::error::Error for HpackError {}

/// A value of up to 15 bytes, stored in place. A longer one keeps its true size and no bytes: it
/// can only be refused.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ShortValue {
    size: u8,
    bytes: [u8; 15],
}

impl ShortValue {
    pub fn new(value: &[u8]) -> ShortValue {
        let mut short = ShortValue {
            size: u8::try_from(value.len()).unwrap_or(255),
            bytes: [0; 15],
        };
        if let Some(place) = short.bytes.get_mut(..value.len()) {
            place.copy_from_slice(value);
        }
        short
    }

    /// The value, or `None` when it was longer than 15 bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..usize::from(self.size))
    }
}

/// The fields of the last block. One per decoder, reused.
#[derive(Default)]
pub struct Fields {
    /// One number per field, the varying one left out.
    numbers: Vec<u64>,
    literals: Vec<(Range<usize>, Range<usize>)>,
    /// Text of the literals.
    text: Vec<u8>,
    varying: Option<ShortValue>,
    varying_count: u32,
    /// Bytes of the list by RFC 9113's count.
    list_bytes: usize,
    too_large: bool,
}

impl Fields {
    /// Identifies the list: equal numbers, all below `LITERAL`, mean equal fields.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// Whether each field has a number of its own that outlives the block.
    pub fn all_indexed(&self) -> bool {
        self.literals.is_empty()
    }

    /// The varying field's value, when the block has it exactly once.
    pub fn varying(&self) -> Option<ShortValue> {
        self.varying
    }

    pub fn varying_count(&self) -> u32 {
        self.varying_count
    }

    /// The list was longer than the bound: fields are missing.
    pub fn too_large(&self) -> bool {
        self.too_large
    }

    pub fn list_bytes(&self) -> usize {
        self.list_bytes
    }

    fn clear(&mut self) {
        self.numbers.clear();
        self.literals.clear();
        self.text.clear();
        self.varying = None;
        self.varying_count = 0;
        self.list_bytes = 0;
        self.too_large = false;
    }

    /// Counts a field of `size` bytes; `false` when the list would pass `max`.
    #[inline]
    fn admit(&mut self, size: usize, max: usize) -> bool {
        if self.list_bytes + size > max {
            self.too_large = true;
            return false;
        }
        self.list_bytes += size;
        true
    }

    fn push_varying(&mut self, value: ShortValue) {
        self.varying = Some(value);
        self.varying_count += 1;
    }
}

/// One per direction of a connection.
pub struct Decoder {
    table: Table,
    fields: Fields,
    list_bytes_max: usize,
    varying: &'static [u8],
}

impl Decoder {
    /// `varying` names the one field whose value changes with every request (gRPC's timeout). It is
    /// kept out of the numbers, so that the rest of the list is recognised. Empty: none.
    pub fn new(table_bytes_max: usize, list_bytes_max: usize, varying: &'static [u8]) -> Decoder {
        Decoder {
            table: Table::new(table_bytes_max),
            fields: Fields::default(),
            list_bytes_max,
            varying,
        }
    }

    /// Equal versions before two blocks mean that equal bytes decode to equal fields.
    pub fn version(&self) -> u64 {
        self.table.version()
    }

    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Name and value of each field of the last block, the varying one left out.
    pub fn list(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .numbers
            .iter()
            .filter_map(|&number| self.field(number))
    }

    fn field(&self, number: u64) -> Option<(&[u8], &[u8])> {
        if number >= LITERAL {
            let (name, value) = self.fields.literals.get((number - LITERAL) as usize)?;
            return Some((
                &self.fields.text[name.clone()],
                &self.fields.text[value.clone()],
            ));
        }
        if number < DYNAMIC {
            let (name, value) = ENTRIES.get((number as usize).checked_sub(1)?)?;
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.table.by_number(number - DYNAMIC)?;
        Some((entry.name(), entry.value()))
    }

    /// Gives back the buffers of the last block.
    pub fn release_memory(&mut self) {
        self.fields = Fields::default();
        self.table.begin_block();
    }

    /// Decodes one whole block into `fields()`.
    pub fn decode(&mut self, block: &[u8]) -> Result<(), HpackError> {
        self.fields.clear();
        self.table.begin_block();
        let mut input = Input { rest: block };
        let mut first = true;
        while let Some(&byte) = input.rest.first() {
            if byte & 0x80 != 0 {
                let index = input.number(0x7f)?;
                self.push_indexed(index)?;
            } else if byte & 0x40 != 0 {
                self.literal(&mut input, 0x3f, true)?;
            } else if byte & 0x20 != 0 {
                if !first {
                    return Err(HpackError::TableSizeLate);
                }
                let got = input.number(0x1f)?;
                let max = self.table.allowed();
                self.table
                    .resize(got)
                    .ok_or(HpackError::TableSize { got, max })?;
                continue;
            } else {
                // Without indexing, or never indexed: the same to an end point.
                self.literal(&mut input, 0x0f, false)?;
            }
            first = false;
            if self.fields.too_large {
                // The list will not be read: do not keep what a long block evicts.
                self.table.begin_block();
            }
        }
        Ok(())
    }

    #[inline]
    fn push_indexed(&mut self, index: usize) -> Result<(), HpackError> {
        let max = self.list_bytes_max;
        if index <= ENTRIES.len() {
            let (name, value) = ENTRIES
                .get(index.wrapping_sub(1))
                .ok_or(HpackError::IndexUnknown { index })?;
            if self
                .fields
                .admit(name.len() + value.len() + ENTRY_OVERHEAD, max)
            {
                self.fields.numbers.push(index as u64);
            }
            return Ok(());
        }
        let (number, entry) = self
            .table
            .at_index(index - ENTRIES.len() - 1)
            .ok_or(HpackError::IndexUnknown { index })?;
        if self.fields.admit(entry.size(), max) {
            if entry.varying {
                self.fields.push_varying(ShortValue::new(entry.value()));
            } else {
                self.fields.numbers.push(number + DYNAMIC);
            }
        }
        Ok(())
    }

    fn literal(&mut self, input: &mut Input<'_>, mask: u8, insert: bool) -> Result<(), HpackError> {
        let index = input.number(mask)?;
        let start = self.fields.text.len();
        let varying;
        if index == 0 {
            input.string(&mut self.fields.text)?;
            let name = &self.fields.text[start..];
            varying = !name.is_empty() && name == self.varying;
        } else if index <= ENTRIES.len() {
            let name = ENTRIES[index - 1].0.as_bytes();
            self.fields.text.extend_from_slice(name);
            varying = false;
        } else {
            let (_, entry) = self
                .table
                .at_index(index - ENTRIES.len() - 1)
                .ok_or(HpackError::IndexUnknown { index })?;
            self.fields.text.extend_from_slice(entry.name());
            varying = entry.varying;
        }
        let middle = self.fields.text.len();
        input.string(&mut self.fields.text)?;
        let end = self.fields.text.len();
        let short = varying.then(|| ShortValue::new(&self.fields.text[middle..]));
        let mut number = None;
        if insert {
            let text = &self.fields.text;
            let entry = Entry::new(&text[start..middle], &text[middle..end], varying);
            number = self.table.insert(entry).ok();
        }
        let admitted = self
            .fields
            .admit(end - start + ENTRY_OVERHEAD, self.list_bytes_max);
        if !admitted || varying || number.is_some() {
            self.fields.text.truncate(start);
        }
        if !admitted {
            return Ok(());
        }
        if let Some(short) = short {
            self.fields.push_varying(short);
        } else if let Some(number) = number {
            self.fields.numbers.push(number + DYNAMIC);
        } else {
            self.fields
                .numbers
                .push(LITERAL + self.fields.literals.len() as u64);
            self.fields.literals.push((start..middle, middle..end));
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.fields.text.capacity() + self.fields.numbers.capacity() * size_of::<u64>()
    }

    #[cfg(test)]
    pub fn check(&self) {
        self.table.check();
        assert!(self.fields.list_bytes <= self.list_bytes_max);
        assert!(self.fields.numbers.len() * ENTRY_OVERHEAD <= self.list_bytes_max);
    }
}

/// What is left of a block.
struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    /// An integer whose first byte keeps the bits of `mask` (RFC 7541, 5.1).
    #[inline]
    fn number(&mut self, mask: u8) -> Result<usize, HpackError> {
        let (&first, mut rest) = self.rest.split_first().ok_or(HpackError::Truncated)?;
        let mut value = usize::from(first & mask);
        if value == usize::from(mask) {
            let mut shift = 0;
            loop {
                let (&byte, tail) = rest.split_first().ok_or(HpackError::Truncated)?;
                rest = tail;
                // Nothing in a block can be larger than 28 bits say.
                if shift > 21 {
                    return Err(HpackError::NumberTooLarge);
                }
                value += usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
        }
        self.rest = rest;
        Ok(value)
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), HpackError> {
        let huffman = self.rest.first().ok_or(HpackError::Truncated)? & 0x80 != 0;
        let size = self.number(0x7f)?;
        let (text, rest) = self
            .rest
            .split_at_checked(size)
            .ok_or(HpackError::Truncated)?;
        self.rest = rest;
        if huffman {
            huffman::decode(text, out).ok_or(HpackError::Huffman)
        } else {
            out.extend_from_slice(text);
            Ok(())
        }
    }
}
