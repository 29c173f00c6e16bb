//! Pure. The HPACK that a gRPC client needs: request blocks that shrink to indexed bytes after the
//! first call, and a complete decoder with a memo, so that the same answer block twice is one
//! comparison.
//!
//! Written apart from the server's own HPACK on purpose: two readings of the standard meet on the
//! wire.

use super::huffman;

const TABLE_BYTES_DEFAULT: usize = 4096;
const ENTRY_OVERHEAD: usize = 32;

#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

/// What is wrong with a header block of the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadBlock;

/// Request blocks of one connection. Fields enter the server's table with the first request that
/// carries them; later blocks are one byte per field.
#[derive(Debug)]
pub struct Encoder {
    /// Sent with every request, after the pseudo headers.
    fixed: Vec<(String, String)>,
    /// What the server's table holds, oldest first. Never evicted: `table_bytes <= table_max`.
    entries: Vec<(String, String)>,
    table_bytes: usize,
    table_max: usize,
    announce: Option<usize>,
    /// By path: its block, valid as long as `entries` does not grow.
    warm: Vec<(&'static str, Vec<u8>)>,
}

impl Encoder {
    pub fn new(authority: &str, metadata: &[(&str, &str)]) -> Encoder {
        let mut fixed = vec![
            (":authority".to_string(), authority.to_string()),
            ("content-type".to_string(), "application/grpc".to_string()),
            ("user-agent".to_string(), "ringbolt-bench".to_string()),
            ("te".to_string(), "trailers".to_string()),
        ];
        fixed.extend(metadata.iter().map(|(n, v)| (n.to_string(), v.to_string())));
        let (entries, warm) = (Vec::new(), Vec::new());
        let table_max = TABLE_BYTES_DEFAULT;
        Encoder {
            fixed,
            entries,
            table_bytes: 0,
            table_max,
            announce: None,
            warm,
        }
    }

    /// The server's SETTINGS_HEADER_TABLE_SIZE: a smaller table is announced and left empty.
    pub fn set_table_max(&mut self, size: usize) {
        if size < self.table_max {
            assert!(
                self.entries.is_empty(),
                "settings arrive before the first request"
            );
            self.table_max = size;
            self.announce = Some(size);
        }
    }

    /// Appends the header block of one request to `path`.
    pub fn append(&mut self, path: &'static str, out: &mut Vec<u8>) {
        if self.announce.is_none()
            && let Some((_, block)) = self.warm.iter().find(|(p, _)| *p == path)
        {
            out.extend_from_slice(block);
            return;
        }
        if let Some(size) = self.announce.take() {
            put_int(out, 0x20, 5, size);
        }
        self.fields(path, out);
        // Entries may have moved every index: write all warm blocks anew.
        let mut warm = std::mem::take(&mut self.warm);
        if !warm.iter().any(|(p, _)| *p == path) {
            warm.push((path, Vec::new()));
        }
        for (path, block) in &mut warm {
            block.clear();
            self.fields(path, block);
        }
        self.warm = warm;
    }

    fn fields(&mut self, path: &str, out: &mut Vec<u8>) {
        out.push(0x83); // :method POST
        out.push(0x86); // :scheme http
        self.field(":path", path, out);
        for i in 0..self.fixed.len() {
            let (name, value) = self.fixed[i].clone();
            self.field(&name, &value, out);
        }
    }

    fn field(&mut self, name: &str, value: &str, out: &mut Vec<u8>) {
        if let Some(i) = self
            .entries
            .iter()
            .position(|(n, v)| n == name && v == value)
        {
            put_int(out, 0x80, 7, STATIC.len() + self.entries.len() - i);
            return;
        }
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        let fits = self.table_bytes + size <= self.table_max;
        let (flag, bits) = if fits { (0x40, 6) } else { (0x00, 4) };
        match STATIC.iter().position(|(n, _)| *n == name) {
            Some(i) => put_int(out, flag, bits, i + 1),
            None => {
                out.push(flag);
                put_text(out, name);
            }
        }
        put_text(out, value);
        if fits {
            self.table_bytes += size;
            self.entries.push((name.to_string(), value.to_string()));
        }
    }
}

fn put_int(out: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let max = (1usize << bits) - 1;
    if value < max {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | max as u8);
    let mut rest = value - max;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_int(out, 0, 7, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// What one header block says, as far as a gRPC client or the floor server cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub http_status: Option<u32>,
    pub grpc_status: Option<u32>,
    pub grpc_message: String,
    pub path: String,
}

/// Header blocks of the other side of one connection.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    entries: std::collections::VecDeque<(Vec<u8>, Vec<u8>)>,
    table_bytes: usize,
    table_max: usize,
    /// Blocks seen since the table last changed: the same bytes then mean the same.
    memo: Vec<(Vec<u8>, Head)>,
    /// The last block that changed the table; it would change it again, so it has no memo.
    latest: Head,
}

const MEMO_BLOCKS_MAX: usize = 8;

impl Default for Decoder {
    fn default() -> Decoder {
        let entries = std::collections::VecDeque::new();
        let (table_max, memo) = (TABLE_BYTES_DEFAULT, Vec::new());
        Decoder {
            entries,
            table_bytes: 0,
            table_max,
            memo,
            latest: Head::default(),
        }
    }
}

impl Decoder {
    pub fn read(&mut self, block: &[u8]) -> Result<&Head, BadBlock> {
        if let Some(slot) = self.memo.iter().position(|(seen, _)| seen == block) {
            return Ok(&self.memo[slot].1);
        }
        let mut changed = false;
        let head = self.read_new(block, &mut changed).ok_or(BadBlock)?;
        if changed || self.memo.len() == MEMO_BLOCKS_MAX {
            self.memo.clear();
        }
        if changed {
            self.latest = head;
            return Ok(&self.latest);
        }
        self.memo.push((block.to_vec(), head));
        Ok(&self.memo[self.memo.len() - 1].1)
    }

