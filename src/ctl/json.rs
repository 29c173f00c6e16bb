//! Pure. JSON as etcdctl prints it: protobuf names, raw numbers, base64 bytes, zero values left
//! out unless etcd's own structs keep them.

use crate::pb::etcdserverpb::{self as api, response_op::Response as Op};
use crate::pb::mvccpb;
use std::fmt::{Display, Write as _};

/// One JSON object while it is written.
pub(super) struct Object {
    out: String,
}

impl Object {
    pub(super) fn new() -> Object {
        Object {
            out: String::from("{"),
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push('}');
        self.out
    }

    fn name(&mut self, name: &str) -> &mut String {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        let _ = write!(self.out, "\"{name}\":");
        &mut self.out
    }

    /// A field with a JSON text, always.
    pub(super) fn raw(mut self, name: &str, json: impl Display) -> Object {
        let _ = write!(self.name(name), "{json}");
        self
    }

    /// A field unless it is 0.
    pub(super) fn number(self, name: &str, value: impl Into<i128>) -> Object {
        let value = value.into();
        if value == 0 {
            self
        } else {
            self.raw(name, value)
        }
    }

    /// A field unless it is false.
    pub(super) fn flag(self, name: &str, value: bool) -> Object {
        if value { self.raw(name, value) } else { self }
    }

    /// A string unless it is empty.
    pub(super) fn text(self, name: &str, value: &str) -> Object {
        if value.is_empty() {
            self
        } else {
            self.raw(name, string(value))
        }
    }

    /// Bytes unless they are empty.
    pub(super) fn bytes(self, name: &str, value: &[u8]) -> Object {
        if value.is_empty() {
            self
        } else {
            self.raw(name, base64(value))
        }
    }

    /// A list unless it is empty.
    pub(super) fn list<T>(self, name: &str, items: &[T], json: impl Fn(&T) -> String) -> Object {
        if items.is_empty() {
            self
        } else {
            self.raw(name, array(items, json))
        }
    }

    /// A message unless it is missing.
    pub(super) fn message<T>(
        self,
        name: &str,
        value: &Option<T>,
        json: impl Fn(&T) -> String,
    ) -> Object {
        match value {
            Some(value) => self.raw(name, json(value)),
            None => self,
        }
    }
}

pub(super) fn array<T>(items: &[T], json: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(json).collect();
    format!("[{}]", items.join(","))
}

/// A JSON string with Go's escapes.
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Bytes as a quoted base64 string with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len() * 4 / 3 + 6);
    out.push('"');
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            if place <= chunk.len() {
                let digit = bits >> (18 - 6 * place) & 63;
                out.push(char::from(DIGITS[digit as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out.push('"');
    out
}

pub(super) fn header_fields(object: Object, header: &Option<api::ResponseHeader>) -> Object {
    let header = header.unwrap_or_default();
    object
        .number("cluster_id", header.cluster_id)
        .number("member_id", header.member_id)
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
}

pub(super) fn header(header: &api::ResponseHeader) -> String {
    header_fields(Object::new(), &Some(*header)).finish()
}

/// An object that begins with the header.
pub(super) fn with_header(head: &Option<api::ResponseHeader>) -> Object {
    Object::new().message("header", head, header)
}

pub(super) fn key_value(kv: &mvccpb::KeyValue) -> String {
    Object::new()
        .bytes("key", &kv.key)
        .number("create_revision", kv.create_revision)
        .number("mod_revision", kv.mod_revision)
        .number("version", kv.version)
        .bytes("value", &kv.value)
        .number("lease", kv.lease)
        .finish()
}

pub(super) fn event(event: &mvccpb::Event) -> String {
    Object::new()
        .number("type", event.r#type)
        .message("kv", &event.kv, key_value)
        .message("prev_kv", &event.prev_kv, key_value)
        .finish()
}

pub(super) fn range(answer: &api::RangeResponse) -> String {
    with_header(&answer.header)
        .list("kvs", &answer.kvs, key_value)
        .flag("more", answer.more)
        .number("count", answer.count)
        .finish()
}

pub(super) fn put(answer: &api::PutResponse) -> String {
    with_header(&answer.header)
        .message("prev_kv", &answer.prev_kv, key_value)
        .finish()
}

pub(super) fn delete(answer: &api::DeleteRangeResponse) -> String {
    with_header(&answer.header)
        .number("deleted", answer.deleted)
        .list("prev_kvs", &answer.prev_kvs, key_value)
        .finish()
}

pub(super) fn txn(answer: &api::TxnResponse) -> String {
    with_header(&answer.header)
        .flag("succeeded", answer.succeeded)
        .list("responses", &answer.responses, |op| {
            let inner = match &op.response {
                Some(Op::ResponseRange(answer)) => {
                    Object::new().raw("response_range", range(answer))
                }
                Some(Op::ResponsePut(answer)) => Object::new().raw("response_put", put(answer)),
                Some(Op::ResponseDeleteRange(answer)) => {
                    Object::new().raw("response_delete_range", delete(answer))
                }
                Some(Op::ResponseTxn(answer)) => Object::new().raw("response_txn", txn(answer)),
                None => return Object::new().raw("Response", "null").finish(),
            };
            Object::new().raw("Response", inner.finish()).finish()
        })
        .finish()
}

/// A member; ids are strings of hexadecimal digits with `--hex`.
pub(super) fn member(member: &api::Member, hex: bool) -> String {
    let object = match hex {
        true => Object::new().raw("ID", format!("\"{:x}\"", member.id)),
        false => Object::new().number("ID", member.id),
    };
    object
        .text("name", &member.name)
        .list("peerURLs", &member.peer_urls, |url| string(url))
        .list("clientURLs", &member.client_urls, |url| string(url))
        .flag("isLearner", member.is_learner)
        .finish()
}

pub(super) fn members(
    head: &Option<api::ResponseHeader>,
    members: &[api::Member],
    hex: bool,
) -> String {
    let object = match (hex, head) {
        (true, Some(head)) => {
            let json = Object::new()
                .raw("cluster_id", format!("\"{:x}\"", head.cluster_id))
                .raw("member_id", format!("\"{:x}\"", head.member_id))
                .number("revision", head.revision)
                .number("raft_term", head.raft_term);
            Object::new().raw("header", json.finish())
        }
        _ => with_header(head),
    };
    object
        .list("members", members, |one| member(one, hex))
        .finish()
}

pub(super) fn status(answer: &api::StatusResponse) -> String {
    with_header(&answer.header)
        .text("version", &answer.version)
        .number("dbSize", answer.db_size)
        .number("leader", answer.leader)
        .number("raftIndex", answer.raft_index)
        .number("raftTerm", answer.raft_term)
        .number("raftAppliedIndex", answer.raft_applied_index)
        .list("errors", &answer.errors, |error| string(error))
        .number("dbSizeInUse", answer.db_size_in_use)
        .flag("isLearner", answer.is_learner)
        .text("storageVersion", &answer.storage_version)
        .number("dbSizeQuota", answer.db_size_quota)
        .message("downgradeInfo", &answer.downgrade_info, |info| {
            Object::new()
                .flag("enabled", info.enabled)
                .text("targetVersion", &info.target_version)
                .finish()
        })
        .finish()
}

pub(super) fn hash_kv(answer: &api::HashKvResponse) -> String {
    with_header(&answer.header)
        .number("hash", answer.hash)
        .number("compact_revision", answer.compact_revision)
        .number("hash_revision", answer.hash_revision)
        .finish()
}

pub(super) fn alarms(answer: &api::AlarmResponse) -> String {
    with_header(&answer.header)
        .list("alarms", &answer.alarms, |alarm| {
            Object::new()
                .number("memberID", alarm.member_id)
                .number("alarm", alarm.alarm)
                .finish()
        })
        .finish()
}
