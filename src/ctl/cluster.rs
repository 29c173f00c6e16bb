//! Driver. `member`, `endpoint`, `alarm`, `defrag`, `move-leader`, `snapshot save`.

use super::args::Parsed;
use super::print::{Format, Health, Printer};
use super::text::duration;
use super::{CtlError, EXIT_ARGS, EXIT_ERROR, EXIT_FEATURE, EXIT_INTERRUPTED, Verb};
use super::{connect, connect_options};
use crate::client::{Client, ClientError, ConnectOptions};
use crate::pb::etcdserverpb::{
    AlarmRequest, DefragmentRequest, HashKvRequest, Member, MemberAddRequest, MemberListRequest,
    MemberListResponse, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
    MoveLeaderRequest, RangeRequest, SnapshotRequest, StatusRequest, alarm_request::AlarmAction,
};
use std::io::Write;
use std::time::Instant;

fn member_argument(parsed: &Parsed<Verb>, missing: &str) -> Result<u64, CtlError> {
    let [text] = parsed.args.as_slice() else {
        return Err(CtlError::new(missing, EXIT_ARGS));
    };
    let text = String::from_utf8_lossy(text);
    u64::from_str_radix(&text, 16).map_err(|_| {
        let text = format!(
            "bad member ID arg (strconv.ParseUint: parsing {text:?}: invalid syntax), expecting \
             ID in Hex"
        );
        CtlError::new(text, EXIT_ARGS)
    })
}

fn peer_urls(parsed: &Parsed<Verb>) -> Result<Vec<String>, CtlError> {
    match parsed.text("peer-urls") {
        "" => Err(CtlError::new("member peer urls not provided", EXIT_ARGS)),
        urls => Ok(urls.split(',').map(str::to_owned).collect()),
    }
}

pub(super) async fn member_add(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let [name] = parsed.args.as_slice() else {
        return Err(CtlError::new("member name not provided", EXIT_ARGS));
    };
    let name = String::from_utf8_lossy(name).into_owned();
    let request = MemberAddRequest {
        peer_urls: peer_urls(parsed)?,
        is_learner: parsed.bool("learner"),
    };
    let client = connect(parsed).await?;
    let answer = client.call(client.cluster().member_add(request)).await?;
    let added = answer.member.clone().unwrap_or_default();
    let cluster = answer.header.unwrap_or_default().cluster_id;
    let kind = if added.is_learner {
        "added as learner"
    } else {
        "added"
    };
    let text = format!("Member {:16x} {kind} to cluster {cluster:16x}", added.id);
    printer.done(&answer, &answer.header, &text)?;
    if printer.format == Format::Simple {
        let pairs = answer.members.iter().flat_map(|member: &Member| {
            let shown = if member.id == added.id {
                &name
            } else {
                &member.name
            };
            member
                .peer_urls
                .iter()
                .map(move |url| format!("{shown}={url}"))
        });
        let pairs: Vec<String> = pairs.collect();
        printer.notice("")?;
        printer.notice(&format!("ETCD_NAME={name:?}"))?;
        printer.notice(&format!("ETCD_INITIAL_CLUSTER={:?}", pairs.join(",")))?;
        let urls = added.peer_urls.join(",");
        printer.notice(&format!("ETCD_INITIAL_ADVERTISE_PEER_URLS={urls:?}"))?;
        printer.notice("ETCD_INITIAL_CLUSTER_STATE=\"existing\"")?;
    }
    Ok(())
}

pub(super) async fn member_remove(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let id = member_argument(parsed, "member ID is not provided")?;
    let client = connect(parsed).await?;
    let answer = client
        .call(client.cluster().member_remove(MemberRemoveRequest { id }))
        .await?;
    let cluster = answer.header.unwrap_or_default().cluster_id;
    let text = format!("Member {id:16x} removed from cluster {cluster:16x}");
    Ok(printer.done(&answer, &answer.header, &text)?)
}

pub(super) async fn member_update(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let id = member_argument(parsed, "member ID is not provided")?;
    let request = MemberUpdateRequest {
        id,
        peer_urls: peer_urls(parsed)?,
    };
    let client = connect(parsed).await?;
    let answer = client.call(client.cluster().member_update(request)).await?;
    let cluster = answer.header.unwrap_or_default().cluster_id;
    let text = format!("Member {id:16x} updated in cluster {cluster:16x}");
    Ok(printer.done(&answer, &answer.header, &text)?)
}

pub(super) async fn member_promote(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let id = member_argument(parsed, "member ID is not provided")?;
    let client = connect(parsed).await?;
    let answer = client
        .call(client.cluster().member_promote(MemberPromoteRequest { id }))
        .await?;
    let cluster = answer.header.unwrap_or_default().cluster_id;
    let text = format!("Member {id:16x} promoted in cluster {cluster:16x}");
    Ok(printer.done(&answer, &answer.header, &text)?)
}

