//! Pure. HPACK against the RFC's examples, against another implementation, and against garbage.

use super::*;

/// A list as text.
fn list(decoder: &Decoder) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    decoder
        .list()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn decoder() -> Decoder {
    Decoder::new(4096, 65_536, b"grpc-timeout")
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| *b != b' ').collect();
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

// Catches: any disagreement with the examples of RFC 7541, appendix C.3 and C.4: the same three
// requests, without and with Huffman code, one table across all.
#[test]
fn the_rfc_examples_decode() {
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = decoder();
        let common = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
        decoder.decode(&bytes(blocks[0])).unwrap();
        let authority = (":authority", "www.example.com");
        assert_eq!(
            list(&decoder),
            owned(&[common[0], common[1], common[2], authority])
        );
        decoder.decode(&bytes(blocks[1])).unwrap();
        let cache = ("cache-control", "no-cache");
        assert_eq!(
            list(&decoder),
            owned(&[common[0], common[1], common[2], authority, cache])
        );
        decoder.decode(&bytes(blocks[2])).unwrap();
        assert_eq!(
            list(&decoder),
            owned(&[
                common[0],
                (":scheme", "https"),
                (":path", "/index.html"),
                authority,
                ("custom-key", "custom-value"),
            ])
        );
        decoder.check();
    }
}

// Catches: eviction that differs from RFC 7541, appendix C.5 (a table of 256 bytes), among it an
// entry inserted by a name that its own insertion evicts.
#[test]
fn the_rfc_evictions_decode() {
    let mut decoder = Decoder::new(256, 65_536, b"");
    for (block, last) in [
        (
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 \
             303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 \
             6f6d",
            ("location", "https://www.example.com"),
        ),
        (
            "4803 3330 37c1 c0bf",
            ("location", "https://www.example.com"),
        ),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 \
             5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 \
             5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            (
                "set-cookie",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ),
    ] {
        decoder.decode(&bytes(block)).unwrap();
        decoder.check();
        let fields = list(&decoder);
        assert_eq!(fields.last(), owned(&[last]).last());
    }
}

// Catches: a malformed block that is taken, or that panics.
#[test]
fn malformed_blocks_are_refused() {
    use HpackError::*;
    for (block, error) in [
        ("80", IndexUnknown { index: 0 }),
        ("be", IndexUnknown { index: 62 }),
        ("7f00", IndexUnknown { index: 63 }),
        ("ff", Truncated),
        ("ff8080808080", NumberTooLarge),
        ("40", Truncated),
        ("4001", Truncated),
        ("400161", Truncated),
        ("40016102", Truncated),
        ("40016181", Truncated),
        ("400161 81ff", Huffman),
        ("400161 8100", Huffman),
        (
            "3fe21f",
            TableSize {
                got: 4097,
                max: 4096,
            },
        ),
        ("8220", TableSizeLate),
    ] {
        assert_eq!(decoder().decode(&bytes(block)), Err(error), "{block}");
    }
    // At the start sizes are fine, twice too.
    assert_eq!(decoder().decode(&bytes("20 3fe11f 82")), Ok(()));
}

// Catches: the varying field mixed into the numbers, lost when it is indexed, or its value cut.
#[test]
fn the_varying_field_stands_apart() {
    let mut encoder = httlib_hpack::Encoder::default();
    let mut decoder = decoder();
    let mut numbers = Vec::new();
    for (round, value) in ["4999n", "4998n", "4998n", "12345678901234567890"]
        .iter()
        .enumerate()
    {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            ("te", "trailers"),
            ("grpc-timeout", value),
        ] {
            let flags = httlib_hpack::Encoder::BEST_FORMAT | httlib_hpack::Encoder::WITH_INDEXING;
            let field = (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags);
            encoder.encode(field, &mut block).unwrap();
        }
        decoder.decode(&block).unwrap();
        let varying = decoder.fields().varying().unwrap();
        assert_eq!(
            varying.as_bytes(),
            Some(value.as_bytes()).filter(|v| v.len() < 16)
        );
        assert!(decoder.fields().all_indexed());
        if round > 0 {
            assert_eq!(decoder.fields().numbers(), numbers);
        }
        numbers = decoder.fields().numbers().to_vec();
    }
}

