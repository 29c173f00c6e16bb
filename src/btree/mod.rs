//! Pure. The copy-on-write B+tree file of one group: 32 buckets of ordered keys and values.
//!
//! In: keys and values, and pages through [`PageSource`](crate::env::PageSource). Out: values
//! borrowed from pages, and write [`Plan`]s that a driver carries out with [`execute`].
//!
//! Order of a life:
//! ```text
//! format(&Options, identity) -> Plan          run it against a new, empty file
//! Tree::open(pages, file_size)                the newest valid meta
//! tree.read() -> ReadTxn                      a pinned root; Send + Sync + Clone
//! tree.begin() -> WriteTxn                    at most one at a time; owns its dirty nodes
//! txn.put / delete / get / clear
//! txn.seal_slice(&mut tree, pages_max) ...    -> SealProgress::Done(Plan); or tree.seal(txn)
//! execute(plan, &file).await -> Receipt       after an Err: never touch the file again
//! tree.committed(receipt)                     read() now pins the new root
//! tree.relocation(..), txn.relocate_slice(..) some of each commit, to give space back;
//! txn.shrink()                                then one or two commits that cut the file
//! ```
//!
//! Invariants
//! 1. A page that a durable meta or a live [`ReadTxn`] can reach is never written.
//! 2. A parent names the checksum of each child: a lost, torn or stale page is an error, not data.
//! 3. A page is checked on its first touch after it was written, and never again until it is
//!    reused.
//! 4. The bitmap in the file marks exactly the pages that its meta reaches; every other page is
//!    free.
//! 5. Pages freed by txid t are reused once t is durable and no pin older than t is left.
//! 6. Same calls, same bytes: nothing here knows time, chance or identity.
//!
//! Not here: files, maps, retries, buffering of uncommitted writes (`backend/`), more than one
//! writer. Bytes: `docs/format/btree.md`.

mod cell;
mod check;
mod checked;
mod cursor;
pub mod dump;
mod error;
mod execute;
mod image;
pub mod memory;
mod meta;
mod node;
mod pack;
mod packer;
mod page;
mod plan;
mod read;
mod relocate;
mod seal;
mod space;
mod tree;
mod view;
mod write;

#[cfg(test)]
mod tests;

pub use check::{Check, CheckReport};
pub use cursor::Cursor;
pub use error::{Corrupt, MetaFault, MetaRule, OpenError, Rule};
pub use execute::execute;
pub use plan::{Plan, Receipt, Step};
pub use read::{Bucket, BucketId, ReadTxn, Value};
pub use relocate::{Relocated, Relocation};
pub use seal::SealProgress;
pub use tree::{Options, Tree, format};
pub use write::WriteTxn;
