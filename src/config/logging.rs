//! Adapter. Log lines as etcd writes them: one JSON object (or console line) per event, on stderr,
//! stdout or files, written by a thread of its own.
//!
//! A core must not wait for a slow terminal or a full pipe: it formats the line and queues it. When
//! the queue is full the line is dropped and counted, and the count becomes a line of its own.
//! A disabled level costs one load of a static in `tracing`.

use super::value::LogLevel;
use super::{Config, Note, NoteLevel};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// The target of an event after which the process ends: `error!(target: FATAL, …)` is shown at
/// level `fatal`.
pub const FATAL: &str = "fatal";

/// Lines that may wait for the writer; further ones are dropped and counted. At 200 bytes a line
/// this is 1.6 MB, some seconds of a busy log.
const QUEUE_LINES_MAX: usize = 8192;

/// What is logged, how, and where to.
#[derive(Clone, Debug)]
pub struct LogSettings {
    pub level: LogLevel,
    pub json: bool,
    pub outputs: Vec<String>,
    pub rotation: Option<Rotation>,
}

/// When a log file gives way to a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotation {
    pub bytes_max: u64,
    /// Days that old files are kept; 0 is for ever.
    pub age_days_max: u64,
    /// How many old files are kept; 0 is all.
    pub backups_max: usize,
}

impl Rotation {
    /// Parses `--log-rotation-config-json`. Local time and compression are not offered.
    pub fn parse(json: &str) -> Result<Rotation, String> {
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|error| error.to_string())?;
        let number = |name: &str| match &value[name] {
            serde_json::Value::Null => Ok(0),
            other => other
                .as_u64()
                .ok_or_else(|| format!("{name} is not a whole number")),
        };
        let megabytes = match number("maxsize")? {
            0 => 100,
            megabytes => megabytes,
        };
        Ok(Rotation {
            bytes_max: megabytes.saturating_mul(1 << 20),
            age_days_max: number("maxage")?,
            backups_max: usize::try_from(number("maxbackups")?).unwrap_or(usize::MAX),
        })
    }
}

impl LogSettings {
    pub fn of(config: &Config) -> LogSettings {
        let rotation = config.enable_log_rotation.then(|| {
            Rotation::parse(&config.log_rotation_config_json).expect("Config::check parsed it")
        });
        LogSettings {
            level: config.log_level,
            json: config.log_format == "json",
            outputs: config.log_outputs.clone(),
            rotation,
        }
    }
}

/// The running log. Drop it last: that writes what is queued.
pub struct Log {
    sender: SyncSender<Message>,
}

enum Message {
    Line(String),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Opens the outputs and makes them the process's log. Once per process.
pub fn start(settings: &LogSettings) -> io::Result<Log> {
    let outputs = settings
        .outputs
        .iter()
        .map(|name| Output::open(name, settings.rotation.clone()))
        .collect::<io::Result<Vec<_>>>()?;
    let (sender, receiver) = sync_channel(QUEUE_LINES_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let (json, lost) = (settings.json, dropped.clone());
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&receiver, outputs, json, &lost))?;
    let layer = Lines {
        level: settings.level,
        json,
        sender: sender.clone(),
        dropped,
    };
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    Ok(Log { sender })
}

