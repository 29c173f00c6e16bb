//! Pure. The two metas: which root is the newest, where the bitmaps are.

use super::error::{MetaFault, MetaRule};
use super::page::CHILD_REF;
use super::read::Root;
use super::space::{directory_regions, read_child, region_pages, write_child};
use crate::env::PageSource;
use crate::ids::Txid;
use crate::limits::btree::{
    BUCKET_COUNT, LEVEL_MAX, PAGE_BYTES_MAX, PAGE_BYTES_MIN, PAGE_COUNT_MAX,
};

/// Bytes of a meta, whatever the page size: its place must be known before the page size is.
pub(super) const META_BYTES: usize = 4096;
/// Metas stand at the front of the file, this far in all.
pub(super) const METAS_BYTES: u64 = 2 * META_BYTES as u64;
const MAGIC: [u8; 8] = *b"rbtree\r\n";
const VERSION: u16 = 1;
const ROOT_BYTES: usize = 24;
const DIRECTORIES_MAX: usize = 128;
/// A million commits a second for longer than disks last; the next one must have a number, too.
const TXID_MAX: u64 = 1 << 62;

const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 8;
const AT_FLAGS: usize = 10;
const AT_PAGE_SIZE: usize = 12;
const AT_IDENTITY: usize = 16;
const AT_TXID: usize = 24;
const AT_PAGE_COUNT: usize = 32;
const AT_USED_COUNT: usize = 40;
const AT_DIRECTORY_COUNT: usize = 48;
const AT_ROOTS: usize = 64;
const AT_DIRECTORIES: usize = AT_ROOTS + BUCKET_COUNT * ROOT_BYTES;
const AT_CRC: usize = META_BYTES - 4;

const _: () = assert!(AT_DIRECTORIES + DIRECTORIES_MAX * CHILD_REF <= AT_CRC);

/// One commit: everything in the file is reached from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    pub page_size: u32,
    pub identity: u64,
    pub txid: Txid,
    pub page_count: u64,
    pub used_count: u64,
    pub roots: [Root; BUCKET_COUNT],
    pub directories: Vec<super::page::ChildRef>,
}

/// The first page behind the metas.
pub(super) fn first_page(page_size: u32) -> u64 {
    METAS_BYTES.div_ceil(u64::from(page_size))
}

fn u64_at(bytes: &[u8; META_BYTES], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8; META_BYTES], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u16_at(bytes: &[u8; META_BYTES], at: usize) -> u16 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

impl Meta {
    pub fn first_page(&self) -> u64 {
        first_page(self.page_size)
    }

