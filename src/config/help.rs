//! Pure. What `--help`, `--version` and a refused command line print.

use super::flags::{Effect, FLAGS};
use super::gates::GATES;

/// The etcd release whose behaviour clients may rely on. Clients parse it.
pub const ETCD_VERSION: &str = "3.7.1";
/// The cluster version that goes with it.
pub const CLUSTER_VERSION: &str = "3.7";
/// ringbolt's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of this build, or `unknown`.
pub const GIT_SHA: &str = env!("RINGBOLT_GIT_SHA");
/// The compiler of this build.
pub const RUSTC: &str = env!("RINGBOLT_RUSTC");
/// The platform of this build.
pub const TARGET: &str = env!("RINGBOLT_TARGET");

const USAGE: &str = "Usage:

  ringbolt [flags]
    Start a ringbolt server.

  ringbolt --version
    Show the version.

  ringbolt -h | --help
    Show this help.

  ringbolt --config-file
    Path to the configuration file. Command line and environment are ignored when it is given.
    Durations may be whole numbers of nanoseconds or strings such as \"5s\".
";

/// The short text under a refused command line.
pub fn usage() -> &'static str {
    USAGE
}

/// The whole help text: every flag with its default.
pub fn help() -> String {
    let mut out = String::from(USAGE);
    let mut section = "";
    for flag in FLAGS {
        if flag.section != section {
            section = flag.section;
            out.extend(["\n", section, ":\n"]);
        }
        let default = match flag.name {
            "data-dir" => "${name}.ringbolt",
            "initial-cluster" => "default=http://localhost:2380",
            _ => flag.default,
        };
        out.extend(["  --", flag.name, " '", default, "'\n    ", flag.help]);
        out.push_str(match flag.effect {
            Effect::Used => "",
            Effect::Ignored => " Accepted and ignored.",
            Effect::Unserved => " Not served by this build: only the default is taken.",
        });
        out.push('\n');
        if flag.name == "feature-gates" {
            for (name, stage, on) in GATES {
                out.push_str(&format!(
                    "    {name}=true|false ({} - default={on})\n",
                    stage.label()
                ));
            }
        }
    }
    out
}

/// What `--version` prints. Scripts take the third word of the line with "Version".
pub fn version() -> String {
    let arch = match TARGET.split('-').next() {
        Some("x86_64") => "amd64",
        Some("aarch64") => "arm64",
        Some(arch) => arch,
        None => "unknown",
    };
    format!(
        "etcd Version: {ETCD_VERSION}\nringbolt: {VERSION}\nGit SHA: {GIT_SHA}\n\
         rustc: {RUSTC}\nOS/Arch: linux/{arch}\n"
    )
}