pub(super) async fn member_list(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let linearizable = match parsed.text("consistency") {
        "l" => true,
        "s" => false,
        other => {
            let text = format!("unknown consistency flag {other:?}");
            return Err(CtlError::new(text, EXIT_FEATURE));
        }
    };
    Ok(printer.members(&members(parsed, linearizable).await?)?)
}

async fn members(
    parsed: &Parsed<Verb>,
    linearizable: bool,
) -> Result<MemberListResponse, CtlError> {
    let client = connect(parsed).await?;
    Ok(client
        .call(
            client
                .cluster()
                .member_list(MemberListRequest { linearizable }),
        )
        .await?)
}

/// The endpoints to ask one by one: those of the flag, or of all members with `--cluster`.
async fn endpoints(parsed: &Parsed<Verb>) -> Result<Vec<ConnectOptions>, CtlError> {
    let options = connect_options(parsed)?;
    let endpoints = match parsed.bool("cluster") {
        false => options.endpoints.clone(),
        true => {
            let list = members(parsed, true).await.map_err(|error| {
                CtlError::new(
                    format!("failed to fetch endpoints from etcd cluster member list: {error}"),
                    EXIT_ERROR,
                )
            })?;
            list.members
                .into_iter()
                .flat_map(|member| member.client_urls)
                .collect()
        }
    };
    let one = |endpoint| ConnectOptions {
        endpoints: vec![endpoint],
        ..options.clone()
    };
    Ok(endpoints.into_iter().map(one).collect())
}

pub(super) async fn endpoint_health(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let mut tasks = tokio::task::JoinSet::new();
    for options in endpoints(parsed).await? {
        tasks.spawn(async move {
            let endpoint = options.endpoints.concat();
            let start = Instant::now();
            let result = check_health(&options).await;
            let error = result
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            Health {
                endpoint,
                took: start.elapsed(),
                error,
            }
        });
    }
    let all = tasks.join_all().await;
    printer.health(&all)?;
    match all.iter().all(|health| health.error.is_empty()) {
        true => Ok(()),
        false => Err(CtlError::new("unhealthy cluster", EXIT_ERROR)),
    }
}

/// Reads a key through the quorum, then looks for alarms. A refused permission is good health: the
/// question went through.
async fn check_health(options: &ConnectOptions) -> Result<(), CtlError> {
    let client = Client::connect(options).await?;
    let request = RangeRequest {
        key: "health".into(),
        ..RangeRequest::default()
    };
    match client.call(client.kv().range(request)).await {
        Ok(_) => {}
        Err(ClientError::Status(status)) if status.code() == tonic::Code::PermissionDenied => {}
        Err(error) => return Err(error.into()),
    }
    let answer = client
        .call(client.maintenance().alarm(AlarmRequest::default()))
        .await;
    let alarms = match answer {
        Ok(answer) => answer.alarms,
        Err(error) => {
            let text = format!("Unable to fetch the alarm list: {error}");
            return Err(CtlError::new(text, EXIT_ERROR));
        }
    };
    if alarms.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = alarms
        .iter()
        .map(|alarm| alarm.alarm().as_str_name())
        .collect();
    Err(CtlError::new(
        format!("Active Alarm(s): {}", names.join(" ")),
        EXIT_ERROR,
    ))
}

/// Asks each endpoint by itself. What fails is told at once, with `what` it was, and given back.
async fn ask_each<T>(
    parsed: &Parsed<Verb>,
    what: &str,
    ask: impl AsyncFn(Client) -> Result<T, ClientError>,
) -> Result<(Vec<(String, T)>, Option<ClientError>), CtlError> {
    let (mut answers, mut failure) = (Vec::new(), None);
    for options in endpoints(parsed).await? {
        let endpoint = options.endpoints.concat();
        let answer = async { ask(Client::connect(&options).await?).await };
        match answer.await {
            Ok(answer) => answers.push((endpoint, answer)),
            Err(error) => {
                eprintln!("Failed to get the {what} of endpoint {endpoint} ({error})");
                failure = Some(error);
            }
        }
    }
    Ok((answers, failure))
}

pub(super) async fn endpoint_status(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let ask = async |client: Client| {
        let request = StatusRequest {};
        client.call(client.maintenance().status(request)).await
    };
    let (answers, failure) = ask_each(parsed, "status", ask).await?;
    printer.statuses(&answers)?;
    // What failed is said already.
    failure.map_or(Ok(()), |_| Err(CtlError::new("", EXIT_ERROR)))
}

