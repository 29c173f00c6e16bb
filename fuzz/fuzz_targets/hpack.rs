//! Header blocks, one per length byte, against one table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringbolt::http2::Decoder;

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::new(256, 4096, b"grpc-timeout");
    let mut rest = data;
    while let Some((&size, tail)) = rest.split_first() {
        let (block, tail) = tail.split_at(usize::from(size).min(tail.len()));
        rest = tail;
        if decoder.decode(block).is_err() {
            return;
        }
        let bytes: usize = decoder
            .list()
            .map(|(name, value)| name.len() + value.len() + 32)
            .sum();
        assert!(bytes <= decoder.fields().list_bytes());
        assert!(decoder.fields().list_bytes() <= 4096);
    }
});
