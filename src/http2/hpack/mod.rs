//! Pure. HPACK (RFC 7541): a decoder with a dynamic table, an encoder without one.
//!
//! In: header blocks, in the order of the connection. Out: a [`Fields`] list that names each field
//! by a number that stays valid while the field lies in a table, so that two requests with the same
//! fields are recognised by comparing a few numbers, without touching their text.
//!
//! Call order: `Decoder::decode(block)`, read `Decoder::fields`, decode the next block.
//!
//! Invariants
//! 1. After an `Err` the table is out of step with the peer's: the connection must end.
//! 2. A list longer than the bound still updates the table; only its text is dropped.
//! 3. The table's size (32 per entry counted) never exceeds what our SETTINGS allowed.
//!
//! Not here: meaning of fields (`head.rs`), Huffman encoding, dynamic encoding.

mod decode;
mod encode;
mod huffman;
mod static_table;
mod table;

#[cfg(test)]
mod tests;

pub use decode::{Decoder, Fields, HpackError, ShortValue};
pub use encode::{Encoder, HeaderBlock, put_field};
