//! Opens any bytes as a tree file, checks it, and reads what passes. Checksums are not compared, so
//! that the fuzzer gets behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    ringbolt::btree::memory::read_image(bytes, false);
    ringbolt::btree::memory::read_image(bytes, true);
});
