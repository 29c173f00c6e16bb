//! Pure. Commands on keys as requests: what `get`, `put`, `del` and the blocks of `txn` mean.

use super::args::{ArgsError, Parsed, split_words, unquote_prefix};
use super::{CtlError, EXIT_ARGS, EXIT_FEATURE, EXIT_INPUT, GRAMMAR, Verb};
use crate::pb::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare,
    range_request, request_op,
};
use bytes::Bytes;

fn wrong(text: impl Into<String>) -> CtlError {
    CtlError {
        text: text.into(),
        code: EXIT_ARGS,
    }
}

fn feature(text: String) -> CtlError {
    CtlError {
        text,
        code: EXIT_FEATURE,
    }
}

/// The first key after every key with this prefix: an empty prefix, or one of 0xff only, has none,
/// which a single zero byte says.
pub(super) fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(&[0]),
    }
}

/// Key and range end from the arguments and `--prefix`, `--from-key`.
fn key_range(parsed: &Parsed<Verb>, name: &str) -> Result<(Bytes, Bytes), CtlError> {
    let (prefix, from) = (parsed.bool("prefix"), parsed.bool("from-key"));
    if prefix && from {
        return Err(wrong(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    let (key, end) = match parsed.args.as_slice() {
        [key] => (key, None),
        [key, end] => (key, Some(end)),
        _ => {
            return Err(wrong(format!(
                "{name} command needs one argument as key and an optional argument as range_end"
            )));
        }
    };
    if end.is_some() && (prefix || from) {
        return Err(wrong(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    // The empty key is no key: with --prefix or --from-key it means all of them.
    let first = match key.is_empty() && (prefix || from) {
        true => Bytes::from_static(&[0]),
        false => Bytes::copy_from_slice(key),
    };
    let end = match end {
        Some(end) => Bytes::copy_from_slice(end),
        None if from => Bytes::from_static(&[0]),
        None if prefix => prefix_end(key),
        None => Bytes::new(),
    };
    Ok((first, end))
}

/// The request of `get`.
pub(super) fn range(parsed: &Parsed<Verb>) -> Result<RangeRequest, CtlError> {
    use range_request::{SortOrder, SortTarget};
    if parsed.bool("keys-only") && parsed.bool("count-only") {
        return Err(wrong(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let (key, range_end) = key_range(parsed, "get")?;
    let serializable = match parsed.text("consistency") {
        "l" => false,
        "s" => true,
        other => return Err(feature(format!("unknown consistency flag {other:?}"))),
    };
    let order = match parsed.text("order").to_ascii_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(feature(format!("bad sort order {}", parsed.text("order")))),
    };
    let target = match parsed.text("sort-by").to_ascii_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => {
            return Err(feature(format!(
                "bad sort target {}",
                parsed.text("sort-by")
            )));
        }
    };
    // Keys come in order by themselves; any other target without an order means ascending.
    let order = match (order, target) {
        (SortOrder::Ascend, SortTarget::Key) => SortOrder::None,
        (SortOrder::None, target) if target != SortTarget::Key => SortOrder::Ascend,
        (order, _) => order,
    };
    Ok(RangeRequest {
        key,
        range_end,
        limit: parsed.int("limit"),
        revision: parsed.int("rev"),
        sort_order: order as i32,
        sort_target: target as i32,
        serializable,
        keys_only: parsed.bool("keys-only"),
        count_only: parsed.bool("count-only"),
        min_mod_revision: parsed.int("min-mod-rev"),
        max_mod_revision: parsed.int("max-mod-rev"),
        min_create_revision: parsed.int("min-create-rev"),
        max_create_revision: parsed.int("max-create-rev"),
    })
}

/// The request of `put`. `stdin` is asked for the value when it is not an argument.
pub(super) fn put(
    parsed: &Parsed<Verb>,
    stdin: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<PutRequest, CtlError> {
    let need = || wrong("put command needs 1 argument and input from stdin or 2 arguments");
    let key = parsed.args.first().ok_or_else(need)?;
    let ignore_value = parsed.bool("ignore-value");
    if ignore_value && parsed.args.len() > 1 {
        return Err(wrong(
            "put command needs only 1 argument when 'ignore-value' is set",
        ));
    }
    let value = match parsed.args.get(1) {
        Some(value) => value.clone(),
        None if ignore_value => Vec::new(),
        None => stdin().ok_or_else(need)?,
    };
    Ok(PutRequest {
        key: Bytes::copy_from_slice(key),
        value: value.into(),
        lease: lease_id(parsed.text("lease"), "bad lease ID")?,
        prev_kv: parsed.bool("prev-kv"),
        ignore_value,
        ignore_lease: parsed.bool("ignore-lease"),
    })
}

/// The request of `del`.
pub(super) fn delete(parsed: &Parsed<Verb>) -> Result<DeleteRangeRequest, CtlError> {
    let (key, range_end) = key_range(parsed, "del")?;
    Ok(DeleteRangeRequest {
        key,
        range_end,
        prev_kv: parsed.bool("prev-kv"),
    })
}

/// A lease id in hexadecimal digits.
pub(super) fn lease_id(text: &str, what: &str) -> Result<i64, CtlError> {
    i64::from_str_radix(text, 16).map_err(|_| {
        wrong(format!(
            "{what} (strconv.ParseInt: parsing {text:?}: invalid syntax), expecting ID in Hex"
        ))
    })
}

/// A transaction from its three blocks of lines; an empty line ends a block. `prompt` is told the
/// title of each block before it is read.
pub(super) fn txn(
    mut lines: impl Iterator<Item = String>,
    mut prompt: impl FnMut(&str),
) -> Result<TxnRequest, CtlError> {
    let mut block = |title: &str| -> Result<Vec<String>, CtlError> {
        prompt(title);
        let mut block = Vec::new();
        loop {
            // The end of the input is not the end of a block: a script cut short must not run.
            let line = lines
                .next()
                .ok_or_else(|| CtlError::new("EOF", EXIT_INPUT))?;
            match line.trim() {
                "" => return Ok(block),
                line => block.push(line.to_owned()),
            }
        }
    };
    let compares = block("compares:")?;
    let compare = compares
        .iter()
        .map(|line| parse_compare(line))
        .collect::<Result<_, _>>()?;
    let success = block("success requests (get, put, del):")?;
    let success = success
        .iter()
        .map(|line| parse_op(line))
        .collect::<Result<_, _>>()?;
    let failure = block("failure requests (get, put, del):")?;
    let failure = failure
        .iter()
        .map(|line| parse_op(line))
        .collect::<Result<_, _>>()?;
    Ok(TxnRequest {
        compare,
        success,
        failure,
    })
}

/// `target("key") op "value"`.
fn parse_compare(line: &str) -> Result<Compare, CtlError> {
    use compare::{CompareResult, CompareTarget, TargetUnion};
    let malformed = |why: &str| CtlError {
        text: format!("malformed comparison: {line}{why}"),
        code: EXIT_INPUT,
    };
    let (target, rest) = line.split_once('(').ok_or_else(|| malformed(""))?;
    let (key, rest) = unquote_prefix(rest.trim_start())
        .ok_or_else(|| malformed(&format!("; got {target}(\"\")  \"\"")))?;
    let rest = rest
        .trim_start()
        .strip_prefix(')')
        .ok_or_else(|| malformed(""))?
        .trim_start();
    let (op, rest) = rest.split_at(rest.find(|c| !"=!<>".contains(c)).unwrap_or(rest.len()));
    let result = match op {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed(&format!(" (unknown operator {op:?})"))),
    };
    let (value, rest) = unquote_prefix(rest.trim_start())
        .ok_or_else(|| malformed(&format!("; got {target}(\"\") {op} \"\"")))?;
    if !rest.trim().is_empty() {
        return Err(malformed(""));
    }
    let text = String::from_utf8_lossy(&value).into_owned();
    let number = |radix: u32| {
        i64::from_str_radix(&text, radix)
            .map_err(|_| malformed(&format!(" (strconv.ParseInt: parsing {text:?})")))
    };
    let (target, union) = match target.trim() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(number(10)?),
        ),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => return Err(malformed(&format!(" (unknown target {other})"))),
    };
    Ok(Compare {
        result: result as i32,
        target: target as i32,
        key: key.into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    })
}

/// `get …`, `put …` or `del …`, with the flags of those commands.
fn parse_op(line: &str) -> Result<RequestOp, CtlError> {
    let invalid = || CtlError {
        text: format!("invalid txn request: {line}"),
        code: EXIT_INPUT,
    };
    let words = split_words(line).ok_or_else(invalid)?;
    let parsed = match GRAMMAR.parse_line(&words, &["get", "put", "del"]) {
        Ok(Some(parsed)) => parsed,
        Ok(None) | Err(ArgsError::Help(_)) => return Err(invalid()),
        Err(ArgsError::Wrong { text, .. }) => {
            return Err(CtlError {
                text,
                code: EXIT_INPUT,
            });
        }
    };
    let request = match parsed.command.verb {
        Verb::Get => request_op::Request::RequestRange(range(&parsed)?),
        Verb::Put => request_op::Request::RequestPut(put(&parsed, || None)?),
        _ => request_op::Request::RequestDeleteRange(delete(&parsed)?),
    };
    Ok(RequestOp {
        request: Some(request),
    })
}
