//! Driver. Answers that each endpoint gives for itself: status, hash, health.

use super::{Format, Printer, Rows, fields, header_rows, row};
use crate::ctl::json::{self, Object};
use crate::ctl::text::{duration, quoted, size, table};
use crate::pb::etcdserverpb as api;
use prost::Message;
use std::io::{self, Write};
use std::time::Duration;

/// A member's answer, or why there is none, and how long it took.
pub(in crate::ctl) struct Health {
    pub(in crate::ctl) endpoint: String,
    pub(in crate::ctl) took: Duration,
    /// Empty when the member is healthy.
    pub(in crate::ctl) error: String,
}

/// How the formats show one endpoint's answer.
struct Shown<T> {
    titles: &'static [&'static str],
    cells: fn(&str, &T) -> Vec<String>,
    /// The name of the answer in JSON, and the answer.
    json: (&'static str, fn(&T) -> String),
    rows: fn(&str, &T, bool) -> Rows,
}

impl<W: Write> Printer<W> {
    pub(in crate::ctl) fn statuses(
        &mut self,
        answers: &[(String, api::StatusResponse)],
    ) -> io::Result<()> {
        let shown = Shown {
            titles: &STATUS_TITLES,
            cells: status_cells,
            json: ("Status", json::status),
            rows: status_rows,
        };
        self.each(answers, &shown)
    }

    pub(in crate::ctl) fn hashes(
        &mut self,
        answers: &[(String, api::HashKvResponse)],
    ) -> io::Result<()> {
        let shown = Shown {
            titles: &["Endpoint", "Hash", "Hash Revision"],
            cells: hash_cells,
            json: ("HashKV", json::hash_kv),
            rows: hash_rows,
        };
        self.each(answers, &shown)
    }

    fn each<T: Message>(&mut self, answers: &[(String, T)], shown: &Shown<T>) -> io::Result<()> {
        let cells = answers
            .iter()
            .map(|(endpoint, answer)| (shown.cells)(endpoint, answer));
        let cells: Vec<Vec<String>> = cells.collect();
        match self.format {
            Format::Simple => cells
                .iter()
                .try_for_each(|cells| self.line(&cells.join(", "))),
            Format::Json => {
                let (name, json) = shown.json;
                let one = |(endpoint, answer): &(String, T)| {
                    Object::new()
                        .raw("Endpoint", json::string(endpoint))
                        .raw(name, json(answer))
                        .finish()
                };
                self.line(&json::array(answers, one))
            }
            Format::Table => self.out.write_all(table(shown.titles, &cells).as_bytes()),
            Format::Fields => answers.iter().try_for_each(|(endpoint, answer)| {
                let rows = (shown.rows)(endpoint, answer, self.hex);
                self.out.write_all(fields(&rows).as_bytes())?;
                self.line("")
            }),
            Format::Protobuf => answers
                .iter()
                .try_for_each(|(_, answer)| self.out.write_all(&answer.encode_to_vec())),
        }?;
        self.out.flush()
    }

    /// Health of every endpoint; the simple form of a sick one goes to stderr.
    pub(in crate::ctl) fn health(&mut self, all: &[Health]) -> io::Result<()> {
        let shown = |health: &Health| {
            vec![
                health.endpoint.clone(),
                health.error.is_empty().to_string(),
                duration(health.took),
                health.error.clone(),
            ]
        };
        match self.format {
            Format::Simple => {
                for Health {
                    endpoint,
                    took,
                    error,
                } in all
                {
                    if error.is_empty() {
                        let took = duration(*took);
                        self.line(&format!(
                            "{endpoint} is healthy: successfully committed proposal: took = {took}"
                        ))?;
                    } else {
                        self.out.flush()?;
                        eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
                    }
                }
            }
            Format::Json | Format::Protobuf => {
                let one = |health: &Health| {
                    Object::new()
                        .raw("endpoint", json::string(&health.endpoint))
                        .raw("health", health.error.is_empty())
                        .raw("took", json::string(&duration(health.took)))
                        .text("error", &health.error)
                        .finish()
                };
                self.line(&json::array(all, one))?;
            }
            Format::Fields => {
                for health in all {
                    let mut rows = Rows::new();
                    row(&mut rows, "Endpoint", quoted(health.endpoint.as_bytes()));
                    row(&mut rows, "Health", health.error.is_empty());
                    row(&mut rows, "Took", duration(health.took));
                    row(&mut rows, "Error", &health.error);
                    self.out.write_all(fields(&rows).as_bytes())?;
                    self.line("")?;
                }
            }
            Format::Table => {
                let rows: Vec<Vec<String>> = all.iter().map(shown).collect();
                let titles = ["Endpoint", "Health", "Took", "Error"];
                self.out.write_all(table(&titles, &rows).as_bytes())?;
            }
        }
        self.out.flush()
    }
}

