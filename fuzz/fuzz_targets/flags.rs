//! Reads any bytes as a command line and a config file, and follows what passes to the first
//! members. Arguments are parted by zero bytes; the last one is the file's text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringbolt::config::Command;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut arguments: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let file = arguments.pop().unwrap_or_default();
    let environment = [("ETCD_LISTEN_CLIENT_URLS".to_owned(), file.clone())];
    let parsed = Command::parse(&arguments, &environment, |_| Ok(file));
    if let Ok(Command::Run(config)) = parsed {
        let _ = config.first_members();
    }
});
