//! Driver. `lease grant`, `revoke`, `timetolive`, `list`, `keep-alive`.

use super::args::Parsed;
use super::print::Printer;
use super::{CtlError, EXIT_ARGS, EXIT_CONNECTION, EXIT_ERROR, Verb, connect, ops};
use crate::client::ClientError;
use crate::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};
use std::time::Duration;

fn connection(error: ClientError) -> CtlError {
    CtlError::new(error.to_string(), EXIT_CONNECTION)
}

fn lease_argument(parsed: &Parsed<Verb>, missing: &str) -> Result<i64, CtlError> {
    match parsed.args.as_slice() {
        [id] => ops::lease_id(&String::from_utf8_lossy(id), "bad lease ID arg"),
        _ => Err(CtlError::new(missing, EXIT_ARGS)),
    }
}

pub(super) async fn grant(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    let [ttl] = parsed.args.as_slice() else {
        return Err(CtlError::new(
            "lease grant command needs TTL argument",
            EXIT_ARGS,
        ));
    };
    let text = String::from_utf8_lossy(ttl);
    let ttl: i64 = text.parse().map_err(|_| {
        let text = format!("bad TTL (strconv.ParseInt: parsing {text:?}: invalid syntax)");
        CtlError::new(text, EXIT_ARGS)
    })?;
    let client = connect(parsed).await?;
    let request = LeaseGrantRequest { ttl, id: 0 };
    let answer = client
        .call(client.lease().lease_grant(request))
        .await
        .map_err(|error| CtlError::new(format!("failed to grant lease ({error})"), EXIT_ERROR))?;
    Ok(printer.lease_grant(&answer)?)
}

pub(super) async fn revoke(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    let id = lease_argument(parsed, "lease revoke command needs 1 argument")?;
    let client = connect(parsed).await?;
    let call = client
        .call(client.lease().lease_revoke(LeaseRevokeRequest { id }))
        .await;
    let answer = call
        .map_err(|error| CtlError::new(format!("failed to revoke lease ({error})"), EXIT_ERROR))?;
    Ok(printer.lease_revoke(id, &answer)?)
}

pub(super) async fn time_to_live(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let id = lease_argument(
        parsed,
        "lease timetolive command needs lease ID as argument",
    )?;
    let client = connect(parsed).await?;
    let keys = parsed.bool("keys");
    let request = LeaseTimeToLiveRequest { id, keys };
    let call = client
        .call(client.lease().lease_time_to_live(request))
        .await;
    Ok(printer.time_to_live(&call.map_err(connection)?, keys)?)
}

pub(super) async fn list(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    let client = connect(parsed).await?;
    let call = client
        .call(client.lease().lease_leases(LeaseLeasesRequest {}))
        .await;
    Ok(printer.leases(&call.map_err(connection)?)?)
}

pub(super) async fn keep_alive(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let id = lease_argument(
        parsed,
        "lease keep-alive command needs lease ID as argument",
    )?;
    let once = parsed.bool("once");
    let client = connect(parsed).await?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let requests = ReceiverStream(receiver);
    let ask = || async {
        let _ = sender.send(LeaseKeepAliveRequest { id }).await;
    };
    ask().await;
    let mut lease = client.lease();
    let mut answers = client
        .call(lease.lease_keep_alive(requests))
        .await
        .map_err(connection)?;
    loop {
        let next = answers
            .message()
            .await
            .map_err(|error| connection(error.into()))?;
        match next {
            Some(answer) if answer.ttl > 0 => {
                printer.keep_alive(&answer)?;
                if once {
                    return Ok(());
                }
                // A third of the time leaves two more tries before the lease ends.
                let pause = Duration::from_millis(answer.ttl as u64 * 1000 / 3);
                tokio::time::sleep(pause).await;
                ask().await;
            }
            _ if once => {
                let text = "etcdserver: requested lease not found";
                return Err(CtlError::new(text, EXIT_CONNECTION));
            }
            _ => {
                printer.notice(&format!("lease {id:016x} expired or revoked."))?;
                return Ok(());
            }
        }
    }
}

/// A channel's end as a stream of requests.
pub(super) struct ReceiverStream<T>(pub(super) tokio::sync::mpsc::Receiver<T>);

impl<T> tonic::codegen::tokio_stream::Stream for ReceiverStream<T> {
    type Item = T;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}
