//! Pure. HPACK's Huffman code (RFC 7541, appendix B), decoding only.
//!
//! The code is canonical: the lengths alone give it. One look at ten bits yields nearly every
//! character of a header; longer codes walk the lengths.

/// Bits of each symbol's code; 256 is the end of the string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const LENGTH_MAX: usize = 30;
const LOOK_BITS: usize = 10;
const END: u16 = 256;

/// Symbols in the order of their codes, and for each length its first code and where its symbols
/// begin.
struct Canonical {
    symbols: [u16; 257],
    first_code: [u32; LENGTH_MAX + 1],
    first_symbol: [u16; LENGTH_MAX + 1],
    counts: [u16; LENGTH_MAX + 1],
}

const CANONICAL: Canonical = canonical();

/// For each ten bits: the symbol in the low byte and its code's length above it; 0 when the code
/// is longer.
static LOOK: [u16; 1 << LOOK_BITS] = look();

const fn canonical() -> Canonical {
    let mut table = Canonical {
        symbols: [0; 257],
        first_code: [0; LENGTH_MAX + 1],
        first_symbol: [0; LENGTH_MAX + 1],
        counts: [0; LENGTH_MAX + 1],
    };
    let mut code = 0u32;
    let mut at = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        code <<= 1;
        table.first_code[length] = code;
        table.first_symbol[length] = at as u16;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                table.symbols[at] = symbol as u16;
                table.counts[length] += 1;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    table
}

const fn look() -> [u16; 1 << LOOK_BITS] {
    let mut table = [0; 1 << LOOK_BITS];
    let mut length = 1;
    while length <= LOOK_BITS {
        let mut i = 0;
        while i < CANONICAL.counts[length] as u32 {
            let symbol = CANONICAL.symbols[CANONICAL.first_symbol[length] as usize + i as usize];
            let code = CANONICAL.first_code[length] + i;
            let first = (code << (LOOK_BITS - length)) as usize;
            let mut fill = 0;
            while fill < 1 << (LOOK_BITS - length) {
                table[first + fill] = symbol | (length as u16) << 8;
                fill += 1;
            }
            i += 1;
        }
        length += 1;
    }
    table
}

/// Appends the decoded string. `None` when the string holds the end symbol, or ends in anything
/// but up to seven one bits.
pub fn decode(encoded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // A character takes 5 bits at least.
    out.reserve(encoded.len() * 8 / 5 + 1);
    let mut rest = encoded;
    // The next bits of the string, left-aligned; zeros below `count`.
    let mut bits = 0u64;
    let mut count = 0u32;
    loop {
        if count <= 32 {
            if let Some((chunk, tail)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(*chunk)) << (32 - count);
                count += 32;
                rest = tail;
            } else {
                while let Some((&byte, tail)) = rest.split_first() {
                    bits |= u64::from(byte) << (56 - count);
                    count += 8;
                    rest = tail;
                }
            }
        }
        let look = LOOK[(bits >> (64 - LOOK_BITS)) as usize];
        let length = u32::from(look >> 8);
        if length != 0 && length <= count {
            out.push(look as u8);
            bits <<= length;
            count -= length;
        } else if length == 0 && count > LOOK_BITS as u32 {
            let (symbol, length) = long(bits)?;
            if symbol == END || length > count {
                return None;
            }
            out.push(symbol as u8);
            bits <<= length;
            count -= length;
        } else {
            break;
        }
    }
    // What is left is shorter than a code: it must be the start of the end symbol, all ones.
    let ones = !(u64::MAX.checked_shr(count).unwrap_or(0));
    (count < 8 && bits == ones).then_some(())
}

/// The symbol whose code, longer than `LOOK_BITS`, begins `bits`.
fn long(bits: u64) -> Option<(u16, u32)> {
    for length in LOOK_BITS + 1..=LENGTH_MAX {
        let code = (bits >> (64 - length)) as u32;
        let offset = code.checked_sub(CANONICAL.first_code[length])?;
        if offset < u32::from(CANONICAL.counts[length]) {
            let at = usize::from(CANONICAL.first_symbol[length]) + offset as usize;
            return Some((CANONICAL.symbols[at], length as u32));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes one bit at a time, straight from the lengths.
    pub(super) fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &byte in text {
            let length = usize::from(LENGTHS[usize::from(byte)]);
            let first = usize::from(CANONICAL.first_symbol[length]);
            let at = (first..)
                .find(|&i| CANONICAL.symbols[i] == u16::from(byte))
                .unwrap();
            let code = CANONICAL.first_code[length] + (at - first) as u32;
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        bits.chunks(8)
            .map(|c| c.iter().fold(0, |b, &bit| b << 1 | u8::from(bit)))
            .collect()
    }

    // Catches: a wrong length in the table, or a decoder that loses bits at any alignment.
    #[test]
    fn every_byte_round_trips_at_every_offset() {
        for byte in 0..=255u8 {
            for before in 0..8 {
                let mut text = vec![b'0'; before];
                text.extend([byte, b'z', byte]);
                let mut out = Vec::new();
                assert_eq!(
                    decode(&encode(&text), &mut out),
                    Some(()),
                    "{byte} {before}"
                );
                assert_eq!(out, text);
            }
        }
    }

    // Catches: a code table that differs from the RFC's (its examples in appendix C).
    #[test]
    fn the_rfc_example_decodes() {
        let encoded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        let mut out = Vec::new();
        assert_eq!(decode(&encoded, &mut out), Some(()));
        assert_eq!(out, b"www.example.com");
    }

    // Catches: padding of a whole byte, of zeros, or the end symbol taken for text.
    #[test]
    fn bad_endings_are_refused() {
        for bad in [&[0xff][..], &[0x00], &[0xff; 4], &[0xf1, 0xe3, 0xff]] {
            assert_eq!(decode(bad, &mut Vec::new()), None, "{bad:x?}");
        }
        assert_eq!(decode(&[], &mut Vec::new()), Some(()));
        assert_eq!(decode(&[0x07], &mut Vec::new()), Some(()));
    }
}
