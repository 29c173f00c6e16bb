//! Driver. `watch`: prints events as they come, and may run a command for each.

use super::args::Parsed;
use super::lease::ReceiverStream;
use super::ops::prefix_end;
use super::print::Printer;
use super::text::quoted;
use super::{CtlError, EXIT_ARGS, EXIT_INTERRUPTED, Verb, connect};
use crate::client::ClientError;
use crate::pb::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use crate::pb::mvccpb::event::EventType;
use bytes::Bytes;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

pub(super) async fn watch(
    parsed: &Parsed<Verb>,
    environment: &[(String, String)],
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let (keys, command) = match parsed.args.iter().position(|argument| argument == b"--") {
        Some(mark) => (&parsed.args[..mark], &parsed.args[mark + 1..]),
        None => (&parsed.args[..], &[][..]),
    };
    let variable = |name: &str| {
        let found = environment.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_bytes().to_vec())
            .filter(|value| !value.is_empty())
    };
    let mut keys = keys.to_vec();
    if keys.is_empty()
        && let Some(key) = variable("ETCDCTL_WATCH_KEY")
    {
        keys = [Some(key), variable("ETCDCTL_WATCH_RANGE_END")]
            .into_iter()
            .flatten()
            .collect();
    }
    let wrong = || CtlError::new("bad number of arguments", EXIT_ARGS);
    let (key, end) = match keys.as_slice() {
        [key] => (key, None),
        [key, end] if !parsed.bool("prefix") => (key, Some(end)),
        [_, _] => {
            let text = "`range_end` and `--prefix` are mutually exclusive";
            return Err(CtlError::new(text, EXIT_ARGS));
        }
        _ => return Err(wrong()),
    };
    let prefix = parsed.bool("prefix");
    let create = WatchCreateRequest {
        key: match key.is_empty() && prefix {
            true => Bytes::from_static(&[0]),
            false => Bytes::copy_from_slice(key),
        },
        range_end: match end {
            Some(end) => Bytes::copy_from_slice(end),
            None if prefix => prefix_end(key),
            None => Bytes::new(),
        },
        start_revision: parsed.int("rev"),
        progress_notify: parsed.bool("progress-notify"),
        prev_kv: parsed.bool("prev-kv"),
        // Whole revisions are put together below, whatever their size.
        fragment: true,
        ..WatchCreateRequest::default()
    };
    let client = connect(parsed).await?.require_leader();
    // The sender is kept: the server takes the end of the requests for the end of the watch.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let _ = sender.send(request).await;
    let mut service = client.watch();
    let mut answers = client.call(service.watch(ReceiverStream(receiver))).await?;
    let mut parts: Option<WatchResponse> = None;
    loop {
        let next = answers
            .message()
            .await
            .map_err(|status| CtlError::from(ClientError::from(status)))?;
        let Some(answer) = next else { break };
        if answer.created && !answer.canceled {
            continue;
        }
        if answer.fragment {
            match &mut parts {
                Some(whole) => whole.events.extend(answer.events),
                None => parts = Some(answer),
            }
            continue;
        }
        let mut answer = match parts.take() {
            Some(mut whole) => {
                whole.events.extend(answer.events);
                whole.fragment = false;
                whole
            }
            None => answer,
        };
        if answer.canceled {
            answer.created = false;
            let reason = match (answer.compact_revision, answer.cancel_reason.as_str()) {
                (0, reason) => reason,
                _ => "etcdserver: mvcc: required revision has been compacted",
            };
            eprintln!("watch was canceled ({reason})");
            printer.watch(&answer)?;
            break;
        }
        if answer.events.is_empty() {
            let revision = answer.header.unwrap_or_default().revision;
            printer.notice(&format!("progress notify: {revision}"))?;
            continue;
        }
        printer.watch(&answer)?;
        if !command.is_empty() {
            run_commands(command, &answer)?;
        }
    }
    Err(CtlError::new(
        "watch is canceled by the server",
        EXIT_INTERRUPTED,
    ))
}

/// Runs the command once per event, with the event in its environment.
fn run_commands(command: &[Vec<u8>], answer: &WatchResponse) -> Result<(), CtlError> {
    let revision = answer.header.unwrap_or_default().revision.to_string();
    for event in &answer.events {
        let kv = event.kv.clone().unwrap_or_default();
        let kind = match event.r#type() {
            EventType::Put => "PUT",
            EventType::Delete => "DELETE",
        };
        let status = Command::new(OsStr::from_bytes(&command[0]))
            .args(
                command[1..]
                    .iter()
                    .map(|argument| OsStr::from_bytes(argument)),
            )
            .env("ETCD_WATCH_REVISION", &revision)
            .env("ETCD_WATCH_EVENT_TYPE", quoted(kind.as_bytes()))
            .env("ETCD_WATCH_KEY", quoted(&kv.key))
            .env("ETCD_WATCH_VALUE", quoted(&kv.value))
            .status();
        if let Err(error) = status {
            let name = String::from_utf8_lossy(&command[0]);
            return Err(CtlError::new(
                format!("command {name:?} error ({error})"),
                1,
            ));
        }
    }
    Ok(())
}
