//! Pure. What chance would rarely hit: asked once, at the start of each random run.

use ringbolt::bench::message::Message;

use super::super::step::{Kind, Step};

/// etcd's default request limit, and what its transport adds.
const REQUEST_BYTES_MAX: usize = 1_572_864;
const TRANSPORT_EXTRA: usize = 512 << 10;

pub fn edges() -> Vec<Step> {
    let step = |kind, request: Message| Step {
        kind,
        request: request.into_bytes(),
    };
    // Not to 0 (see the script compact_zero): HashKV(0) would then answer with the hash of revision
    // 0 until ten more compactions are done.
    let mut steps = vec![
        step(Kind::Put, Message::new().bytes(1, b"a").bytes(2, b"first")),
        step(Kind::Compact, Message::new().int(1, 1).flag(2, true)),
    ];
    let unary = Kind::ALL
        .into_iter()
        .filter(|kind| !kind.is_watch() && *kind != Kind::Restart);
    // An empty LeaseGrant draws a random id, which would stay in one side's list.
    let harmless = |kind: &Kind| !matches!(kind, Kind::Defragment | Kind::LeaseGrant);
    let empty = unary.clone().filter(harmless);
    steps.extend(empty.map(|kind| step(kind, Message::new())));
    for size in [
        REQUEST_BYTES_MAX - 100,
        REQUEST_BYTES_MAX,
        REQUEST_BYTES_MAX + TRANSPORT_EXTRA - 100,
        REQUEST_BYTES_MAX + TRANSPORT_EXTRA + 1,
    ] {
        steps.push(step(
            Kind::Put,
            Message::new().bytes(1, b"big").bytes(2, &vec![b'x'; size]),
        ));
    }
    let all = Message::new().bytes(1, b"\0").bytes(2, b"\0");
    steps.push(step(Kind::Range, all.clone().flag(8, true)));
    steps.push(step(Kind::DeleteRange, all));
    for revision in [0, -1, 1, 1 << 40] {
        if revision != 1 {
            steps.push(step(Kind::HashKv, Message::new().int(1, revision)));
        }
        steps.push(step(Kind::Compact, Message::new().int(1, revision)));
    }
    // No watch is to see the large value: where a lagging one is given it in parts is chance.
    steps.push(step(Kind::Put, Message::new().bytes(1, b"a")));
    steps.push(step(Kind::Compact, Message::new().int(1, 5).flag(2, true)));
    // Bodies that are no messages: a field that ends early, a field number 0, a wire type 7.
    for kind in unary {
        for body in [&[0x0a, 5, b'a'][..], &[0, 0], &[0x0f]] {
            steps.push(Step {
                kind,
                request: body.to_vec(),
            });
        }
    }
    // Unknown fields are skipped.
    steps.push(step(
        Kind::Range,
        Message::new().bytes(1, b"a").bytes(99, b"?").int(98, 7),
    ));
    steps
}
