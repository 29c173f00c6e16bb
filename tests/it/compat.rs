//! Driver. Real clients against the server: each script of `tests/peers/` with a server of its own.
//!
//! The same scripts run against a real etcd under the names `compat::etcd::…`, so that a client
//! that is wrong by itself shows up as such. Those are ignored unless asked for.

use std::path::PathBuf;

use libtest_mimic::{Completion, Failed, Trial};

use crate::world;

type Client = fn() -> Result<(&'static str, Option<PathBuf>), String>;

/// (test, its script, and the etcdctl to pass or why it cannot run).
const CLIENTS: [(&str, Client); 5] = [
    ("etcdctl_3_7", || {
        Ok(("etcdctl.sh", Some(world::etcd_folder()?.join("etcdctl"))))
    }),
    ("etcdctl_of_the_distribution", || {
        Ok(("etcdctl.sh", Some(PathBuf::from("etcdctl"))))
    }),
    ("go_client", || Ok(("gopeer.sh", None))),
    ("python_client", || Ok(("pypeer.sh", None))),
    ("rust_client", || Ok(("rustpeer.sh", None))),
];

/// Steps of the scripts that ringbolt does not serve yet: etcd's snapshot file, and the server's
/// own lock and election services.
const NOT_SERVED: &str = "snapshot,locks";

pub fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    for (name, client) in CLIENTS {
        tests.push(Trial::ignorable_test(
            format!("compat::{name}"),
            move || run(client, world::ringbolt(), NOT_SERVED),
        ));
        let against_etcd =
            Trial::ignorable_test(
                format!("compat::etcd::{name}"),
                move || match world::etcd_folder() {
                    Ok(folder) => run(client, folder.join("etcd"), ""),
                    Err(reason) => Ok(Completion::ignored_with(reason)),
                },
            );
        tests.push(against_etcd.with_ignored_flag(true));
    }
    tests
}

// Catches: anything that a stock client sees and etcd would not have shown it.
fn run(client: Client, server: PathBuf, without: &str) -> Result<Completion, Failed> {
    let (script, etcdctl) = match client() {
        Ok(found) => found,
        Err(reason) => return Ok(Completion::ignored_with(reason)),
    };
    let folder = world::scratch("compat")?;
    let server = world::start(server, folder.path(), &[])?;
    let endpoint = server.endpoint();
    let etcdctl = etcdctl.unwrap_or_default();
    let environment = [
        ("ENDPOINT", endpoint.as_str()),
        ("WITHOUT", without),
        ("ETCDCTL", &*etcdctl.to_string_lossy()),
    ];
    world::script(&format!("tests/peers/{script}"), &environment)
        .map_err(|failed| with_log(failed, &server.log_tail()))
}

fn with_log(failed: Failed, log: &str) -> Failed {
    let message = failed.message().unwrap_or("failed");
    format!("{message}\n--- the server's log ends with\n{log}").into()
}
