use super::etcdserverpb::{self, request_op, response_op};
use super::*;
use prost::Message;
use prost::bytes::Bytes;
use std::collections::BTreeSet;

// Catches a row of the method table that is out of order or doubled: a call would be counted, or
// answered, as another one.
#[test]
fn method_numbers_are_indices_and_paths_distinct() {
    let mut paths = BTreeSet::new();
    for (index, info) in METHODS.iter().enumerate() {
        assert_eq!(usize::from(info.method.id()), index);
        assert_eq!(Method::from_id(info.method.id()), Some(info.method));
        assert_eq!(Method::from_path(info.path), Some(info.method));
        assert_eq!(info.path, format!("/{}/{}", info.service, info.name));
        assert!(paths.insert(info.path));
    }
    assert_eq!(Method::from_id(METHODS.len() as u16), None);
    assert_eq!(Method::from_path("/etcdserverpb.KV/Nothing"), None);
}

// Catches a service or a method in proto/ that the table forgets, or whose kind it has wrong.
#[test]
fn method_table_is_what_proto_declares() {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("compiled by build.rs");
    let mut declared = Vec::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => MethodKind::Unary,
                    (false, true) => MethodKind::ServerStream,
                    (true, _) => MethodKind::BidiStream,
                };
                assert_eq!(
                    Method::from_path(&path).map(Method::kind),
                    Some(kind),
                    "{path}"
                );
                declared.push(path);
            }
        }
    }
    assert_eq!(declared.len(), METHODS.len());
}

// Catches a wrong field number: the bytes below are written by hand from the contract's table.
#[test]
fn bytes_of_known_messages() {
    let put = etcdserverpb::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: 5,
        prev_kv: true,
        ..Default::default()
    };
    assert_eq!(
        put.encode_to_vec(),
        [0x0a, 1, b'k', 0x12, 1, b'v', 0x18, 5, 0x20, 1]
    );
    let compare = etcdserverpb::Compare {
        range_end: Bytes::from_static(b"z"),
        ..Default::default()
    };
    assert_eq!(compare.encode_to_vec(), [0x82, 0x04, 1, b'z']);
    let watch = etcdserverpb::WatchResponse {
        watch_id: 1,
        events: vec![mvccpb::Event::default()],
        ..Default::default()
    };
    assert_eq!(watch.encode_to_vec(), [0x10, 1, 0x5a, 0]);
    let op = etcdserverpb::RequestOp {
        request: Some(request_op::Request::RequestPut(
            etcdserverpb::PutRequest::default(),
        )),
    };
    assert_eq!(op.encode_to_vec(), [0x12, 0]);
    let answer = etcdserverpb::ResponseOp {
        response: Some(response_op::Response::ResponseTxn(
            etcdserverpb::TxnResponse::default(),
        )),
    };
    assert_eq!(answer.encode_to_vec(), [0x22, 0]);
    let member = etcdserverpb::Member {
        peer_urls: vec!["p".into()],
        client_urls: vec!["c".into()],
        is_learner: true,
        ..Default::default()
    };
    assert_eq!(
        member.encode_to_vec(),
        [0x1a, 1, b'p', 0x22, 1, b'c', 0x28, 1]
    );
}
