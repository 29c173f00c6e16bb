//! Driver. The load generator and comparison harness.

fn main() -> std::process::ExitCode {
    ringbolt::bench::cli::main()
}