    fn read_new(&mut self, mut block: &[u8], changed: &mut bool) -> Option<Head> {
        let mut head = Head::default();
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = take_int(&mut block, 7)?;
                let (name, value) = self.entry(index)?;
                head.note(name, value);
            } else if first & 0xe0 == 0x20 {
                let size = take_int(&mut block, 5)?;
                if size > TABLE_BYTES_DEFAULT {
                    return None;
                }
                *changed = true;
                self.table_max = size;
                self.evict(0);
            } else {
                let keep = first & 0x40 != 0;
                let index = take_int(&mut block, if keep { 6 } else { 4 })?;
                let name = match index {
                    0 => take_text(&mut block)?,
                    _ => self.entry(index)?.0.to_vec(),
                };
                let value = take_text(&mut block)?;
                head.note(&name, &value);
                if keep {
                    *changed = true;
                    self.insert(name, value);
                }
            }
        }
        Some(head)
    }

    fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = STATIC.get(index.checked_sub(1)?) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let (name, value) = self.entries.get(index - 1 - STATIC.len())?;
        Some((name, value))
    }

    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(size);
        if size <= self.table_max {
            self.table_bytes += size;
            self.entries.push_front((name, value));
        }
    }

    fn evict(&mut self, room: usize) {
        while self.table_bytes + room > self.table_max
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.table_bytes -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

impl Head {
    fn note(&mut self, name: &[u8], value: &[u8]) {
        let number = || std::str::from_utf8(value).ok()?.parse().ok();
        match name {
            b":status" => self.http_status = number(),
            b"grpc-status" => self.grpc_status = number(),
            b"grpc-message" => self.grpc_message = percent_decoded(value),
            b":path" => self.path = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
}

fn percent_decoded(value: &[u8]) -> String {
    let mut text = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [byte, tail @ ..] = rest {
        if *byte == b'%'
            && let Some(digits) = tail.get(..2)
            && let Ok(code) = u8::from_str_radix(&String::from_utf8_lossy(digits), 16)
        {
            text.push(code);
            rest = &tail[2..];
        } else {
            text.push(*byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn take_int(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (&first, mut rest) = block.split_first()?;
    let max = (1usize << bits) - 1;
    let mut value = usize::from(first) & max;
    if value == max {
        for shift in [0, 7, 14, 21] {
            let (&byte, tail) = rest.split_first()?;
            rest = tail;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

fn take_text(block: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = block.first()? & 0x80 != 0;
    let size = take_int(block, 7)?;
    let (text, rest) = block.split_at_checked(size)?;
    *block = rest;
    if huffman {
        huffman::decode(text)
    } else {
        Some(text.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: indexes that drift between what the encoder believes and what a decoder holds.
    #[test]
    fn blocks_round_trip_and_shrink() {
        let mut encoder = Encoder::new("host:1", &[("hasleader", "true")]);
        let mut decoder = Decoder::default();
        let paths = ["/a/First", "/b/Second", "/c/Third"];
        let mut sizes = Vec::new();
        for round in 0..3 {
            for path in paths {
                let mut block = Vec::new();
                encoder.append(path, &mut block);
                assert_eq!(decoder.read(&block).expect("a valid block").path, path);
                if round > 0 {
                    sizes.push(block.len());
                }
            }
        }
        assert!(sizes.iter().all(|&size| size == 8), "{sizes:?}");
    }

    // Catches: a server that wants no table still sent indexed fields.
    #[test]
    fn an_empty_table_is_announced_and_respected() {
        let mut encoder = Encoder::new("host:1", &[]);
        encoder.set_table_max(0);
        let mut decoder = Decoder::default();
        for _ in 0..2 {
            let mut block = Vec::new();
            encoder.append("/a/First", &mut block);
            assert_eq!(
                decoder.read(&block).expect("a valid block").path,
                "/a/First"
            );
            assert!(decoder.entries.is_empty());
        }
    }

    // Catches: the memo answering for a block whose meaning has moved with the table.
    #[test]
    fn the_memo_forgets_when_the_table_changes() {
        let mut decoder = Decoder::default();
        let insert = |code: &str| {
            let mut block = vec![0x40];
            put_text(&mut block, "grpc-status");
            put_text(&mut block, code);
            block
        };
        assert_eq!(
            decoder.read(&insert("0")).expect("valid").grpc_status,
            Some(0)
        );
        let newest = [0x80 | 62];
        assert_eq!(decoder.read(&newest).expect("valid").grpc_status, Some(0));
        assert_eq!(
            decoder.read(&insert("5")).expect("valid").grpc_status,
            Some(5)
        );
        assert_eq!(decoder.read(&newest).expect("valid").grpc_status, Some(5));
    }

    // Catches: a panic on foreign bytes.
    #[test]
    fn bad_blocks_are_refused() {
        for block in [
            &[0x80][..],
            &[0xff],
            &[0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x40, 5, b'a'],
        ] {
            assert_eq!(Decoder::default().read(block), Err(BadBlock));
        }
        assert_eq!(percent_decoded(b"a%20b%"), "a b%");
    }
}
