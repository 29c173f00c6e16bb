//! Driver. Answers on stdout in the format that the user asked for.

mod endpoints;

pub(super) use endpoints::Health;

use super::json::{self, Object};
use super::text::{hex_escaped, quoted, table};
use crate::pb::etcdserverpb::{self as api, response_op::Response as Op};
use crate::pb::mvccpb::{self, event::EventType};
use prost::Message;
use std::io::{self, Write};

/// `--write-out`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Simple,
    Json,
    Fields,
    Table,
    Protobuf,
}

impl Format {
    pub(super) fn of(name: &str) -> Option<Format> {
        match name {
            "simple" => Some(Format::Simple),
            "json" => Some(Format::Json),
            "fields" => Some(Format::Fields),
            "table" => Some(Format::Table),
            "protobuf" => Some(Format::Protobuf),
            _ => None,
        }
    }
}

/// Writes answers. What cannot be written (a closed pipe) ends the program.
pub(super) struct Printer<W: Write = io::BufWriter<io::Stdout>> {
    pub(super) format: Format,
    /// `--hex`.
    pub(super) hex: bool,
    /// `--print-value-only`.
    pub(super) values_only: bool,
    pub(super) out: W,
}

/// Rows of the fields format: name and shown value.
type Rows = Vec<(String, String)>;

fn row(rows: &mut Rows, name: &str, value: impl ToString) {
    rows.push((name.to_owned(), value.to_string()));
}

