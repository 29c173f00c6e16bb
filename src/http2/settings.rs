//! Pure. SETTINGS: what we announce, and what the peer announced.

use super::error::ConnectionError;
use super::frame;
use super::keepalive::Keepalive;
use crate::limits::http2 as limits;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Which end of a connection we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Server,
    Client,
}

/// How one end treats its connections. Shared by all of a listener's connections, by copying.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Streams that one client may have open; capped by `STREAMS_MAX`.
    pub streams_max: u32,
    /// Bytes that may be under way on one stream.
    pub stream_window: u32,
    /// Bytes that may be under way on the connection.
    pub connection_window: u32,
    /// Bytes of a header list.
    pub header_list_bytes_max: usize,
    pub keepalive: Keepalive,
    /// The request field whose value changes with every request: handed out beside the head.
    pub varying_field: &'static [u8],
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            streams_max: limits::STREAMS_MAX,
            stream_window: limits::STREAM_WINDOW,
            connection_window: limits::CONNECTION_WINDOW,
            header_list_bytes_max: limits::HEADER_LIST_BYTES_MAX,
            keepalive: Keepalive::default(),
            varying_field: b"",
        }
    }
}

impl Settings {
    /// Appends our SETTINGS, and a WINDOW_UPDATE that opens the connection's window.
    pub fn put(&self, role: Role, out: &mut Vec<u8>) {
        let first = match role {
            Role::Server => (
                MAX_CONCURRENT_STREAMS,
                self.streams_max.min(limits::STREAMS_MAX),
            ),
            Role::Client => (ENABLE_PUSH, 0),
        };
        let entries = [
            first,
            (INITIAL_WINDOW_SIZE, self.stream_window),
            (MAX_HEADER_LIST_SIZE, self.header_list_bytes_max as u32),
        ];
        put(out, &entries);
        if let Some(more) = self.connection_window.checked_sub(frame::WINDOW_DEFAULT)
            && more > 0
        {
            frame::put_window_update(out, 0, more);
        }
    }
}

/// Appends a SETTINGS frame.
pub fn put(out: &mut Vec<u8>, entries: &[(u16, u32)]) {
    frame::put_header(out, frame::SETTINGS, 0, 0, entries.len() * 6);
    for (id, value) in entries {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// What the peer announced; the protocol's defaults until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerSettings {
    pub initial_window: u32,
    pub frame_bytes_max: usize,
    pub streams_max: u32,
    /// Bytes of the HPACK table that the peer keeps for our blocks.
    pub table_bytes_max: u32,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            initial_window: frame::WINDOW_DEFAULT,
            frame_bytes_max: frame::PAYLOAD_SIZE_DEFAULT,
            streams_max: u32::MAX,
            table_bytes_max: limits::HPACK_TABLE_BYTES_MAX as u32,
        }
    }
}

impl PeerSettings {
    /// Takes a SETTINGS payload. Unknown settings are ignored, the last of equal ones counts.
    pub fn apply(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(ConnectionError::FrameSize {
                kind: frame::SETTINGS,
                got: payload.len(),
                expected: entries.len() * 6,
            });
        }
        for entry in entries {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            let bad = ConnectionError::SettingValue { id, got: value };
            match id {
                HEADER_TABLE_SIZE => self.table_bytes_max = value,
                ENABLE_PUSH if value > 1 => return Err(bad),
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE if value > frame::U31_MAX => return Err(bad),
                INITIAL_WINDOW_SIZE => self.initial_window = value,
                MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => return Err(bad),
                MAX_FRAME_SIZE => self.frame_bytes_max = value as usize,
                _ => {}
            }
        }
        Ok(())
    }
}
