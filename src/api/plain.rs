//! Driver. The plain HTTP paths of the client port: health, version, metrics.

use super::conn::Conn;
use super::desk::Desk;
use crate::env::Env;
use crate::group::{Answer, Query};
use crate::http2::Head;
use crate::ids::StreamId;
use crate::metrics::ProcessFacts;
use crate::mvcc::{RangeScan, RangeSpec};
use bytes::Bytes;
use std::rc::Rc;

/// A request, from HTTP/1 or HTTP/2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainRequest {
    pub method: String,
    pub path: String,
    /// Decoded pairs.
    pub query: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainAnswer {
    pub status: u16,
    pub content_type: &'static str,
    /// A further header.
    pub extra: Option<(&'static str, &'static str)>,
    pub body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl PlainAnswer {
    fn text(status: u16, body: impl Into<String>) -> PlainAnswer {
        PlainAnswer {
            status,
            content_type: TEXT,
            extra: None,
            body: body.into(),
        }
    }

    /// The header fields, names in lower case.
    pub fn fields(&self) -> Vec<(&'static str, &'static str)> {
        let mut fields = vec![("content-type", self.content_type)];
        fields.extend(self.extra);
        fields
    }
}

impl PlainRequest {
    fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.query
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    fn has(&self, key: &str) -> bool {
        self.query.iter().any(|(name, _)| name == key)
    }
}

/// A check of `/livez` or `/readyz`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Check {
    SerializableRead,
    LinearizableRead,
    DataCorruption,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::DataCorruption => "data_corruption",
            Check::NonLearner => "non_learner",
        }
    }
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

impl<E: Env> Desk<E> {
    /// A plain request that came over HTTP/2.
    pub(super) fn plain_over_http2(
        &self,
        conn: &Rc<Conn>,
        stream: StreamId,
        head: &Head,
        _body: Bytes,
    ) {
        let target = String::from_utf8_lossy(head.path()).into_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let request = PlainRequest {
            method: String::from_utf8_lossy(head.method()).into_owned(),
            path: path.to_owned(),
            query: crate::http1::query_pairs(query),
        };
        let (desk, conn) = (self.clone(), conn.clone());
        self.shared.env.spawn(async move {
            let answer = desk.plain(&request).await;
            let body = answer.body.as_bytes();
            conn.grpc
                .borrow_mut()
                .plain_reply(stream, answer.status, &answer.fields(), body);
            conn.flush.notify();
        });
    }

    /// Answers a plain request.
    pub async fn plain(&self, request: &PlainRequest) -> PlainAnswer {
        let path = request.path.trim_end_matches('/');
        let known = matches!(path, "/health" | "/version" | "/metrics")
            || path.starts_with("/livez")
            || path.starts_with("/readyz");
        if !known {
            return PlainAnswer::text(404, "404 page not found\n");
        }
        if request.method != "GET" && !(request.method == "HEAD" && path == "/metrics") {
            let mut answer = PlainAnswer::text(405, "Method Not Allowed\n");
            answer.extra = Some(("allow", "GET"));
            return answer;
        }
        match path {
            "/health" => self.health_answer(request).await,
            "/version" => self.version_answer(),
            "/metrics" => PlainAnswer {
                status: 200,
                content_type: "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                extra: None,
                body: self.shared.all_metrics.encode(&ProcessFacts::read()),
            },
            _ => match path.strip_prefix("/livez") {
                Some(rest) => self.checks(request, "livez", rest, LIVEZ).await,
                None => {
                    let rest = path.strip_prefix("/readyz").unwrap_or_default();
                    self.checks(request, "readyz", rest, READYZ).await
                }
            },
        }
    }

    fn version_answer(&self) -> PlainAnswer {
        let facts = &self.shared.facts;
        let body = format!(
            "{{\"etcdserver\":\"{}\",\"etcdcluster\":\"{}\",\"storage\":\"{}\"}}",
            facts.version, facts.cluster_version, facts.cluster_version
        );
        PlainAnswer {
            status: 200,
            content_type: "application/json",
            extra: None,
            body,
        }
    }

