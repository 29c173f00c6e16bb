use super::args::{split_words, unquote_prefix};
use super::print::Health;
use super::text::{duration, quoted, size, table};
use super::*;
use crate::pb::etcdserverpb::{
    PutResponse, RangeResponse, ResponseHeader, TxnResponse, compare, request_op, response_op,
};
use crate::pb::etcdserverpb::{ResponseOp, range_request};
use crate::pb::mvccpb::KeyValue;
use bytes::Bytes;
use std::time::Duration;

fn parse(arguments: &[&str]) -> Result<Parsed<Verb>, ArgsError> {
    let arguments: Vec<Vec<u8>> = arguments.iter().map(|a| a.as_bytes().to_vec()).collect();
    GRAMMAR.parse(&arguments, &[])
}

fn parsed(arguments: &[&str]) -> Parsed<Verb> {
    parse(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error:?}"))
}

fn wrong(arguments: &[&str]) -> (String, i32) {
    match parse(arguments) {
        Err(ArgsError::Wrong { text, code }) => {
            (text.lines().next().unwrap_or_default().to_owned(), code)
        }
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn printer(format: Format) -> Printer<Vec<u8>> {
    Printer {
        format,
        hex: false,
        values_only: false,
        out: Vec::new(),
    }
}

fn key_value() -> KeyValue {
    KeyValue {
        key: Bytes::from_static(b"n"),
        create_revision: 5,
        mod_revision: 10,
        version: 2,
        value: Bytes::from_static(b"\x01\xff\"\\"),
        lease: 0,
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 7,
        member_id: 9,
        revision,
        raft_term: 2,
    })
}

// Catches a command line that etcdctl takes and this client does not, or takes otherwise.
#[test]
fn command_lines() {
    let get = parsed(&[
        "--endpoints=a:1",
        "get",
        "-w",
        "json",
        "k",
        "--limit",
        "3",
        "-wsimple",
    ]);
    assert_eq!(get.command.verb, Verb::Get);
    assert_eq!((get.int("limit"), get.text("write-out")), (3, "simple"));
    assert_eq!(get.args, [b"k".to_vec()]);
    let twice = parsed(&["--endpoints", "a:1,b:2", "--endpoints=c:3", "version"]);
    assert_eq!(twice.list("endpoints"), ["a:1", "b:2", "c:3"]);
    let dashes = parsed(&["put", "--", "-a", "--b"]);
    assert_eq!(dashes.args, [b"-a".to_vec(), b"--b".to_vec()]);
    assert_eq!(
        parsed(&["endpoint", "healt"]).command.verb,
        Verb::EndpointHealth
    );
    assert_eq!(parsed(&["comp", "5"]).command.verb, Verb::Compaction);
    let watch = parsed(&["watch", "k", "--rev=5", "--", "echo", "-n"]);
    assert_eq!(watch.args.len(), 4);
    assert!(parsed(&["get", "a", "--prefix=false", "--keys-only"]).bool("keys-only"));
    assert_eq!(
        parsed(&["get", "a"]).time("command-timeout"),
        Duration::from_secs(5)
    );

    assert_eq!(
        wrong(&["foo"]),
        ("unknown command \"foo\" for \"ringboltctl\"".into(), 1)
    );
    assert_eq!(wrong(&["--foo"]), ("unknown flag: --foo".into(), 1));
    assert_eq!(wrong(&["put", "--foo"]), ("unknown flag: --foo".into(), 1));
    assert_eq!(
        wrong(&["get", "a", "--command-timeout", "x"]).0,
        "invalid argument \"x\" for \"--command-timeout\" flag: time: invalid duration \"x\""
    );
    for (text, words) in [
        ("1", "time: missing unit in duration \"1\""),
        ("1s2", "time: missing unit in duration \"1s2\""),
        ("1s2x", "time: unknown unit \"x\" in duration \"1s2x\""),
        ("", "time: invalid duration \"\""),
    ] {
        let refused = wrong(&["get", "a", "--command-timeout", text]).0;
        assert!(refused.ends_with(words), "{refused}");
    }
    assert_eq!(
        wrong(&["get", "--limit"]).0,
        "flag needs an argument: --limit"
    );
    assert!(matches!(parse(&["lease"]), Err(ArgsError::Help(_))));
    assert!(matches!(
        parse(&["lease", "grant", "-h"]),
        Err(ArgsError::Help(_))
    ));

    let environment = [("ETCDCTL_ENDPOINTS".to_owned(), "e:1".to_owned())];
    let version = GRAMMAR
        .parse(&[b"version".to_vec()], &environment)
        .expect("parses");
    assert_eq!(version.list("endpoints"), ["e:1"]);
    let both = [b"version".to_vec(), b"--endpoints=a:1".to_vec()];
    assert!(matches!(
        GRAMMAR.parse(&both, &environment),
        Err(ArgsError::Wrong { code: 1, .. })
    ));
}

// Catches a key range that reaches one key too far, or stops short at 0xff.
#[test]
fn key_ranges() {
    use range_request::{SortOrder, SortTarget};
    assert_eq!(ops::prefix_end(b"ab"), &b"ac"[..]);
    assert_eq!(ops::prefix_end(b"a\xff\xff"), &b"b"[..]);
    assert_eq!(ops::prefix_end(b"\xff"), &b"\0"[..]);
    let range = |arguments: &[&str]| ops::range(&parsed(arguments)).expect("a range");
    let all = range(&["get", "", "--prefix"]);
    assert_eq!((&all.key[..], &all.range_end[..]), (&b"\0"[..], &b"\0"[..]));
    let from = range(&["get", "k", "--from-key"]);
    assert_eq!(
        (&from.key[..], &from.range_end[..]),
        (&b"k"[..], &b"\0"[..])
    );
    let sorted = range(&["get", "k", "--sort-by=modify"]);
    assert_eq!(sorted.sort_order(), SortOrder::Ascend);
    assert_eq!(sorted.sort_target(), SortTarget::Mod);
    let refusal = |arguments: &[&str]| {
        let error = ops::range(&parsed(arguments)).expect_err("refused");
        (error.text, error.code)
    };
    assert_eq!(refusal(&["get"]).1, 128);
    assert_eq!(
        refusal(&["get", "a", "--order=x"]),
        ("bad sort order x".into(), 4)
    );
    assert_eq!(
        refusal(&["get", "a", "--sort-by=x"]),
        ("bad sort target x".into(), 4)
    );
    assert_eq!(refusal(&["get", "a", "b", "--prefix"]).1, 128);
}

// Catches a put that stores nothing because the value was forgotten.
#[test]
fn puts_need_a_value() {
    let put = |arguments: &[&str], stdin: Option<&[u8]>| {
        ops::put(&parsed(arguments), || stdin.map(<[u8]>::to_vec))
    };
    assert_eq!(
        put(&["put", "k"], Some(b"v\n")).expect("a value").value,
        &b"v\n"[..]
    );
    let error = put(&["put", "k"], None).expect_err("no value");
    assert_eq!(error.code, 128);
    assert_eq!(
        put(&["put", "k", "v", "--lease=1f"], None)
            .expect("a lease")
            .lease,
        31
    );
    let error = put(&["put", "k", "v", "--lease=zz"], None).expect_err("no number");
    assert_eq!(
        error.text,
        "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex"
    );
    assert_eq!(
        put(&["put", "k", "v", "--ignore-value"], None)
            .expect_err("both")
            .code,
        128
    );
}

// Catches a transaction read otherwise than etcdctl reads it.
#[test]
fn transactions_from_lines() {
    let text = "mod(\"k 1\") > \"5\"\nval(\"k\") != \"a\\x00b\"\nlease(\"k\") = \"1f\"\n\n\
                put k \"two words\" --prev-kv\ndel 'x y' --prefix\n\nget k --rev=3\n\n";
    let txn = |text: &str| ops::txn(text.lines().map(str::to_owned), |_| {});
    let request = txn(text).expect("a transaction");
    assert_eq!(request.compare[0].key, &b"k 1"[..]);
    assert_eq!(
        request.compare[0].target_union,
        Some(compare::TargetUnion::ModRevision(5))
    );
    assert_eq!(
        request.compare[1].result(),
        compare::CompareResult::NotEqual
    );
    assert_eq!(
        request.compare[1].target_union,
        Some(compare::TargetUnion::Value(Bytes::from_static(b"a\0b")))
    );
    assert_eq!(
        request.compare[2].target_union,
        Some(compare::TargetUnion::Lease(31))
    );
    let Some(request_op::Request::RequestPut(put)) = &request.success[0].request else {
        panic!("a put")
    };
    assert_eq!((&put.value[..], put.prev_kv), (&b"two words"[..], true));
    let Some(request_op::Request::RequestDeleteRange(del)) = &request.success[1].request else {
        panic!("a delete")
    };
    assert_eq!(
        (&del.key[..], &del.range_end[..]),
        (&b"x y"[..], &b"x z"[..])
    );
    assert_eq!(request.failure.len(), 1);

    let refusal = |text: &str| {
        let error = txn(text).expect_err("refused");
        (error.text, error.code)
    };
    assert_eq!(
        refusal("garbage\n\n"),
        ("malformed comparison: garbage".into(), 3)
    );
    assert_eq!(
        refusal("mod(a) = 0\n\n"),
        (
            "malformed comparison: mod(a) = 0; got mod(\"\")  \"\"".into(),
            3
        )
    );
    assert_eq!(refusal("mod(\"a\") ! \"0\"\n\n").1, 3);
    assert_eq!(refusal("ver(\"a\") = \"x\"\n\n").1, 3);
    assert_eq!(
        refusal("\nfoo a\n\n\n"),
        ("invalid txn request: foo a".into(), 3)
    );
    assert_eq!(refusal("\nput \"open\n\n").1, 3);
}

// Catches a panic on quotes and escapes that are cut short.
#[test]
fn quotes_cut_anywhere() {
    let text = "a \"b\\x41\\u00e9\\101\\n\" 'c d' `e`";
    let words = split_words(text).expect("words");
    assert_eq!(words[1], "bA\u{e9}A\n".as_bytes());
    assert_eq!(words[2], b"c d");
    for end in 0..text.len() {
        let _ = split_words(&text[..end]);
        let _ = unquote_prefix(&text[end..]);
    }
    assert_eq!(unquote_prefix("\"\\400\""), None);
    assert_eq!(unquote_prefix("\"\\ud800\""), None);
    assert_eq!(unquote_prefix("\"\\é\""), None);
}

// Catches text that differs from Go's: scripts cut it apart.
#[test]
fn pieces_of_text() {
    assert_eq!(
        quoted(b"a\x01\xff\"\\\n\x7f\xc3\xa9"),
        "\"a\\x01\\xff\\\"\\\\\\n\\x7f\u{e9}\""
    );
    for (bytes, text) in [
        (0, "0 B"),
        (9, "9 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (16_384, "16 kB"),
        (28_672, "29 kB"),
        (2_147_483_648, "2.1 GB"),
    ] {
        assert_eq!(size(bytes), text);
    }
    for (ns, text) in [
        (0, "0s"),
        (5, "5ns"),
        (1_500, "1.5\u{b5}s"),
        (1_487_256, "1.487256ms"),
        (500_000_000, "500ms"),
        (2_000_000_000, "2s"),
        (62_500_000_000, "1m2.5s"),
        (3_600_000_000_000, "1h0m0s"),
    ] {
        assert_eq!(duration(Duration::from_nanos(ns)), text);
    }
    let text = table(&["name", "id"], &[vec!["n".into(), "12345".into()]]);
    assert_eq!(
        text,
        "┌──────┬───────┐\n│ NAME │  ID   │\n├──────┼───────┤\n│    n │ 12345 │\n\
         └──────┴───────┘\n"
    );
    assert_eq!(json::base64(b""), "\"\"");
    assert_eq!(json::base64(b"a"), "\"YQ==\"");
    assert_eq!(json::base64(b"\xff\xfe\xfd"), "\"//79\"");
    assert_eq!(
        json::string("<a&\u{2028}\n"),
        "\"\\u003ca\\u0026\\u2028\\n\""
    );
}

// Catches an answer printed otherwise than etcdctl 3.7.1 printed the same one.
#[test]
fn answers_in_every_format() {
    let range = RangeResponse {
        header: header(10),
        kvs: vec![key_value()],
        more: false,
        count: 1,
    };
    let show = |format: Format, print: &dyn Fn(&mut Printer<Vec<u8>>)| {
        let mut printer = printer(format);
        print(&mut printer);
        printer.out
    };
    let print_range = |printer: &mut Printer<Vec<u8>>| printer.range(&range).expect("writes");
    assert_eq!(show(Format::Simple, &print_range), b"n\n\x01\xff\"\\\n");
    assert_eq!(
        String::from_utf8(show(Format::Json, &print_range)).expect("text"),
        "{\"header\":{\"cluster_id\":7,\"member_id\":9,\"revision\":10,\"raft_term\":2},\
         \"kvs\":[{\"key\":\"bg==\",\"create_revision\":5,\"mod_revision\":10,\"version\":2,\
         \"value\":\"Af8iXA==\"}],\"count\":1}\n"
    );
    assert_eq!(
        String::from_utf8(show(Format::Fields, &print_range)).expect("text"),
        "\"ClusterID\" : 7\n\"MemberID\" : 9\n\"Revision\" : 10\n\"RaftTerm\" : 2\n\
         \"Key\" : \"n\"\n\"CreateRevision\" : 5\n\"ModRevision\" : 10\n\"Version\" : 2\n\
         \"Value\" : \"\\x01\\xff\\\"\\\\\"\n\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n"
    );
    let txn = TxnResponse {
        header: header(10),
        succeeded: false,
        responses: vec![
            ResponseOp {
                response: Some(response_op::Response::ResponsePut(PutResponse::default())),
            },
            ResponseOp {
                response: Some(response_op::Response::ResponseRange(range.clone())),
            },
        ],
    };
    let print_txn = |printer: &mut Printer<Vec<u8>>| printer.txn(&txn).expect("writes");
    assert_eq!(
        show(Format::Simple, &print_txn),
        b"FAILURE\n\nOK\n\nn\n\x01\xff\"\\\n"
    );
    let json = String::from_utf8(show(Format::Json, &print_txn)).expect("text");
    assert!(json.contains("\"responses\":[{\"Response\":{\"response_put\":{}}},{\"Response\":"));
    let health = [Health {
        endpoint: "h:1".into(),
        took: Duration::from_micros(1500),
        error: String::new(),
    }];
    let print_health = |printer: &mut Printer<Vec<u8>>| printer.health(&health).expect("writes");
    assert_eq!(
        show(Format::Simple, &print_health),
        b"h:1 is healthy: successfully committed proposal: took = 1.5ms\n"
    );
    assert_eq!(
        show(Format::Json, &print_health),
        b"[{\"endpoint\":\"h:1\",\"health\":true,\"took\":\"1.5ms\"}]\n"
    );
}
