//! Driver. The integration tests, one binary. Each file contributes its tests; a test that cannot
//! run on this machine is reported as ignored, with the reason.
//!
//! Environment: RINGBOLT_BIN (another server under test), RINGBOLT_ETCD_DIR (a folder with etcd,
//! etcdctl and etcdutl, instead of building them), REWRITE=1 (write goldens and transcripts anew);
//! each file names its own.

mod bench;
mod compat;
mod differential;
mod full_disk;
mod hostile;
mod kill9;
mod rng;
mod tidy;
mod world;

fn main() -> std::process::ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let mut tests = Vec::new();
    tests.extend(bench::tests());
    tests.extend(compat::tests());
    tests.extend(differential::tests());
    tests.extend(hostile::tests());
    tests.extend(full_disk::tests());
    tests.extend(kill9::tests());
    tests.extend(tidy::tests());
    libtest_mimic::run(&arguments, tests).exit_code()
}
