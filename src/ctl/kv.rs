//! Driver. `get`, `put`, `del`, `txn`, `compaction`.

use super::args::Parsed;
use super::print::{Format, Printer};
use super::{CtlError, EXIT_ARGS, EXIT_ERROR, Verb, connect, ops};
use crate::pb::etcdserverpb::{CompactionRequest, RangeResponse};
use std::io::{IsTerminal, Read, stdin};
use std::time::Duration;

pub(super) async fn get(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    let request = ops::range(parsed)?;
    if request.count_only && printer.format == Format::Simple {
        return Err(CtlError::new(
            "--count-only is only for `--write-out=fields`",
            EXIT_ARGS,
        ));
    }
    printer.values_only = parsed.bool("print-value-only");
    if printer.values_only && printer.format != Format::Simple {
        return Err(CtlError::new(
            "print-value-only is only for `--write-out=simple`",
            EXIT_ARGS,
        ));
    }
    let client = connect(parsed).await?;
    let answer = if parsed.bool("stream") {
        let mut kv = client.kv();
        let mut parts = client.call(kv.range_stream(request)).await?;
        let mut whole = RangeResponse::default();
        while let Some(part) = client
            .call(async { Ok(tonic::Response::new(parts.message().await?)) })
            .await?
        {
            let Some(part) = part.range_response else {
                continue;
            };
            whole.header = part.header.or(whole.header);
            whole.kvs.extend(part.kvs);
            whole.more |= part.more;
            whole.count = whole.count.max(part.count);
        }
        whole
    } else {
        client.call(client.kv().range(request)).await?
    };
    Ok(printer.range(&answer)?)
}

pub(super) async fn put(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    let request = ops::put(parsed, || {
        // An empty stdin is no value: a script that forgot it must not store nothing.
        let mut value = Vec::new();
        if stdin().is_terminal() || stdin().read_to_end(&mut value).is_err() {
            return None;
        }
        (!value.is_empty()).then_some(value)
    })?;
    let client = connect(parsed).await?;
    let answer = client.call(client.kv().put(request)).await?;
    Ok(printer.put(&answer)?)
}

pub(super) async fn del(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    let request = ops::delete(parsed)?;
    if parsed.args.len() > 1 && !parsed.bool("range") {
        eprintln!(
            "Warning: Keys between {} and {} will be deleted. Please interrupt the command within \
             next 2 seconds to cancel. You can provide `--range` flag to avoid the delay.",
            super::text::quoted(&request.key),
            super::text::quoted(&request.range_end)
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let client = connect(parsed).await?;
    let answer = client.call(client.kv().delete_range(request)).await?;
    Ok(printer.delete(&answer)?)
}

pub(super) async fn txn(parsed: &Parsed<Verb>, printer: &mut Printer) -> Result<(), CtlError> {
    if !parsed.args.is_empty() {
        return Err(CtlError::new(
            "txn command does not accept argument",
            EXIT_ARGS,
        ));
    }
    let interactive = parsed.bool("interactive");
    let lines = stdin().lines().map_while(Result::ok);
    let request = ops::txn(lines, |title| {
        if interactive {
            println!("{title}");
        }
    })?;
    let client = connect(parsed).await?;
    let answer = client.call(client.kv().txn(request)).await?;
    Ok(printer.txn(&answer)?)
}

pub(super) async fn compaction(
    parsed: &Parsed<Verb>,
    printer: &mut Printer,
) -> Result<(), CtlError> {
    let [text] = parsed.args.as_slice() else {
        return Err(CtlError::new(
            "compaction command needs 1 argument",
            EXIT_ARGS,
        ));
    };
    let text = String::from_utf8_lossy(text);
    let revision: i64 = text.parse().map_err(|_| {
        CtlError::new(
            format!("strconv.ParseInt: parsing {text:?}: invalid syntax"),
            EXIT_ERROR,
        )
    })?;
    let request = CompactionRequest {
        revision,
        physical: parsed.bool("physical"),
    };
    let client = connect(parsed).await?;
    client.call(client.kv().compact(request)).await?;
    Ok(printer.notice(&format!("compacted revision {revision}"))?)
}