impl<W: Write> Printer<W> {
    /// A line that is seen at once, among lines on stderr.
    pub(super) fn notice(&mut self, text: &str) -> io::Result<()> {
        self.line(text)?;
        self.out.flush()
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// An answer of a single message: `simple` writes the simple form, the others follow from
    /// what is given.
    fn answer(
        &mut self,
        message: &impl Message,
        json: impl FnOnce() -> String,
        rows: impl FnOnce(bool) -> Rows,
        simple: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.format {
            Format::Simple => simple(self)?,
            Format::Json => self.line(&json())?,
            Format::Fields => {
                let text = fields(&rows(self.hex));
                self.out.write_all(text.as_bytes())?;
            }
            Format::Table => {
                let rows = rows(self.hex).into_iter();
                let rows: Vec<Vec<String>> = rows.map(|(name, value)| vec![name, value]).collect();
                let text = table(&["field", "value"], &rows);
                self.out.write_all(text.as_bytes())?;
            }
            Format::Protobuf => {
                self.out.write_all(&message.encode_to_vec())?;
            }
        }
        self.out.flush()
    }

    fn bytes_line(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.hex {
            self.out.write_all(&hex_escaped(bytes))?;
        } else {
            self.out.write_all(bytes)?;
        }
        self.out.write_all(b"\n")
    }

    fn simple_kv(&mut self, kv: &mvccpb::KeyValue) -> io::Result<()> {
        if !self.values_only {
            self.bytes_line(&kv.key)?;
        }
        self.bytes_line(&kv.value)
    }

    fn simple_range(&mut self, answer: &api::RangeResponse) -> io::Result<()> {
        answer.kvs.iter().try_for_each(|kv| self.simple_kv(kv))
    }

    fn simple_put(&mut self, answer: &api::PutResponse) -> io::Result<()> {
        self.line("OK")?;
        answer.prev_kv.iter().try_for_each(|kv| self.simple_kv(kv))
    }

    fn simple_delete(&mut self, answer: &api::DeleteRangeResponse) -> io::Result<()> {
        self.line(&answer.deleted.to_string())?;
        answer.prev_kvs.iter().try_for_each(|kv| self.simple_kv(kv))
    }

    fn simple_txn(&mut self, answer: &api::TxnResponse) -> io::Result<()> {
        self.line(if answer.succeeded {
            "SUCCESS"
        } else {
            "FAILURE"
        })?;
        for op in &answer.responses {
            self.line("")?;
            match &op.response {
                Some(Op::ResponseRange(answer)) => self.simple_range(answer)?,
                Some(Op::ResponsePut(answer)) => self.simple_put(answer)?,
                Some(Op::ResponseDeleteRange(answer)) => self.simple_delete(answer)?,
                Some(Op::ResponseTxn(answer)) => self.simple_txn(answer)?,
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn range(&mut self, answer: &api::RangeResponse) -> io::Result<()> {
        let simple = |printer: &mut Self| printer.simple_range(answer);
        self.answer(
            answer,
            || json::range(answer),
            |hex| range_rows(answer, hex),
            simple,
        )
    }

    pub(super) fn put(&mut self, answer: &api::PutResponse) -> io::Result<()> {
        let simple = |printer: &mut Self| printer.simple_put(answer);
        self.answer(
            answer,
            || json::put(answer),
            |hex| put_rows(answer, hex),
            simple,
        )
    }

    pub(super) fn delete(&mut self, answer: &api::DeleteRangeResponse) -> io::Result<()> {
        let simple = |printer: &mut Self| printer.simple_delete(answer);
        self.answer(
            answer,
            || json::delete(answer),
            |hex| delete_rows(answer, hex),
            simple,
        )
    }

    pub(super) fn txn(&mut self, answer: &api::TxnResponse) -> io::Result<()> {
        let simple = |printer: &mut Self| printer.simple_txn(answer);
        self.answer(
            answer,
            || json::txn(answer),
            |hex| txn_rows(answer, hex),
            simple,
        )
    }

    pub(super) fn watch(&mut self, answer: &api::WatchResponse) -> io::Result<()> {
        let json = || {
            let events = match answer.events.is_empty() {
                true => "null".to_owned(),
                false => json::array(&answer.events, json::event),
            };
            // etcdctl prints its client's struct, whose names are not those of the protocol.
            Object::new()
                .raw(
                    "Header",
                    answer.header.as_ref().map_or("{}".to_owned(), json::header),
                )
                .raw("Events", events)
                .raw("CompactRevision", answer.compact_revision)
                .raw("Canceled", answer.canceled)
                .raw("Created", answer.created)
                .raw("CancelReason", "\"\"")
                .finish()
        };
        let rows = |hex| {
            let mut rows = header_rows(&answer.header, hex);
            for event in &answer.events {
                row(&mut rows, "Type", event_name(event));
                event
                    .prev_kv
                    .iter()
                    .for_each(|kv| kv_rows(&mut rows, "Prev", kv, hex));
                event
                    .kv
                    .iter()
                    .for_each(|kv| kv_rows(&mut rows, "", kv, hex));
            }
            rows
        };
        self.answer(answer, json, rows, |printer| {
            for event in &answer.events {
                printer.line(event_name(event))?;
                event
                    .prev_kv
                    .iter()
                    .try_for_each(|kv| printer.simple_kv(kv))?;
                event.kv.iter().try_for_each(|kv| printer.simple_kv(kv))?;
            }
            Ok(())
        })
    }

    pub(super) fn lease_grant(&mut self, answer: &api::LeaseGrantResponse) -> io::Result<()> {
        let json = || {
            json::header_fields(Object::new(), &answer.header)
                .raw("ID", answer.id)
                .raw("TTL", answer.ttl)
                .raw("Error", json::string(&answer.error))
                .finish()
        };
        let rows = |hex| {
            let mut rows = header_rows(&answer.header, hex);
            row(&mut rows, "ID", id(answer.id as u64, hex));
            row(&mut rows, "TTL", answer.ttl);
            rows
        };
        let simple = |printer: &mut Self| {
            printer.line(&format!(
                "lease {:016x} granted with TTL({}s)",
                answer.id, answer.ttl
            ))
        };
        self.answer(answer, json, rows, simple)
    }

    pub(super) fn lease_revoke(
        &mut self,
        lease: i64,
        answer: &api::LeaseRevokeResponse,
    ) -> io::Result<()> {
        let json = || json::with_header(&answer.header).finish();
        let rows = |hex| header_rows(&answer.header, hex);
        let simple = |printer: &mut Self| printer.line(&format!("lease {lease:016x} revoked"));
        self.answer(answer, json, rows, simple)
    }

    pub(super) fn keep_alive(&mut self, answer: &api::LeaseKeepAliveResponse) -> io::Result<()> {
        let json = || {
            json::header_fields(Object::new(), &answer.header)
                .raw("ID", answer.id)
                .raw("TTL", answer.ttl)
                .finish()
        };
        let rows = |hex| {
            let mut rows = header_rows(&answer.header, hex);
            row(&mut rows, "ID", id(answer.id as u64, hex));
            row(&mut rows, "TTL", answer.ttl);
            rows
        };
        let simple = |printer: &mut Self| {
            printer.line(&format!(
                "lease {:016x} keepalived with TTL({})",
                answer.id, answer.ttl
            ))
        };
        self.answer(answer, json, rows, simple)
    }

    pub(super) fn time_to_live(
        &mut self,
        answer: &api::LeaseTimeToLiveResponse,
        keys: bool,
    ) -> io::Result<()> {
        let json = || {
            let keys = match answer.keys.is_empty() {
                true => "null".to_owned(),
                false => json::array(&answer.keys, |key| json::base64(key)),
            };
            json::header_fields(Object::new(), &answer.header)
                .raw("id", answer.id)
                .raw("ttl", answer.ttl)
                .raw("granted-ttl", answer.granted_ttl)
                .raw("keys", keys)
                .finish()
        };
        let rows = |hex| {
            let mut rows = header_rows(&answer.header, hex);
            row(&mut rows, "ID", id(answer.id as u64, hex));
            row(&mut rows, "TTL", answer.ttl);
            row(&mut rows, "GrantedTTL", answer.granted_ttl);
            answer
                .keys
                .iter()
                .for_each(|key| row(&mut rows, "Key", quoted(key)));
            rows
        };
        self.answer(answer, json, rows, |printer| {
            if answer.granted_ttl == 0 && answer.ttl == -1 {
                return printer.line(&format!("lease {:016x} already expired", answer.id));
            }
            let head = format!(
                "lease {:016x} granted with TTL({}s), remaining({}s)",
                answer.id, answer.granted_ttl, answer.ttl
            );
            printer.out.write_all(head.as_bytes())?;
            if keys {
                printer.out.write_all(b", attached keys([")?;
                for (place, key) in answer.keys.iter().enumerate() {
                    printer.out.write_all(if place == 0 { b"" } else { b" " })?;
                    printer.out.write_all(key)?;
                }
                printer.out.write_all(b"])")?;
            }
            printer.line("")
        })
    }

    pub(super) fn leases(&mut self, answer: &api::LeaseLeasesResponse) -> io::Result<()> {
        let json = || {
            let object = json::header_fields(Object::new(), &answer.header);
            let one = |lease: &api::LeaseStatus| Object::new().raw("id", lease.id).finish();
            object
                .raw("leases", json::array(&answer.leases, one))
                .finish()
        };
        let rows = |hex| {
            let mut rows = header_rows(&answer.header, hex);
            answer
                .leases
                .iter()
                .for_each(|l| row(&mut rows, "ID", id(l.id as u64, hex)));
            rows
        };
        self.answer(answer, json, rows, |printer| {
            printer.line(&format!("found {} leases", answer.leases.len()))?;
            answer
                .leases
                .iter()
                .try_for_each(|lease| printer.line(&format!("{:016x}", lease.id)))
        })
    }

    pub(super) fn alarms(&mut self, answer: &api::AlarmResponse) -> io::Result<()> {
        let rows = |hex| {
            let mut rows = header_rows(&answer.header, hex);
            for alarm in &answer.alarms {
                row(&mut rows, "MemberID", id(alarm.member_id, hex));
                row(&mut rows, "AlarmType", alarm.alarm);
            }
            rows
        };
        self.answer(
            answer,
            || json::alarms(answer),
            rows,
            |printer| {
                answer.alarms.iter().try_for_each(|alarm| {
                    let name = alarm.alarm().as_str_name();
                    printer.line(&format!("memberID:{} alarm:{name} ", alarm.member_id))
                })
            },
        )
    }

    pub(super) fn members(&mut self, answer: &api::MemberListResponse) -> io::Result<()> {
        let cells: Vec<Vec<String>> = answer
            .members
            .iter()
            .map(|member| {
                let state = if member.name.is_empty() {
                    "unstarted"
                } else {
                    "started"
                };
                vec![
                    format!("{:x}", member.id),
                    state.to_owned(),
                    member.name.clone(),
                    member.peer_urls.join(","),
                    member.client_urls.join(","),
                    member.is_learner.to_string(),
                ]
            })
            .collect();
        if self.format == Format::Table {
            let titles = [
                "ID",
                "Status",
                "Name",
                "Peer Addrs",
                "Client Addrs",
                "Is Learner",
            ];
            self.out.write_all(table(&titles, &cells).as_bytes())?;
            return self.out.flush();
        }
        let hex = self.hex;
        let json = || json::members(&answer.header, &answer.members, hex);
        let rows = |hex| {
            let mut rows = header_rows(&answer.header, hex);
            for member in &answer.members {
                row(&mut rows, "ID", id(member.id, hex));
                row(&mut rows, "Name", quoted(member.name.as_bytes()));
                let urls = |rows: &mut Rows, name: &str, urls: &[String]| {
                    urls.iter()
                        .for_each(|url| row(rows, name, quoted(url.as_bytes())));
                };
                urls(&mut rows, "PeerURL", &member.peer_urls);
                urls(&mut rows, "ClientURL", &member.client_urls);
                row(&mut rows, "IsLearner", member.is_learner);
                rows.push((String::new(), String::new()));
            }
            rows
        };
        self.answer(answer, json, rows, |printer| {
            cells
                .iter()
                .try_for_each(|cells| printer.line(&cells.join(", ")))
        })
    }

    /// An answer that is nothing but a header, shown by a line of text in the simple form.
    pub(super) fn done(
        &mut self,
        message: &impl Message,
        header: &Option<api::ResponseHeader>,
        text: &str,
    ) -> io::Result<()> {
        let json = || json::with_header(header).finish();
        self.answer(
            message,
            json,
            |hex| header_rows(header, hex),
            |printer| printer.line(text),
        )
    }
}

/// The fields format: `"Name" : value`. An empty name is an empty line.
fn fields(rows: &Rows) -> String {
    rows.iter()
        .fold(String::new(), |out, (name, value)| match name.as_str() {
            "" => out + "\n",
            name => out + &format!("\"{name}\" : {value}\n"),
        })
}

fn id(id: u64, hex: bool) -> String {
    if hex {
        format!("{id:x}")
    } else {
        id.to_string()
    }
}

fn event_name(event: &mvccpb::Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

fn header_rows(header: &Option<api::ResponseHeader>, hex: bool) -> Rows {
    let header = header.unwrap_or_default();
    let mut rows = Rows::new();
    row(&mut rows, "ClusterID", id(header.cluster_id, hex));
    row(&mut rows, "MemberID", id(header.member_id, hex));
    // Answers about the cluster carry none.
    if header.revision != 0 {
        row(&mut rows, "Revision", header.revision);
    }
    row(&mut rows, "RaftTerm", header.raft_term);
    rows
}

fn kv_rows(rows: &mut Rows, prefix: &str, kv: &mvccpb::KeyValue, hex: bool) {
    let mut put = |name: &str, value: String| row(rows, &format!("{prefix}{name}"), value);
    put("Key", quoted(&kv.key));
    put("CreateRevision", kv.create_revision.to_string());
    put("ModRevision", kv.mod_revision.to_string());
    put("Version", kv.version.to_string());
    put("Value", quoted(&kv.value));
    put(
        "Lease",
        if hex {
            format!("{:016x}", kv.lease)
        } else {
            kv.lease.to_string()
        },
    );
}

fn range_rows(answer: &api::RangeResponse, hex: bool) -> Rows {
    let mut rows = header_rows(&answer.header, hex);
    answer
        .kvs
        .iter()
        .for_each(|kv| kv_rows(&mut rows, "", kv, hex));
    row(&mut rows, "More", answer.more);
    row(&mut rows, "Count", answer.count);
    rows
}

fn put_rows(answer: &api::PutResponse, hex: bool) -> Rows {
    let mut rows = header_rows(&answer.header, hex);
    answer
        .prev_kv
        .iter()
        .for_each(|kv| kv_rows(&mut rows, "Prev", kv, hex));
    rows
}

fn delete_rows(answer: &api::DeleteRangeResponse, hex: bool) -> Rows {
    let mut rows = header_rows(&answer.header, hex);
    row(&mut rows, "Deleted", answer.deleted);
    answer
        .prev_kvs
        .iter()
        .for_each(|kv| kv_rows(&mut rows, "Prev", kv, hex));
    rows
}

fn txn_rows(answer: &api::TxnResponse, hex: bool) -> Rows {
    let mut rows = header_rows(&answer.header, hex);
    row(&mut rows, "Succeeded", answer.succeeded);
    for op in &answer.responses {
        rows.extend(match &op.response {
            Some(Op::ResponseRange(answer)) => range_rows(answer, hex),
            Some(Op::ResponsePut(answer)) => put_rows(answer, hex),
            Some(Op::ResponseDeleteRange(answer)) => delete_rows(answer, hex),
            Some(Op::ResponseTxn(answer)) => txn_rows(answer, hex),
            None => Rows::new(),
        });
    }
    rows
}