fn hash_cells(endpoint: &str, answer: &api::HashKvResponse) -> Vec<String> {
    vec![
        endpoint.to_owned(),
        answer.hash.to_string(),
        answer.hash_revision.to_string(),
    ]
}

fn hash_rows(endpoint: &str, answer: &api::HashKvResponse, hex: bool) -> Rows {
    let mut rows = header_rows(&answer.header, hex);
    row(&mut rows, "Endpoint", quoted(endpoint.as_bytes()));
    row(&mut rows, "Hash", answer.hash);
    row(&mut rows, "HashRevision", answer.hash_revision);
    rows
}

const STATUS_TITLES: [&str; 16] = [
    "Endpoint",
    "ID",
    "Version",
    "Storage Version",
    "DB Size",
    "In Use",
    "Percentage Not In Use",
    "Quota",
    "Is Leader",
    "Is Learner",
    "Raft Term",
    "Raft Index",
    "Raft Applied Index",
    "Errors",
    "Downgrade Target Version",
    "Downgrade Enabled",
];

fn status_cells(endpoint: &str, answer: &api::StatusResponse) -> Vec<String> {
    let member = answer.header.unwrap_or_default().member_id;
    let free = (answer.db_size - answer.db_size_in_use) as f64 / answer.db_size.max(1) as f64;
    let downgrade = answer.downgrade_info.clone().unwrap_or_default();
    vec![
        endpoint.to_owned(),
        format!("{member:x}"),
        answer.version.clone(),
        answer.storage_version.clone(),
        size(answer.db_size),
        size(answer.db_size_in_use),
        format!("{:.0}%", free * 100.0),
        size(answer.db_size_quota),
        (answer.leader == member).to_string(),
        answer.is_learner.to_string(),
        answer.raft_term.to_string(),
        answer.raft_index.to_string(),
        answer.raft_applied_index.to_string(),
        answer.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

fn status_rows(endpoint: &str, answer: &api::StatusResponse, hex: bool) -> Rows {
    let mut rows = header_rows(&answer.header, hex);
    let downgrade = answer.downgrade_info.clone().unwrap_or_default();
    row(&mut rows, "Version", quoted(answer.version.as_bytes()));
    row(
        &mut rows,
        "StorageVersion",
        quoted(answer.storage_version.as_bytes()),
    );
    row(&mut rows, "DBSize", answer.db_size);
    row(&mut rows, "DBSizeInUse", answer.db_size_in_use);
    row(&mut rows, "DBSizeQuota", answer.db_size_quota);
    row(&mut rows, "Leader", answer.leader);
    row(&mut rows, "IsLearner", answer.is_learner);
    row(&mut rows, "RaftIndex", answer.raft_index);
    row(&mut rows, "RaftTerm", answer.raft_term);
    row(&mut rows, "RaftAppliedIndex", answer.raft_applied_index);
    row(
        &mut rows,
        "Errors",
        format!("[{}]", answer.errors.join(" ")),
    );
    row(&mut rows, "Endpoint", quoted(endpoint.as_bytes()));
    row(
        &mut rows,
        "DowngradeTargetVersion",
        quoted(downgrade.target_version.as_bytes()),
    );
    row(&mut rows, "DowngradeEnabled", downgrade.enabled);
    rows
}