pub(super) async fn endpoint_hash_kv(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let revision = parsed.int("rev");
    let ask = async |client: Client| {
        let request = HashKvRequest { revision };
        client.call(client.maintenance().hash_kv(request)).await
    };
    let (answers, failure) = ask_each(parsed, "hash", ask).await?;
    printer.hashes(&answers)?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

pub(super) async fn alarm(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
    disarm: bool,
) -> Result<(), CtlError> {
    let client = connect(parsed).await?;
    let list = client
        .call(client.maintenance().alarm(AlarmRequest::default()))
        .await?;
    if !disarm {
        return Ok(printer.alarms(&list)?);
    }
    let mut gone = crate::pb::etcdserverpb::AlarmResponse::default();
    for alarm in list.alarms {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        let answer = client.call(client.maintenance().alarm(request)).await?;
        gone.alarms.extend(answer.alarms);
    }
    Ok(printer.alarms(&gone)?)
}

pub(super) async fn defrag(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    let mut failed = false;
    for options in endpoints(parsed).await? {
        let endpoint = options.endpoints.concat();
        let start = Instant::now();
        let result = async {
            let client = Client::connect(&options).await?;
            client
                .call(client.maintenance().defragment(DefragmentRequest {}))
                .await
        };
        let result = result.await;
        let took = duration(start.elapsed());
        match result {
            Ok(_) => {
                printer.notice(&format!(
                    "Finished defragmenting etcd member[{endpoint}]. took {took}"
                ))?;
            }
            Err(error) => {
                failed = true;
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({error})");
            }
        }
    }
    if failed {
        Err(CtlError::new("", EXIT_ERROR))
    } else {
        Ok(())
    }
}

pub(super) async fn move_leader(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let missing = "move-leader command needs 1 argument";
    let target_id = member_argument(parsed, missing).map_err(|error| {
        // etcdctl words this one by itself.
        let text = error
            .text
            .replace("bad member ID arg (", "")
            .replace("), expecting ID in Hex", "");
        CtlError::new(text, error.code)
    })?;
    // Only the leader can hand over: ask each endpoint until one says that it leads.
    for options in endpoints_plain(parsed)? {
        let client = Client::connect(&options).await?;
        let status = client
            .call(client.maintenance().status(StatusRequest {}))
            .await?;
        let member = status.header.unwrap_or_default().member_id;
        if status.leader == member {
            let request = MoveLeaderRequest { target_id };
            client
                .call(client.maintenance().move_leader(request))
                .await?;
            let text = format!("Leadership transferred from {member:016x} to {target_id:016x}");
            return Ok(printer.notice(&text)?);
        }
    }
    let all = parsed.list("endpoints").join(" ");
    Err(CtlError::new(
        format!("no leader endpoint given at [{all}]"),
        EXIT_ARGS,
    ))
}

fn endpoints_plain(parsed: &Parsed<Verb>) -> Result<Vec<ConnectOptions>, CtlError> {
    let options = connect_options(parsed)?;
    let one = |endpoint: &String| ConnectOptions {
        endpoints: vec![endpoint.clone()],
        ..options.clone()
    };
    Ok(options.endpoints.iter().map(one).collect())
}

pub(super) async fn snapshot_save(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let [path] = parsed.args.as_slice() else {
        let text = "snapshot save expects one argument <filename>";
        return Err(CtlError::new(text, EXIT_ARGS));
    };
    let path = String::from_utf8_lossy(path).into_owned();
    let mut options = connect_options(parsed)?;
    // A large snapshot takes its time, unless the user limits it.
    if !parsed.given("command-timeout") {
        options.command_timeout = None;
    }
    if options.endpoints.len() != 1 {
        let text = "snapshot must be requested to one selected node, not multiple";
        return Err(CtlError::new(text, EXIT_ARGS));
    }
    let part = format!("{path}.part");
    let result = async {
        let client = Client::connect(&options).await?;
        let mut service = client.maintenance();
        let mut blobs = client.call(service.snapshot(SnapshotRequest {})).await?;
        let mut file = std::fs::File::create(&part)?;
        let mut version = String::new();
        while let Some(blob) = blobs.message().await.map_err(ClientError::from)? {
            file.write_all(&blob.blob)?;
            if !blob.version.is_empty() {
                version = blob.version;
            }
        }
        // Synced before it takes its name: a snapshot that has a name is whole.
        file.sync_all()?;
        std::fs::rename(&part, &path)?;
        Ok::<String, CtlError>(version)
    };
    let version = result
        .await
        .map_err(|error| CtlError::new(error.text, EXIT_INTERRUPTED))?;
    printer.notice(&format!("Snapshot saved at {path}"))?;
    if !version.is_empty() {
        printer.notice(&format!("Server version {version}"))?;
    }
    Ok(())
}