impl Log {
    /// Waits until every line so far is written, but not for ever: an output may be stuck.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(1));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Logs what the configuration noted.
pub fn notes(notes: &[Note]) {
    for note in notes {
        let (field, value) = (note.field, note.value.as_str());
        match note.level {
            NoteLevel::Info => tracing::info!(field, value, "{}", note.message),
            NoteLevel::Warn => tracing::warn!(field, value, "{}", note.message),
        }
    }
}

/// The layer that turns events into lines.
struct Lines {
    level: LogLevel,
    json: bool,
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        match self.level {
            LogLevel::Debug => *metadata.level() <= Level::DEBUG,
            LogLevel::Info => *metadata.level() <= Level::INFO,
            LogLevel::Warn => *metadata.level() <= Level::WARN,
            LogLevel::Error => *metadata.level() <= Level::ERROR,
            LogLevel::Panic | LogLevel::Fatal => metadata.target() == FATAL,
        }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => LevelFilter::ERROR,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            _ if metadata.target() == FATAL => "fatal",
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut caller = String::new();
        if let Some(file) = metadata.file() {
            caller.push_str(last_two(file));
            let _ = write!(caller, ":{}", metadata.line().unwrap_or(0));
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = format_line(self.json, SystemTime::now(), level, &caller, &fields);
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Line(line)) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// `src/server/start.rs` as `server/start.rs`.
fn last_two(path: &str) -> &str {
    match path.rmatch_indices('/').nth(1) {
        Some((at, _)) => &path[at + 1..],
        None => path,
    }
}

/// The fields of an event: the message apart, the others as `,"name":value` in JSON.
#[derive(Default)]
struct Fields {
    message: String,
    /// The text of a note's field name, whose value follows.
    name: Option<String>,
    rest: String,
}

impl Fields {
    fn begin(&mut self, name: &str) {
        self.rest.push(',');
        put_json_string(&mut self.rest, name.strip_prefix("r#").unwrap_or(name));
        self.rest.push(':');
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match (field.name(), self.name.take()) {
            ("message", _) => self.message.push_str(value),
            // A pair of fields called "field" and "value" is one field whose name is data.
            ("field", _) => self.name = Some(value.to_owned()),
            ("value", Some(name)) => {
                self.begin(&name);
                put_json_string(&mut self.rest, value);
            }
            (name, _) => {
                self.begin(name);
                put_json_string(&mut self.rest, value);
            }
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.begin(field.name());
        let _ = write!(self.rest, "{value}");
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.begin(field.name());
        let _ = write!(self.rest, "{value}");
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.begin(field.name());
        let _ = write!(self.rest, "{value}");
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.begin(field.name());
        // JSON has no word for these.
        let _ = if value.is_finite() {
            write!(self.rest, "{value}")
        } else {
            write!(self.rest, "\"{value}\"")
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
            return;
        }
        self.begin(field.name());
        put_json_string(&mut self.rest, &format!("{value:?}"));
    }
}

fn format_line(json: bool, time: SystemTime, level: &str, caller: &str, fields: &Fields) -> String {
    let mut line = String::with_capacity(160 + fields.message.len() + fields.rest.len());
    if json {
        line.extend(["{\"level\":\"", level, "\",\"ts\":\""]);
        put_time(&mut line, time);
        line.push_str("\",\"caller\":");
        put_json_string(&mut line, caller);
        line.push_str(",\"msg\":");
        put_json_string(&mut line, &fields.message);
        line.push_str(&fields.rest);
        line.push_str("}\n");
    } else {
        put_time(&mut line, time);
        line.extend(["\t", level, "\t", caller, "\t", &fields.message]);
        if let Some(rest) = fields.rest.strip_prefix(',') {
            line.extend(["\t{", rest, "}"]);
        }
        line.push('\n');
    }
    line
}

/// Appends a string with the escapes of JSON.
fn put_json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends a time in UTC as Go's layout `2006-01-02T15:04:05.999999Z0700` does: microseconds
/// without the zeros at their end.
fn put_time(out: &mut String, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = civil(since.as_secs() / 86_400);
    let second = since.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    let micros = since.subsec_micros();
    if micros > 0 {
        let digits = format!("{micros:06}");
        out.extend([".", digits.trim_end_matches('0')]);
    }
    out.push('Z');
}

/// The date of a day counted from 1970-01-01.
fn civil(day: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that a leap day ends its year, and in eras of 400 years.
    let from_march = day + 719_468;
    let (era, in_era) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

/// The body of the writer thread; ends when the last sender is gone.
fn write_lines(
    receiver: &Receiver<Message>,
    mut outputs: Vec<Output>,
    json: bool,
    dropped: &AtomicU64,
) {
    while let Ok(message) = receiver.recv() {
        let line = match message {
            Message::Line(line) => line,
            Message::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        outputs.iter_mut().for_each(|output| output.write(&line));
        let count = dropped.swap(0, Relaxed);
        if count > 0 {
            let fields = Fields {
                message: "dropped log lines: the output is too slow".to_owned(),
                rest: format!(",\"count\":{count}"),
                name: None,
            };
            let line = format_line(
                json,
                SystemTime::now(),
                "warn",
                "config/logging.rs",
                &fields,
            );
            outputs.iter_mut().for_each(|output| output.write(&line));
        }
    }
}

/// One place where lines go. An output that fails is left alone: there is nowhere to say so.
enum Output {
    Stderr,
    Stdout,
    File {
        path: PathBuf,
        file: File,
        size: u64,
        rotation: Option<Rotation>,
    },
}

impl Output {
    fn open(name: &str, rotation: Option<Rotation>) -> io::Result<Output> {
        match name {
            // Under systemd stderr is the journal.
            "default" | "stderr" | "systemd/journal" => Ok(Output::Stderr),
            "stdout" => Ok(Output::Stdout),
            path => {
                let path = PathBuf::from(path);
                let file = OpenOptions::new().create(true).append(true).open(&path);
                let file = file.map_err(|error| {
                    io::Error::new(error.kind(), format!("--log-outputs {name}: {error}"))
                })?;
                let size = file.metadata()?.len();
                Ok(Output::File {
                    path,
                    file,
                    size,
                    rotation,
                })
            }
        }
    }

    fn write(&mut self, line: &str) {
        let _ = match self {
            Output::Stderr => io::stderr().write_all(line.as_bytes()),
            Output::Stdout => io::stdout().write_all(line.as_bytes()),
            Output::File {
                path,
                file,
                size,
                rotation,
            } => {
                if let Some(rotation) = rotation
                    && *size > 0
                    && *size + line.len() as u64 > rotation.bytes_max
                    && let Ok(fresh) = rotate(path, rotation)
                {
                    *file = fresh;
                    *size = 0;
                }
                *size += line.len() as u64;
                file.write_all(line.as_bytes())
            }
        };
    }
}

/// Renames the full file to `name-TIME.ext`, opens a new one, and removes what is too old or too
/// many.
fn rotate(path: &Path, rotation: &Rotation) -> io::Result<File> {
    let now = SystemTime::now();
    let mut time = String::new();
    put_time(&mut time, now);
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let ext = path
        .extension()
        .map(|ext| format!(".{}", ext.to_string_lossy()))
        .unwrap_or_default();
    let backup = format!(
        "{stem}-{}{ext}",
        time.trim_end_matches('Z').replace(':', "-")
    );
    fs::rename(path, path.with_file_name(backup))?;
    let fresh = OpenOptions::new().create(true).append(true).open(path)?;
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut backups: Vec<String> = fs::read_dir(dir)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&format!("{stem}-2")) && name.ends_with(&ext))
        .collect();
    // The names hold the time, so that their order is the order of their making.
    backups.sort_unstable_by(|a, b| b.cmp(a));
    let oldest = Duration::from_secs(rotation.age_days_max * 86_400);
    for (place, name) in backups.iter().enumerate() {
        let backup = dir.join(name);
        let too_many = rotation.backups_max > 0 && place >= rotation.backups_max;
        let age = fs::metadata(&backup)?.modified()?;
        let too_old =
            rotation.age_days_max > 0 && now.duration_since(age).is_ok_and(|age| age > oldest);
        if too_many || too_old {
            fs::remove_file(&backup)?;
        }
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(micros: u64) -> String {
        let mut out = String::new();
        put_time(&mut out, UNIX_EPOCH + Duration::from_micros(micros));
        out
    }

    // Catches a wrong calendar and a fraction that parsers of etcd's logs do not expect.
    #[test]
    fn times_have_etcds_layout() {
        assert_eq!(shown(0), "1970-01-01T00:00:00Z");
        assert_eq!(shown(951_782_400_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(shown(1_709_251_199_999_999), "2024-02-29T23:59:59.999999Z");
        assert_eq!(shown(1_795_225_542_849_740), "2026-11-21T01:45:42.84974Z");
        assert_eq!(shown(4_107_542_400_000_000), "2100-03-01T00:00:00Z");
    }

    // Catches a line that is not one line of valid JSON, whatever the message holds.
    #[test]
    fn lines_are_json() {
        let layer_lines = std::sync::Mutex::new(Vec::new());
        let (sender, receiver) = sync_channel(16);
        let layer = Lines {
            level: LogLevel::Info,
            json: true,
            sender,
            dropped: Arc::new(AtomicU64::new(0)),
        };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                "member-id" = "8e9e",
                count = 3,
                ok = true,
                "say \"{}\"\n\u{1}",
                "hi"
            );
            tracing::debug!("not wanted");
            tracing::error!(target: FATAL, error = ?io::Error::other("x"), "the end");
            notes(&[Note {
                level: NoteLevel::Warn,
                message: "ignored",
                field: "flag",
                value: "max-wals".into(),
            }]);
        });
        let mut lines = layer_lines.lock().expect("one thread");
        while let Ok(Message::Line(line)) = receiver.try_recv() {
            assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
            lines.push(serde_json::from_str::<serde_json::Value>(&line).expect("JSON"));
        }
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["level"], "info");
        assert_eq!(lines[0]["msg"], "say \"hi\"\n\u{1}");
        assert_eq!(lines[0]["member-id"], "8e9e");
        assert_eq!(
            (&lines[0]["count"], &lines[0]["ok"]),
            (&3.into(), &true.into())
        );
        assert!(
            lines[0]["caller"]
                .as_str()
                .is_some_and(|at| at.starts_with("config/logging.rs:"))
        );
        assert_eq!(lines[1]["level"], "fatal");
        assert_eq!(
            (&lines[2]["flag"], &lines[2]["level"]),
            (&"max-wals".into(), &"warn".into())
        );
    }

