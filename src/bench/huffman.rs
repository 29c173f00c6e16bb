//! Pure. HPACK's Huffman code (RFC 7541, appendix B), read with its canonical tables: within one
//! length, codes count up in the order of `SYMBOLS`.

/// (code length in bits, first code of that length, number of codes).
const LENGTHS: [(u32, u32, usize); 21] = [
    (5, 0x0, 10),
    (6, 0x14, 26),
    (7, 0x5c, 32),
    (8, 0xf8, 6),
    (10, 0x3f8, 5),
    (11, 0x7fa, 3),
    (12, 0xffa, 2),
    (13, 0x1ff8, 6),
    (14, 0x3ffc, 2),
    (15, 0x7ffc, 3),
    (19, 0x7fff0, 3),
    (20, 0xfffe6, 8),
    (21, 0x1fffdc, 13),
    (22, 0x3fffd2, 26),
    (23, 0x7fffd8, 29),
    (24, 0xffffea, 12),
    (25, 0x1ffffec, 4),
    (26, 0x3ffffe0, 15),
    (27, 0x7ffffde, 19),
    (28, 0xfffffe2, 29),
    (30, 0x3ffffffc, 3),
];

/// The symbols by code length, then by code. The 257th, end of string, is never sent.
#[rustfmt::skip]
const SYMBOLS: [u8; 256] = [
    48, 49, 50, 97, 99, 101, 105, 111, 115, 116,
    32, 37, 45, 46, 47, 51, 52, 53, 54, 55, 56, 57, 61, 65, 95, 98, 100, 102, 103, 104, 108, 109,
    110, 112, 114, 117,
    58, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 89,
    106, 107, 113, 118, 119, 120, 121, 122,
    38, 42, 44, 59, 88, 90,
    33, 34, 40, 41, 63,
    39, 43, 124,
    35, 62,
    0, 36, 64, 91, 93, 126,
    94, 125,
    60, 96, 123,
    92, 195, 208,
    128, 130, 131, 162, 184, 194, 224, 226,
    153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230,
    129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187,
    189, 190, 196, 198, 228, 232, 233,
    1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168,
    174, 175, 180, 182, 183, 188, 191, 197, 231, 239,
    9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237,
    199, 207, 234, 235,
    192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255,
    203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254,
    2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    127, 220, 249,
    10, 13, 22,
];

/// The decoded string, or `None` when the bits are no code or the padding is not all ones.
pub fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    let (mut bits, mut count) = (0u64, 0u32);
    let mut rest = bytes.iter();
    loop {
        while count <= 32 {
            let Some(&byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(byte);
            count += 8;
        }
        if count < 5 {
            break;
        }
        let mut first_symbol = 0;
        let mut found = false;
        for (length, first_code, codes) in LENGTHS {
            if length > count {
                break;
            }
            let code = (bits >> (count - length) & ((1 << length) - 1)) as u32;
            if ((code - first_code.min(code)) as usize) < codes && code >= first_code {
                text.push(SYMBOLS[first_symbol + (code - first_code) as usize]);
                count -= length;
                found = true;
                break;
            }
            first_symbol += codes;
        }
        if !found {
            break;
        }
    }
    let padding_is_ones = count < 8 && bits & ((1 << count) - 1) == (1 << count) - 1;
    padding_is_ones.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a wrong row of the tables, by the examples of RFC 7541, appendix C.
    #[test]
    fn examples_of_the_standard_decode() {
        let cases: [(&[u8], &str); 4] = [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf],
                "custom-value",
            ),
            (&[0x64, 0x02], "302"),
        ];
        for (bytes, text) in cases {
            assert_eq!(decode(bytes).as_deref(), Some(text.as_bytes()));
        }
    }

    // Catches: an endless loop or a panic on bits that are no code.
    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(decode(&[0x00]), None);
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode(&[]), Some(Vec::new()));
    }

    // Catches: lengths and symbols that do not add up to one complete code.
    #[test]
    fn the_code_is_complete() {
        assert_eq!(
            LENGTHS.iter().map(|(_, _, codes)| codes).sum::<usize>(),
            256
        );
        let kraft: u64 = LENGTHS
            .iter()
            .map(|&(l, _, n)| (n as u64) << (30 - l))
            .sum();
        assert_eq!(kraft + 1, 1 << 30);
        let mut seen = SYMBOLS;
        seen.sort_unstable();
        assert!(seen.iter().enumerate().all(|(i, &s)| i == s as usize));
    }
}