    /// The slot that this commit overwrites: the older one.
    pub fn offset(&self) -> u64 {
        (self.txid.0 & 1) * META_BYTES as u64
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; META_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(AT_MAGIC, &MAGIC);
        put(AT_VERSION, &VERSION.to_le_bytes());
        put(AT_PAGE_SIZE, &self.page_size.to_le_bytes());
        put(AT_IDENTITY, &self.identity.to_le_bytes());
        put(AT_TXID, &self.txid.0.to_le_bytes());
        put(AT_PAGE_COUNT, &self.page_count.to_le_bytes());
        put(AT_USED_COUNT, &self.used_count.to_le_bytes());
        let directories = u32::try_from(self.directories.len()).expect("at most 128");
        put(AT_DIRECTORY_COUNT, &directories.to_le_bytes());
        for (index, root) in self.roots.iter().enumerate() {
            let at = AT_ROOTS + index * ROOT_BYTES;
            let mut bytes = [0; ROOT_BYTES];
            write_child(&mut bytes, root.child);
            bytes[12] = root.level;
            bytes[16..24].copy_from_slice(&root.keys.to_le_bytes());
            put(at, &bytes);
        }
        assert!(
            self.directories.len() <= DIRECTORIES_MAX,
            "bounded by the page count"
        );
        for (index, directory) in self.directories.iter().enumerate() {
            let mut bytes = [0; CHILD_REF];
            write_child(&mut bytes, *directory);
            put(AT_DIRECTORIES + index * CHILD_REF, &bytes);
        }
        let crc = crc32fast::hash(&out[..AT_CRC]);
        out[AT_CRC..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the meta in a slot, 0 or 1.
    pub fn read(source: &dyn PageSource, slot: u64, checksums: bool) -> Result<Meta, MetaFault> {
        let start = slot * META_BYTES as u64;
        let bytes = source.read(start..start + META_BYTES as u64);
        match bytes.as_deref().and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => Meta::decode(bytes, slot, checksums),
            None => Err(MetaFault {
                offset: start,
                rule: MetaRule::Present,
                expected: META_BYTES as u64,
                found: 0,
            }),
        }
    }

    fn decode(bytes: &[u8; META_BYTES], slot: u64, checksums: bool) -> Result<Meta, MetaFault> {
        let fault = |rule, at: usize, expected: u64, found: u64| {
            Err(MetaFault {
                offset: slot * META_BYTES as u64 + at as u64,
                rule,
                expected,
                found,
            })
        };
        let magic = u64_at(bytes, AT_MAGIC);
        if magic != u64::from_le_bytes(MAGIC) {
            return fault(MetaRule::Magic, AT_MAGIC, u64::from_le_bytes(MAGIC), magic);
        }
        let version = u16_at(bytes, AT_VERSION);
        if version != VERSION {
            return fault(
                MetaRule::Version,
                AT_VERSION,
                VERSION.into(),
                version.into(),
            );
        }
        let flags = u16_at(bytes, AT_FLAGS);
        if flags != 0 {
            return fault(MetaRule::Flags, AT_FLAGS, 0, flags.into());
        }
        let (crc, found) = (u32_at(bytes, AT_CRC), crc32fast::hash(&bytes[..AT_CRC]));
        if checksums && crc != found {
            return fault(MetaRule::Checksum, AT_CRC, crc.into(), found.into());
        }
        let page_size = u32_at(bytes, AT_PAGE_SIZE);
        let sizes = PAGE_BYTES_MIN..=PAGE_BYTES_MAX;
        if !page_size.is_power_of_two() || !sizes.contains(&page_size) {
            return fault(
                MetaRule::PageSize,
                AT_PAGE_SIZE,
                PAGE_BYTES_MIN.into(),
                page_size.into(),
            );
        }
        let mut meta = Meta {
            page_size,
            identity: u64_at(bytes, AT_IDENTITY),
            txid: Txid(u64_at(bytes, AT_TXID)),
            page_count: u64_at(bytes, AT_PAGE_COUNT),
            used_count: u64_at(bytes, AT_USED_COUNT),
            roots: [Root::default(); BUCKET_COUNT],
            directories: Vec::new(),
        };
        if meta.page_count < first_page(page_size) || meta.page_count > PAGE_COUNT_MAX {
            return fault(
                MetaRule::PageCount,
                AT_PAGE_COUNT,
                PAGE_COUNT_MAX,
                meta.page_count,
            );
        }
        if meta.used_count > meta.page_count {
            return fault(
                MetaRule::PageCount,
                AT_USED_COUNT,
                meta.page_count,
                meta.used_count,
            );
        }
        if meta.txid.0 & 1 != slot {
            return fault(MetaRule::Slot, AT_TXID, slot, meta.txid.0);
        }
        if meta.txid.0 > TXID_MAX {
            return fault(MetaRule::Txid, AT_TXID, TXID_MAX, meta.txid.0);
        }
        // A key takes a byte at least. The counts are added to, and must not come round.
        let keys_max = meta.page_count * u64::from(page_size);
        for (index, root) in meta.roots.iter_mut().enumerate() {
            let at = AT_ROOTS + index * ROOT_BYTES;
            *root = Root {
                child: read_child(&bytes[at..]),
                level: bytes[at + 12],
                keys: u64_at(bytes, at + 16),
            };
            let level_max = if root.is_empty() { 0 } else { LEVEL_MAX };
            if root.level > level_max || root.is_empty() != (root.keys == 0) {
                return fault(MetaRule::Root, at, level_max.into(), root.level.into());
            }
            if root.keys > keys_max {
                return fault(MetaRule::Root, at + 16, keys_max, root.keys);
            }
        }
        let count = u32_at(bytes, AT_DIRECTORY_COUNT) as usize;
        let regions = meta.page_count.div_ceil(region_pages(page_size));
        let expected = regions.div_ceil(directory_regions(page_size) as u64);
        // A file that was only formatted has no bitmaps yet.
        let fresh = count == 0 && meta.page_count == first_page(page_size);
        if !fresh && (count as u64 != expected || count > DIRECTORIES_MAX) {
            return fault(
                MetaRule::Directory,
                AT_DIRECTORY_COUNT,
                expected,
                count as u64,
            );
        }
        let at = |index: usize| AT_DIRECTORIES + index * CHILD_REF;
        meta.directories = (0..count)
            .map(|index| read_child(&bytes[at(index)..]))
            .collect();
        Ok(meta)
    }
}
