//! Driver. A recorded comparison: the requests and etcd's masked answers, in one compressed file.
//!
//! Bytes, inside the deflate stream: the line `ringbolt transcript 1`, then per step a byte for
//! the kind, and with a varint size each: request, code (as a varint), text, body.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use libtest_mimic::Failed;
use ringbolt::codec::{Reader, put_varint};

use super::outcome::Outcome;
use super::step::{Kind, Step};

const MAGIC: &[u8] = b"ringbolt transcript 1\n";

#[derive(Default)]
pub struct Transcript {
    pub steps: Vec<(Step, Outcome)>,
}

impl Transcript {
    pub fn load(path: &Path) -> Result<Transcript, Failed> {
        let file = fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut bytes = Vec::new();
        DeflateDecoder::new(file).read_to_end(&mut bytes)?;
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or("not a transcript of version 1")?;
        let mut reader = Reader::new(rest);
        let mut steps = Vec::new();
        while !reader.is_empty() {
            steps.push(read_step(&mut reader).ok_or("the transcript is damaged")?);
        }
        Ok(Transcript { steps })
    }

    pub fn save(&self, path: &Path) -> Result<(), Failed> {
        let mut bytes = MAGIC.to_vec();
        for (step, outcome) in &self.steps {
            bytes.push(step.kind as u8);
            put_sized(&mut bytes, &step.request);
            put_varint(&mut bytes, u64::from(outcome.code));
            put_sized(&mut bytes, outcome.text.as_bytes());
            put_sized(&mut bytes, &outcome.body);
        }
        let mut encoder = DeflateEncoder::new(fs::File::create(path)?, Compression::best());
        encoder.write_all(&bytes)?;
        encoder.finish()?;
        Ok(())
    }
}

fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_step(reader: &mut Reader<'_>) -> Option<(Step, Outcome)> {
    let kind = Kind::from_number(reader.u8()?)?;
    let request = reader.bytes()?.to_vec();
    let code = u32::try_from(reader.varint()?).ok()?;
    let text = String::from_utf8(reader.bytes()?.to_vec()).ok()?;
    let body = reader.bytes()?.to_vec();
    Some((Step { kind, request }, Outcome { code, text, body }))
}
