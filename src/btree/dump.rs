//! Pure. A tree file as text, one line per field, for operators and golden tests.

use super::error::Corrupt;
use super::meta::Meta;
use super::page::{ChildRef, HEADER, Header, Kind, RunRef, checksum};
use super::read::Root;
use super::space::{directory_regions, read_child};
use super::tree::{Tree, newest_meta};
use super::view::{Body, NodeView};
use crate::env::PageSource;
use crate::ids::PageId;
use std::fmt::Write;

/// The keys and values of a page dump are cut to so many bytes.
const SHOWN_BYTES: usize = 48;

/// Both metas; works on files that do not open.
pub fn metas(source: &dyn PageSource) -> String {
    let mut out = String::new();
    for slot in [0, 1] {
        match Meta::read(source, slot, true) {
            Ok(meta) => meta_lines(&mut out, slot, &meta),
            Err(fault) => line(&mut out, format_args!("meta {slot}: invalid: {fault}")),
        }
    }
    match newest_meta(source, true) {
        Ok(meta) => line(&mut out, format_args!("newest: txid {}", meta.txid)),
        Err(_) => line(&mut out, format_args!("newest: none")),
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string does not fail");
}

fn meta_lines(out: &mut String, slot: u64, meta: &Meta) {
    let name = format!("meta {slot}");
    line(out, format_args!("{name}: txid {}", meta.txid));
    line(out, format_args!("{name}: identity {:#x}", meta.identity));
    line(out, format_args!("{name}: page size {}", meta.page_size));
    line(out, format_args!("{name}: pages {}", meta.page_count));
    line(
        out,
        format_args!("{name}: pages in use {}", meta.used_count),
    );
    for (index, directory) in meta.directories.iter().enumerate() {
        line(
            out,
            format_args!("{name}: directory {index}: {}", child(*directory)),
        );
    }
    for (index, root) in meta
        .roots
        .iter()
        .enumerate()
        .filter(|(_, root)| !root.is_empty())
    {
        let Root {
            child: page,
            level,
            keys,
        } = *root;
        line(
            out,
            format_args!("{name}: bucket {index}: root {}", child(page)),
        );
        line(out, format_args!("{name}: bucket {index}: level {level}"));
        line(out, format_args!("{name}: bucket {index}: keys {keys}"));
    }
}

fn child(child: ChildRef) -> String {
    format!("page {} crc {:08x}", child.page, child.crc)
}

fn run(run: RunRef) -> String {
    format!(
        "run at page {} crc {:08x} size {}",
        run.page, run.crc, run.len
    )
}

fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let dots = if shown.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{dots}", shown.escape_ascii())
}

impl Tree {
    /// One page, whatever it holds; damage is shown, not refused.
    pub fn dump_page(&self, page: PageId) -> String {
        let mut out = String::new();
        let Some(bytes) = self.pages.raw(page) else {
            line(&mut out, format_args!("page {page}: not in the file"));
            return out;
        };
        let Some(header) = Header::read(&bytes) else {
            return out;
        };
        let kind = [
            Kind::Leaf,
            Kind::Branch,
            Kind::Overflow,
            Kind::Bitmap,
            Kind::Directory,
        ];
        let kind = kind.into_iter().find(|kind| *kind as u8 == header.kind);
        match kind {
            Some(kind) => line(&mut out, format_args!("kind {kind:?}")),
            None => line(&mut out, format_args!("kind {} (unknown)", header.kind)),
        }
        line(&mut out, format_args!("level {}", header.level));
        line(&mut out, format_args!("flags {:#x}", header.flags));
        line(&mut out, format_args!("page {}", header.page));
        line(&mut out, format_args!("txid {}", header.txid));
        line(&mut out, format_args!("crc {:08x}", header.crc));
        if !matches!(kind, Some(Kind::Overflow)) {
            line(
                &mut out,
                format_args!("crc of the bytes {:08x}", checksum(&bytes)),
            );
        }
        match kind {
            Some(Kind::Leaf | Kind::Branch) => {
                line(&mut out, format_args!("bytes in use {}", header.extent));
                if let Err(corrupt) = node_lines(&mut out, &bytes, page) {
                    line(&mut out, format_args!("corrupt: {corrupt}"));
                }
            }
            Some(Kind::Overflow) => {
                line(&mut out, format_args!("size {}", header.extent));
                line(&mut out, format_args!("bytes {}", text(&bytes[HEADER..])));
            }
            Some(Kind::Bitmap) => {
                line(&mut out, format_args!("region {}", header.extent));
                let marked: u32 = bytes[HEADER..].iter().map(|byte| byte.count_ones()).sum();
                line(&mut out, format_args!("pages in use {marked}"));
            }
            Some(Kind::Directory) => {
                line(&mut out, format_args!("directory {}", header.extent));
                let first = header.extent as usize * directory_regions(self.page_size());
                for (index, at) in bytes[HEADER..].chunks_exact(12).enumerate() {
                    let bitmap = read_child(at);
                    if bitmap.page.0 != 0 {
                        let region = first + index;
                        line(&mut out, format_args!("region {region}: {}", child(bitmap)));
                    }
                }
            }
            None => {}
        }
        out
    }