    /// Alarms first, then the leader, then a read.
    async fn health_answer(&self, request: &PlainRequest) -> PlainAnswer {
        let serializable = request.values("serializable").any(|value| value == "true");
        let reason = self.unhealthy(request, serializable).await;
        let metrics = &self.shared.metrics;
        let (status, health) = match &reason {
            None => (200, "true"),
            Some(_) => (503, "false"),
        };
        match &reason {
            None => metrics.health_success.inc(),
            Some(_) => metrics.health_failures.inc(),
        }
        let reason = reason.unwrap_or_default();
        let body = serde_json::json!({ "health": health, "reason": reason });
        PlainAnswer::text(status, body.to_string())
    }

    async fn unhealthy(&self, request: &PlainRequest, serializable: bool) -> Option<String> {
        let status = match self.ask(Query::Status).await {
            Answer::Status(status) => status,
            _ => return Some("RAFT NO LEADER".into()),
        };
        for raised in &status.alarms {
            let excluded = request.values("exclude").any(|name| name == raised.name());
            if !excluded {
                return Some(format!("ALARM {}", raised.name()));
            }
        }
        if !serializable && status.leader == 0 {
            return Some("RAFT NO LEADER".into());
        }
        self.probe(!serializable)
            .await
            .err()
            .map(|error| format!("RANGE ERROR:{error}"))
    }

    /// Reads one key, as a client would.
    async fn probe(&self, linearizable: bool) -> Result<(), String> {
        let (view, _) = self
            .view(linearizable)
            .await
            .map_err(|error| error.to_string())?;
        let spec = RangeSpec::single(Bytes::from_static(b"health"));
        let mut scan = RangeScan::new(view, spec).map_err(|error| error.to_string())?;
        let mut found: Vec<Bytes> = Vec::new();
        scan.slice(1, &mut found)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    async fn run_check(&self, check: Check) -> Result<(), String> {
        match check {
            Check::SerializableRead => self.probe(false).await,
            Check::LinearizableRead => self.probe(true).await,
            Check::NonLearner => Ok(()),
            Check::DataCorruption => match self.ask(Query::Status).await {
                Answer::Status(status) => {
                    let corrupt = |raised: &crate::apply::Alarm| raised.name() == "CORRUPT";
                    match status.alarms.iter().any(corrupt) {
                        true => Err("alarm activated: CORRUPT".into()),
                        false => Ok(()),
                    }
                }
                _ => Err("the group has stopped".into()),
            },
        }
    }

    /// `/livez`, `/readyz`, and their single checks.
    async fn checks(
        &self,
        request: &PlainRequest,
        kind: &'static str,
        rest: &str,
        all: &[Check],
    ) -> PlainAnswer {
        let wanted: Vec<Check> = match rest.strip_prefix('/') {
            None if rest.is_empty() => all.to_vec(),
            Some(name) => match all.iter().find(|check| check.name() == name) {
                Some(check) => vec![*check],
                None => return PlainAnswer::text(404, "404 page not found\n"),
            },
            None => return PlainAnswer::text(404, "404 page not found\n"),
        };
        let whole = rest.is_empty();
        let mut lines = String::new();
        let mut failed = false;
        for check in wanted {
            let name = check.name();
            if whole && request.values("exclude").any(|excluded| excluded == name) {
                lines.push_str(&format!("[+]{name} excluded: ok\n"));
                continue;
            }
            let result = self.run_check(check).await;
            self.shared
                .all_metrics
                .count_check(kind, name, result.is_ok());
            match result {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(error) => {
                    failed = true;
                    lines.push_str(&format!("[-]{name} failed: {error}\n"));
                }
            }
        }
        if failed {
            return PlainAnswer::text(503, format!("{lines}{kind} check failed\n"));
        }
        if request.has("verbose") {
            return PlainAnswer::text(200, format!("{lines}ok\n"));
        }
        PlainAnswer::text(200, "ok\n")
    }
}
