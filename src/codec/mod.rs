//! Pure. Small byte codecs that several layers share: varints, bounds-checked little-endian
//! readers, and protobuf fields written by hand.
//!
//! In: slices. Out: numbers, or `None` when the bytes end early or break the encoding.
//! Nothing here allocates on the read side, and nothing panics on foreign bytes.

/// Appends `value` as a base-128 varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes `put_varint` writes for `value`: 1 to 10.
#[inline]
pub const fn varint_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// A bounds-checked reader over foreign bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(head)
    }

    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from_le_bytes([b[0], b[1]]))
    }

    pub fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*head))
    }

    pub fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*head))
    }

    /// A base-128 varint of at most ten bytes; bits past the 64th are an error.
    #[inline]
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            if i == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Some(value);
            }
        }
        None
    }

    /// Bytes with a varint length before them.
    #[inline]
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.varint()?).ok()?;
        self.take(size)
    }
}

/// One protobuf field as it lies in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl<'a> Reader<'a> {
    /// The next protobuf field: its number and value. `Some(Err(()))` is a malformed field.
    #[inline]
    #[allow(clippy::result_unit_err)]
    pub fn field(&mut self) -> Option<Result<(u32, Field<'a>), ()>> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.field_checked().ok_or(()))
    }

    #[inline]
    fn field_checked(&mut self) -> Option<(u32, Field<'a>)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let number = key >> 3;
        if number == 0 {
            return None;
        }
        let value = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.u64()?),
            2 => Field::Bytes(self.bytes()?),
            5 => Field::Fixed32(self.u32()?),
            _ => return None,
        };
        Some((number, value))
    }
}

/// Appends a varint field unless `value` is 0, which proto3 leaves out.
#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(number << 3));
        put_varint(out, value);
    }
}

/// Appends a bytes field unless it is empty, which proto3 leaves out.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    if !value.is_empty() {
        put_message_header(out, number, value.len());
        out.extend_from_slice(value);
    }
}

/// Appends the tag and length of a length-delimited field; its `size` bytes follow.
#[inline]
pub fn put_message_header(out: &mut Vec<u8>, number: u32, size: usize) {
    put_varint(out, u64::from(number << 3 | 2));
    put_varint(out, size as u64);
}

/// The size of a varint field as `put_varint_field` writes it.
#[inline]
pub const fn varint_field_size(number: u32, value: u64) -> usize {
    if value == 0 {
        0
    } else {
        varint_size((number << 3) as u64) + varint_size(value)
    }
}

/// The size of a bytes field as `put_bytes_field` writes it.
#[inline]
pub const fn bytes_field_size(number: u32, size: usize) -> usize {
    if size == 0 {
        0
    } else {
        message_size(number, size)
    }
}

/// The size of a length-delimited field of `size` bytes, header included.
#[inline]
pub const fn message_size(number: u32, size: usize) -> usize {
    varint_size((number << 3 | 2) as u64) + varint_size(size as u64) + size
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a varint of the wrong length, or one that reads back as another number.
    #[test]
    fn varints_round_trip_at_every_size() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_size(value));
                let mut reader = Reader::new(&out);
                assert_eq!(reader.varint(), Some(value));
                assert!(reader.is_empty());
            }
        }
    }

    // Catches: endless or overflowing varints taken for numbers.
    #[test]
    fn bad_varints_are_refused() {
        assert_eq!(Reader::new(&[0x80; 11]).varint(), None);
        assert_eq!(Reader::new(&[0x80]).varint(), None);
        let mut overflow = [0xff; 10];
        overflow[9] = 2;
        assert_eq!(Reader::new(&overflow).varint(), None);
    }

    // Catches: a field of number 0, a group, or a length past the end accepted.
    #[test]
    fn bad_fields_are_refused() {
        for bytes in [&[0x00u8, 1][..], &[0x0b], &[0x0a, 5, 1], &[0x0c]] {
            assert_eq!(Reader::new(bytes).field(), Some(Err(())));
        }
    }
}
