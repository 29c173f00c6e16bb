//! A call's DATA, cut at every so many bytes: the messages must not depend on the cuts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringbolt::grpc::{MessageReader, parse_timeout, percent_decode, percent_encode};

fn messages(data: &[u8], size: usize) -> Vec<Option<Vec<u8>>> {
    let mut reader = MessageReader::default();
    let mut messages = Vec::new();
    for piece in data.chunks(size) {
        let mut piece = bytes::Bytes::copy_from_slice(piece);
        loop {
            match reader.take(&mut piece, 1000) {
                Ok(Some(message)) => messages.push(Some(message.to_vec())),
                Ok(None) => break,
                Err(_) => {
                    messages.push(None);
                    return messages;
                }
            }
        }
    }
    messages
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else {
        return;
    };
    assert_eq!(
        messages(data, usize::from(size) + 1),
        messages(data, data.len().max(1))
    );
    let _ = parse_timeout(data);
    let text = percent_decode(data);
    assert_eq!(percent_decode(percent_encode(&text).as_bytes()), text);
});
