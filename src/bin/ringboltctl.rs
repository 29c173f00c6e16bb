//! Driver. The client program; `ctl` is all of it.

fn main() {
    std::process::exit(ringbolt::ctl::main());
}