    // Catches the console format losing its fields or its tabs.
    #[test]
    fn console_lines_have_tabs() {
        let fields = Fields {
            message: "hello".into(),
            rest: ",\"a\":1".into(),
            ..Fields::default()
        };
        let line = format_line(false, UNIX_EPOCH, "info", "x/y.rs:1", &fields);
        assert_eq!(
            line,
            "1970-01-01T00:00:00Z\tinfo\tx/y.rs:1\thello\t{\"a\":1}\n"
        );
    }

    // Catches a core that waits for a log that nobody writes, and lines lost without a word.
    #[test]
    fn a_full_queue_drops_and_counts() {
        let (sender, receiver) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let layer = Lines {
            level: LogLevel::Info,
            json: true,
            sender,
            dropped: dropped.clone(),
        };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            (0..5).for_each(|n| tracing::info!(n, "line"));
        });
        assert_eq!(dropped.load(Relaxed), 4);
        drop(receiver);
    }

    // Catches a rotated log that grows for ever or loses lines.
    #[test]
    fn files_rotate_at_their_size() {
        let dir = std::env::temp_dir().join(format!("ringbolt-log-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a temporary directory");
        let path = dir.join("node.log");
        let rotation = Rotation {
            bytes_max: 10,
            age_days_max: 0,
            backups_max: 1,
        };
        let mut output =
            Output::open(path.to_str().expect("UTF-8"), Some(rotation)).expect("opens");
        for line in ["first\n", "second\n", "third\n"] {
            output.write(line);
        }
        assert_eq!(fs::read_to_string(&path).expect("reads"), "third\n");
        assert_eq!(fs::read_dir(&dir).expect("lists").count(), 2);
        fs::remove_dir_all(&dir).expect("cleans up");
    }

    // Catches a rotation setting that is refused although etcd's default has it.
    #[test]
    fn rotation_settings_parse() {
        let text = super::super::flag_default("log-rotation-config-json");
        let expected = Rotation {
            bytes_max: 100 << 20,
            age_days_max: 0,
            backups_max: 0,
        };
        assert_eq!(Rotation::parse(text), Ok(expected));
        assert!(Rotation::parse("{\"maxsize\":\"x\"}").is_err());
        assert!(Rotation::parse("{").is_err());
    }
}
