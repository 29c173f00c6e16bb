//! Turns `proto/` into Rust: messages for `src/pb`, service clients for `src/client`. protox
//! compiles the files in this process, so that a build needs no protoc.

use prost::Message;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Every file of `proto/`, in the order of its imports.
const FILES: [&str; 6] = [
    "kv.proto",
    "auth.proto",
    "rpc.proto",
    "v3lock.proto",
    "v3election.proto",
    "health.proto",
];

/// Fields whose names the usual conversion would cut in the wrong place (`peer_ur_ls`). The JSON
/// name is fixed before the change, and the wire knows numbers only.
const RENAMES: [(&str, &str); 2] = [("peerURLs", "peer_urls"), ("clientURLs", "client_urls")];

/// Packages and the modules of `src/pb` that hold their messages.
const PACKAGES: [(&str, &str); 6] = [
    (".etcdserverpb", "crate::pb::etcdserverpb"),
    (".mvccpb", "crate::pb::mvccpb"),
    (".authpb", "crate::pb::authpb"),
    (".v3lockpb", "crate::pb::v3lockpb"),
    (".v3electionpb", "crate::pb::v3electionpb"),
    (".grpc.health.v1", "crate::pb::health"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let proto = Path::new("proto");
    for file in FILES {
        println!("cargo:rerun-if-changed={}", proto.join(file).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    version_facts();

    let mut files = protox::compile(FILES.map(|file| proto.join(file)), [proto])?;
    fs::write(out.join("descriptors.bin"), files.encode_to_vec())?;
    for message in files
        .file
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
    {
        for field in &mut message.field {
            if let Some((old, new)) = RENAMES.iter().find(|(old, _)| field.name() == *old) {
                field.json_name.get_or_insert_with(|| old.to_string());
                field.name = Some(new.to_string());
            }
        }
    }

    prost_build::Config::new()
        .bytes(["."])
        .out_dir(&out)
        .compile_fds(files.clone())?;

    let clients = out.join("client");
    fs::create_dir_all(&clients)?;
    let services = tonic_prost_build::configure()
        .build_server(false)
        .build_client(true)
        .service_generator();
    let mut config = prost_build::Config::new();
    for (package, module) in PACKAGES {
        config.extern_path(package, module);
    }
    config
        .service_generator(services)
        .out_dir(&clients)
        .compile_fds(files)?;
    Ok(())
}

/// What `--version` prints about the build. A build from an unpacked archive has no commit.
fn version_facts() {
    println!("cargo:rerun-if-env-changed=RINGBOLT_GIT_SHA");
    let sha = env::var("RINGBOLT_GIT_SHA")
        .ok()
        .or_else(git_head)
        .unwrap_or("unknown".into());
    println!("cargo:rustc-env=RINGBOLT_GIT_SHA={sha}");
    let rustc = env::var("RUSTC").unwrap_or("rustc".into());
    let version = std::process::Command::new(rustc)
        .arg("--version")
        .output()
        .ok();
    let version = version
        .and_then(|out| String::from_utf8(out.stdout).ok())
        .unwrap_or_default();
    let version = version
        .split_whitespace()
        .nth(1)
        .unwrap_or("unknown")
        .to_owned();
    println!("cargo:rustc-env=RINGBOLT_RUSTC={version}");
    let target = env::var("TARGET").unwrap_or("unknown".into());
    println!("cargo:rustc-env=RINGBOLT_TARGET={target}");
}

/// The checked-out commit, read from `.git` itself: a build needs no git program.
fn git_head() -> Option<String> {
    let head = fs::read_to_string(".git/HEAD").ok()?;
    println!("cargo:rerun-if-changed=.git/HEAD");
    let sha = match head.trim().strip_prefix("ref: ") {
        None => head.trim().to_owned(),
        Some(name) => {
            println!("cargo:rerun-if-changed=.git/{name}");
            fs::read_to_string(Path::new(".git").join(name))
                .ok()?
                .trim()
                .to_owned()
        }
    };
    let short = sha.get(..9)?;
    short
        .bytes()
        .all(|b| b.is_ascii_hexdigit())
        .then(|| short.to_owned())
}
