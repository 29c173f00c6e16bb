//! Driver. A log or a segment as text: one line per field of every batch and record.

use super::error::WalError;
use super::format::{BatchHeader, Record};
use super::names::FileRole;
use super::scan::{Fault, SegmentReport, scan};
use crate::codec::Reader;
use crate::env::{Env, LogFile};
use crate::ids::SegmentSeq;
use crate::limits::wal as limits;
use std::fmt::Write;
use std::path::Path;

/// Bytes of a payload that a dump shows.
const SHOWN_BYTES: usize = 16;

/// Appends the text of every segment in `dir`, oldest first. Opens nothing for writing.
pub async fn dump<E: Env>(env: &E, dir: &Path, out: &mut String) -> Result<(), WalError> {
    let files = env
        .list(dir)
        .await
        .map_err(|source| WalError::io("list", dir, source))?;
    for file in files {
        let Some(FileRole::Segment(seq)) = FileRole::parse(&file.name) else {
            continue;
        };
        let path = dir.join(&file.name);
        let log = env.open_log(&path).await;
        let log = log.map_err(|source| WalError::io("open", &path, source))?;
        let mut bytes = Vec::with_capacity(file.size as usize);
        while (bytes.len() as u64) < log.size() {
            let size = (log.size() - bytes.len() as u64).min(limits::READ_BYTES as u64);
            let read = log.read_at(bytes.len() as u64, size as usize).await;
            let read = read.map_err(|source| WalError::io("read", &path, source))?;
            bytes.extend_from_slice(&read);
        }
        log.close()
            .await
            .map_err(|source| WalError::io("close", &path, source))?;
        line(out, 0, "file", &file.name);
        if let Err(fault) = dump_segment(&bytes, seq, out) {
            line(out, 1, "fault", &format!("{fault:?}"));
        }
    }
    Ok(())
}

/// Appends the text of one segment's bytes.
pub fn dump_segment(
    bytes: &[u8],
    seq: SegmentSeq,
    out: &mut String,
) -> Result<SegmentReport, Fault> {
    let report = scan(bytes, seq, |offset, header, body| {
        dump_header(offset, header, out);
        let mut reader = Reader::new(body);
        while let Some(record) = Record::decode(&mut reader) {
            match record {
                Ok(record) => dump_record(&record, out),
                Err(fault) => {
                    line(out, 2, "fault", &format!("{fault:?}"));
                    break;
                }
            }
        }
    })?;
    line(out, 1, "tail", &format!("{:?}", report.chain.tail_case()));
    Ok(report)
}

fn dump_header(offset: u64, header: &BatchHeader, out: &mut String) {
    line(out, 1, "batch", &offset);
    line(out, 2, "flags", &format!("{:#06x}", header.flags));
    line(out, 2, "stream", &format!("{:016x}", header.stream));
    line(out, 2, "epoch", &header.epoch);
    line(out, 2, "size", &header.size);
    line(out, 2, "span", &header.span);
    line(out, 2, "body_crc", &format!("{:08x}", header.body_crc));
    line(out, 2, "seq", &header.seq);
    line(out, 2, "lsn", &header.lsn);
    line(out, 2, "previous_end", &header.previous_end);
    line(out, 2, "durable", &header.durable);
    line(out, 2, "start", &header.start);
    line(out, 2, "gap_blocks", &header.gap_blocks);
}

fn dump_record(record: &Record<'_>, out: &mut String) {
    let kind = match record {
        Record::Entry { .. } => "entry",
        Record::HardState { .. } => "hard_state",
        Record::Mark { .. } => "mark",
        Record::Meta { .. } => "meta",
        Record::Copy { .. } => "copy",
        Record::Removed { .. } => "removed",
        Record::Reset { .. } => "reset",
    };
    line(out, 2, "record", &kind);
    line(out, 3, "group", &record.group());
    match *record {
        Record::Entry {
            index, term, data, ..
        }
        | Record::Copy {
            index, term, data, ..
        } => {
            line(out, 3, "index", &index);
            line(out, 3, "term", &term);
            dump_bytes("data", data, out);
        }
        Record::Mark { index, term, .. } | Record::Reset { index, term, .. } => {
            line(out, 3, "index", &index);
            line(out, 3, "term", &term);
        }
        Record::HardState { state, .. } => {
            line(out, 3, "term", &state.term);
            line(out, 3, "vote", &format!("{:x}", state.vote.0));
            line(out, 3, "commit", &state.commit);
        }
        Record::Meta { bytes, .. } => dump_bytes("bytes", bytes, out),
        Record::Removed { .. } => {}
    }
}

fn dump_bytes(name: &str, bytes: &[u8], out: &mut String) {
    let mut shown = format!("{} bytes", bytes.len());
    for byte in bytes.iter().take(SHOWN_BYTES) {
        write!(shown, " {byte:02x}").expect("a string takes everything");
    }
    if bytes.len() > SHOWN_BYTES {
        shown.push_str(" ...");
    }
    line(out, 3, name, &shown);
}

fn line(out: &mut String, depth: usize, name: &str, value: &dyn std::fmt::Display) {
    writeln!(out, "{:width$}{name} {value}", "", width = 2 * depth)
        .expect("a string takes everything");
}