    /// The free extents of the newest sealed commit, one per line.
    pub fn dump_free(&self) -> String {
        let mut out = String::new();
        line(&mut out, format_args!("pages {}", self.space.page_count()));
        line(
            &mut out,
            format_args!("pages in use {}", self.space.used_count()),
        );
        line(
            &mut out,
            format_args!("pages pending {}", self.space.pending_count()),
        );
        for extent in self.space.free_extents() {
            line(
                &mut out,
                format_args!("free page {} count {}", extent.page, extent.pages),
            );
        }
        out
    }

    /// The buckets, their sizes, and the result of a whole check.
    pub fn dump_buckets(&self) -> String {
        let mut out = String::new();
        let txn = self.read();
        let roots = txn.snapshot.roots.iter().enumerate();
        for (index, root) in roots.filter(|(_, root)| !root.is_empty()) {
            line(&mut out, format_args!("bucket {index}: keys {}", root.keys));
            line(
                &mut out,
                format_args!("bucket {index}: levels {}", root.level + 1),
            );
        }
        match self.check() {
            Ok(report) => {
                line(&mut out, format_args!("check: ok"));
                line(&mut out, format_args!("keys {}", report.keys));
                line(&mut out, format_args!("leaf pages {}", report.leaf_pages));
                line(
                    &mut out,
                    format_args!("branch pages {}", report.branch_pages),
                );
                line(
                    &mut out,
                    format_args!("overflow pages {}", report.overflow_pages),
                );
                line(
                    &mut out,
                    format_args!("bitmap and directory pages {}", report.space_pages),
                );
                line(&mut out, format_args!("free pages {}", report.free_pages));
                let room = report.leaf_pages * u64::from(self.page_size());
                let percent = (report.leaf_bytes * 100).checked_div(room).unwrap_or(0);
                line(&mut out, format_args!("leaf fill {percent} percent"));
            }
            Err(corrupt) => line(&mut out, format_args!("check: {corrupt}")),
        }
        out
    }
}

fn node_lines(out: &mut String, bytes: &[u8], page: PageId) -> Result<(), Corrupt> {
    let view = NodeView::new(bytes, page)?;
    line(out, format_args!("entries {}", view.count()));
    line(out, format_args!("prefix {}", text(view.prefix())));
    for index in 0..view.count() {
        let record = view.record(index)?;
        let mut key = Vec::new();
        view.key_into(index, &mut key)?;
        let key = match record.key_run {
            Some(whole) => format!("{} ({})", text(&key), run(whole)),
            None => text(&key),
        };
        match record.body {
            Body::Inline { at, len } => {
                let value = bytes.get(at..at + len).map_or(String::new(), text);
                line(out, format_args!("{index}: {key} = {value} size {len}"));
            }
            Body::Run(value) => line(out, format_args!("{index}: {key} = {}", run(value))),
            Body::Child(page) => line(out, format_args!("{index}: {key} -> {}", child(page))),
        }
    }
    Ok(())
}