/// A small deterministic random source.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

// Catches: a table that falls out of step with another implementation's over many blocks, with
// every kind of literal, Huffman or not, small tables and resizes.
#[test]
fn another_encoder_agrees() {
    use httlib_hpack::Encoder as Other;
    for seed in 1..40 {
        let mut random = Random(seed * 7919);
        let mut decoder = Decoder::new(4096, 65_536, b"");
        let mut other = Other::default();
        for _ in 0..60 {
            let mut block = Vec::new();
            if random.below(8) == 0 {
                let size = [0, 40, 100, 500, 4096][random.below(5) as usize];
                other.update_max_dynamic_size(size, &mut block).unwrap();
            }
            let mut expected = Vec::new();
            for _ in 0..random.below(12) {
                let name = match random.below(4) {
                    0 => ":path".to_string(),
                    1 => "user-agent".to_string(),
                    _ => format!("name-{}", random.below(12)),
                };
                let size = random.below(30) as usize;
                let value: Vec<u8> = match random.below(5) {
                    0 => (0..size).map(|_| random.below(256) as u8).collect(),
                    _ => format!("value-{}", random.below(6)).into_bytes(),
                };
                let mut flags = match random.below(3) {
                    0 => Other::BEST_FORMAT,
                    1 => Other::HUFFMAN_VALUE | Other::HUFFMAN_NAME,
                    _ => 0,
                };
                flags |= match random.below(4) {
                    0 => 0,
                    1 => Other::NEVER_INDEXED,
                    _ => Other::WITH_INDEXING,
                };
                let field = (name.clone().into_bytes(), value.clone(), flags);
                other.encode(field, &mut block).unwrap();
                expected.push((name.into_bytes(), value));
            }
            decoder.decode(&block).unwrap();
            decoder.check();
            let got: Vec<_> = decoder
                .list()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect();
            assert_eq!(got, expected, "seed {seed}");
        }
    }
}

// Catches: blocks of ours that another implementation, or our own decoder, reads differently.
#[test]
fn another_decoder_reads_our_blocks() {
    let long = "x".repeat(300);
    let fields = [
        (":status", "200"),
        (":status", "415"),
        ("content-type", "application/grpc"),
        ("grpc-status", "0"),
        ("grpc-message", &long),
        ("", ""),
    ];
    let check = |block: &[u8], other: &mut httlib_hpack::Decoder<'_>, ours: &mut Decoder| {
        let mut got = Vec::new();
        other.decode(&mut block.to_vec(), &mut got).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let got: Vec<_> = got.iter().map(|(n, v, _)| (text(n), text(v))).collect();
        assert_eq!(got, owned(&fields));
        ours.decode(block).unwrap();
        assert_eq!(list(ours), owned(&fields));
    };
    let mut other = httlib_hpack::Decoder::default();
    let mut ours = decoder();
    let block = HeaderBlock::new(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
    check(block.as_bytes(), &mut other, &mut ours);

    let mut encoder = Encoder::new(4096);
    let fields: Vec<_> = owned(&fields)
        .into_iter()
        .map(|(name, value)| (name, value.into_bytes()))
        .collect();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let mut block = Vec::new();
        encoder.encode(&fields, &mut block);
        check(&block, &mut other, &mut ours);
        sizes.push(block.len());
    }
    assert_eq!(sizes[1], 6, "one byte per field");
    encoder.forget_table();
    let mut block = Vec::new();
    encoder.encode(&fields, &mut block);
    check(&block, &mut other, &mut ours);
}

// Catches: garbage that panics, or that leaves the table beyond its bounds.
#[test]
fn garbage_never_panics() {
    let mut random = Random(42);
    for _ in 0..20_000 {
        let mut decoder = Decoder::new(200, 500, b"a");
        for _ in 0..4 {
            let size = random.below(40) as usize;
            let block: Vec<u8> = (0..size)
                .map(|_| match random.below(3) {
                    0 => random.below(256) as u8,
                    1 => 0x40 + random.below(8) as u8,
                    _ => 0xbe + random.below(4) as u8,
                })
                .collect();
            let result = decoder.decode(&block);
            assert!(decoder.list().count() <= 15);
            decoder.check();
            if result.is_err() {
                break;
            }
        }
    }
}
