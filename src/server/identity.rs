//! Pure. Who this member is: written once when its data directory is made, read at every start.
//!
//! A restart with the first command line again must come back as the same member whatever the
//! bootstrap flags say, so the ids rest in a file of their own, written and synced before the log
//! is made. One line of JSON and its crc32; `docs/format/data-dir.md`.

use crate::ids::{ClusterId, MemberId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "identity";

/// The layout of the whole data directory. A greater number was written by a newer program.
pub const LAYOUT_VERSION: u32 = 1;

/// What a member is told once and keeps for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub cluster: ClusterId,
    pub member: MemberId,
    /// The peer URLs that the ids were made from, byte for byte.
    pub peer_urls: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    layout: u32,
    cluster: String,
    member: String,
    peer_urls: Vec<String>,
}

/// Why an identity file cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdentityError {
    /// The checksum does not match, or the text is not ours.
    Corrupt {
        expected: u32,
        found: u32,
    },
    Malformed(&'static str),
    /// Written by a newer program.
    Newer {
        expected: u32,
        found: u32,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Corrupt { expected, found } => {
                write!(
                    f,
                    "identity file: checksum expected {expected:08x}, found {found:08x}"
                )
            }
            IdentityError::Malformed(what) => write!(f, "identity file: malformed {what}"),
            IdentityError::Newer { expected, found } => write!(
                f,
                "identity file: data directory has layout {found}, this program knows up to \
                 {expected}; start the newer program that wrote it"
            ),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    pub fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            layout: LAYOUT_VERSION,
            cluster: format!("{:016x}", self.cluster.0),
            member: format!("{:016x}", self.member.0),
            peer_urls: self.peer_urls.clone(),
        };
        let json = serde_json::to_string(&stored).expect("strings and numbers are always JSON");
        let sum = crc32fast::hash(json.as_bytes());
        format!("{sum:08x} {json}\n").into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
        let text = std::str::from_utf8(bytes).map_err(|_| IdentityError::Malformed("text"))?;
        let (sum, json) = text
            .trim_end()
            .split_once(' ')
            .ok_or(IdentityError::Malformed("line"))?;
        let found =
            u32::from_str_radix(sum, 16).map_err(|_| IdentityError::Malformed("checksum"))?;
        let expected = crc32fast::hash(json.as_bytes());
        if expected != found {
            return Err(IdentityError::Corrupt { expected, found });
        }
        let stored: Stored =
            serde_json::from_str(json).map_err(|_| IdentityError::Malformed("fields"))?;
        if stored.layout > LAYOUT_VERSION {
            return Err(IdentityError::Newer {
                expected: LAYOUT_VERSION,
                found: stored.layout,
            });
        }
        let id = |text: &str, what| {
            u64::from_str_radix(text, 16).map_err(|_| IdentityError::Malformed(what))
        };
        Ok(Identity {
            cluster: ClusterId(id(&stored.cluster, "cluster id")?),
            member: MemberId(id(&stored.member, "member id")?),
            peer_urls: stored.peer_urls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster: ClusterId(0x34c2_1a2d_427d_b393),
            member: MemberId(0x00a8_f345_8387_986d),
            peer_urls: vec!["https://localhost:20001".into()],
        }
    }

    // Catches: an id that comes back changed, so that a member returns as a stranger.
    #[test]
    fn an_identity_comes_back() {
        assert_eq!(Identity::decode(&identity().encode()), Ok(identity()));
    }

    // Catches: a damaged file taken for an identity, or a panic on one.
    #[test]
    fn every_damaged_byte_is_refused() {
        let good = identity().encode();
        for at in 0..good.len() - 1 {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            assert!(Identity::decode(&bad).is_err(), "byte {at}");
            assert!(Identity::decode(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
