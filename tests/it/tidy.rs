//! Driver. The rules of the house that a compiler does not know: the import table, the tier of each
//! module, words and calls that have no place in a tier, and sizes.

use libtest_mimic::{Failed, Trial};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What each folder of `src/` may import besides the base; what is below those comes along.
const IMPORTS: &[(&str, &[&str])] = &[
    ("http2", &[]),
    ("grpc", &["http2"]),
    ("http1", &["http2"]),
    ("btree", &[]),
    ("backend", &["btree"]),
    ("mvcc", &["backend"]),
    ("lease", &[]),
    ("auth", &[]),
    ("watch", &[]),
    ("apply", &["lease", "auth", "mvcc", "watch"]),
    ("raft", &[]),
    ("wal", &[]),
    ("peer", &[]),
    (
        "group",
        &["raft", "wal", "apply", "peer", "watch", "backend"],
    ),
    ("api", &["grpc", "http1", "group"]),
    ("server", &["api", "grpc", "http1", "group", "runtime"]),
    ("runtime", &[]),
    ("sim", &["server", "group", "api"]),
    ("client", &[]),
    ("ctl", &["client", "inspect"]),
    ("bench", &["client"]),
    ("inspect", &["wal", "backend", "mvcc"]),
];

/// Folders and files that everyone may import, and what they may import themselves.
const BASE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("pb", &[]),
    ("limits", &["ids"]),
    ("codec", &["ids"]),
    ("env", &["ids"]),
    ("config", &["ids"]),
    ("metrics", &["ids", "pb"]),
];

/// Outside crates that only one folder may name, so that they can be replaced there.
const CRATE_HOMES: &[(&str, &[&str])] = &[
    ("glommio", &["runtime"]),
    ("io_uring", &["runtime"]),
    ("async_task", &["runtime"]),
    ("slab", &["runtime"]),
    ("flume", &["runtime"]),
    ("libc", &["runtime"]),
    ("rustix", &["runtime", "bench"]),
    ("memmap2", &["runtime"]),
    ("rtrb", &["runtime"]),
    ("raft", &["raft"]),
    ("slog", &["raft"]),
    ("tonic", &["client", "ctl", "bench"]),
    ("tokio", &["client", "ctl", "bench"]),
    ("clap", &["bench", "ctl"]),
    ("tracing_subscriber", &["config"]),
];

/// Adapters outside of `runtime/` and `sim/`: each touches the world in one way, by its doc.
const ADAPTERS: &[&str] = &["config/logging.rs", "metrics/process.rs"];

/// Programs, and the start of the server, which never run in the simulator: they may use the
/// world's clock, files and threads.
const PROGRAMS: &[&str] = &[
    "bench",
    "bin",
    "client",
    "ctl",
    "inspect",
    "main.rs",
    "server/start.rs",
];

/// What a pure module or a simulated driver may not contain, and why.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    ("thread_rng", "randomness is an argument"),
    ("rand::random", "randomness is an argument"),
    ("RandomState", "iteration order would differ between runs"),
    ("HashMap::new", "a default hasher is random"),
    ("HashSet::new", "a default hasher is random"),
    ("thread_local!", "state hides from the simulator"),
    ("static mut", "state hides from the simulator"),
    ("println!", "output goes through the log"),
    ("eprintln!", "output goes through the log"),
    ("dbg!", "output goes through the log"),
    ("std::fs", "files belong to the env"),
    ("std::net::Tcp", "sockets belong to the env"),
    ("std::thread", "tasks belong to the env"),
    ("std::process::exit", "only main ends the process"),
];

/// What a pure module may not contain besides.
const ASYNC: &[&str] = &["async fn", "async move", "async {", ".await"];

/// Words that announce unfinished work, as whole words in any case. Written in halves, so that
/// this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("place", "holder"),
    concat!("st", "ub"),
    concat!("st", "ubs"),
    concat!("unimpl", "emented!"),
];

/// Phrases with the same fault.
const UNFINISHED_PHRASES: &[&str] = &[concat!("for ", "now"), concat!("to", "do!(")];

/// Paths of somebody's machine.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("arti", "factory"),
    concat!("/tmp/", "scratch"),
    concat!("/tmp/", "brief"),
];

const BANNED_FILES: &[&str] = &["utils.rs", "common.rs", "types.rs", "helpers.rs", "util.rs"];
const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 900;
/// A table of cases may be long.
const TEST_LINES_MAX: usize = 1200;
const FOLDER_DOC_LINES_MAX: usize = 40;

/// A source file and where it lies.
struct Source {
    /// Below the project's root.
    path: String,
    /// The first folder below `src/`, or the file's name without its ending.
    folder: String,
    text: String,
    /// Lines of the file before its inline tests.
    code_lines: usize,
    /// A test, a bench or a fuzz target, not code of the product.
    test: bool,
}

impl Source {
    /// The lines that are code of the product: numbers from 1, without comments and inline tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let product = if self.test { 0 } else { self.code_lines };
        self.text
            .lines()
            .take(product)
            .enumerate()
            .filter_map(|(index, line)| {
                let code = line.split("//").next().unwrap_or_default();
                (!code.trim().is_empty()).then_some((index + 1, code))
            })
    }

    fn tier(&self) -> &str {
        let first = self.text.lines().next().unwrap_or_default();
        let word = first
            .strip_prefix("//! ")
            .and_then(|doc| doc.split(' ').next());
        word.unwrap_or_default()
    }
}

/// Finds every place that breaks it.
type Rule = fn(&[Source]) -> Vec<String>;

pub fn tests() -> Vec<Trial> {
    let rules: [(&str, Rule); 11] = [
        ("imports_point_down", imports),
        ("crates_stay_in_their_folder", crate_homes),
        ("every_module_names_its_tier", tiers),
        ("simulated_code_is_deterministic", purity),
        ("pure_code_does_not_wait", no_async),
        ("unsafe_stays_in_runtime", unsafe_code),
        ("nothing_is_unfinished", unfinished),
        ("no_paths_of_a_machine", machine_paths),
        ("names_say_something", names),
        ("lines_and_files_are_short", sizes),
        ("unwrap_has_a_reason", unwraps),
    ];
    let trial = |(name, rule): (&str, Rule)| {
        Trial::test(format!("tidy::{name}"), move || {
            let faults = rule(&sources()?);
            match faults.is_empty() {
                true => Ok(()),
                false => Err(Failed::from(faults.join("\n"))),
            }
        })
    };
    let rules = rules.into_iter().map(trial);
    rules
        .chain([Trial::test("tidy::links_lead_somewhere", links)])
        .chain([Trial::test("tidy::rules_find_what_they_ban", rules_find)])
        .collect()
}

fn sources() -> Result<Vec<Source>, Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in [
        "src",
        "tests/it",
        "benches",
        "fuzz/fuzz_targets",
        "proto",
        "tuning",
    ] {
        if root.join(folder).is_dir() {
            collect(root, folder, &mut all)?;
        }
    }
    all.push(read(root, "build.rs")?);
    mark_tests(&mut all);
    Ok(all)
}

/// Marks the files of modules that are declared under `#[cfg(test)]`.
fn mark_tests(all: &mut [Source]) {
    let mut marked = Vec::new();
    for source in all.iter() {
        let folder = match source.path.strip_suffix("/mod.rs") {
            Some(folder) => folder,
            None => source.path.trim_end_matches(".rs"),
        };
        let mut under_test = false;
        for line in source.text.lines() {
            let name = line.trim_start_matches("pub ").strip_prefix("mod ");
            match name.and_then(|name| name.strip_suffix(';')) {
                Some(name) if under_test => marked.push(format!("{folder}/{name}")),
                _ => {}
            }
            // Other attributes may stand between.
            under_test = line == "#[cfg(test)]" || (under_test && line.starts_with("#["));
        }
    }
    for source in all {
        let below = |test: &String| {
            let rest = source.path.strip_prefix(test.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.test |= marked.iter().any(below);
    }
}

fn collect(root: &Path, folder: &str, all: &mut Vec<Source>) -> Result<(), Failed> {
    for entry in fs::read_dir(root.join(folder))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            if name != "target" {
                collect(root, &path, all)?;
            }
        } else if name.ends_with(".rs") || name.ends_with(".proto") || name.ends_with(".sh") {
            all.push(read(root, &path)?);
        }
    }
    Ok(())
}

fn read(root: &Path, path: &str) -> Result<Source, Failed> {
    Ok(source(path, fs::read_to_string(root.join(path))?))
}

fn source(path: &str, text: String) -> Source {
    let below = path.strip_prefix("src/").unwrap_or(path);
    let folder = match below.split_once('/') {
        Some((folder, _)) => folder,
        None => below.trim_end_matches(".rs"),
    };
    let lines: Vec<&str> = text.lines().collect();
    let tests = (0..lines.len()).find(|at| {
        lines[*at] == "#[cfg(test)]"
            && lines
                .get(at + 1)
                .is_some_and(|next| next.starts_with("mod tests {"))
    });
    let code_lines = tests.unwrap_or(lines.len());
    let folder = folder.to_owned();
    let path = path.to_owned();
    let test = !path.starts_with("src/");
    Source {
        path,
        folder,
        text,
        code_lines,
        test,
    }
}

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs"))
}

fn product(sources: &[Source]) -> impl Iterator<Item = &Source> {
    rust(sources).filter(|source| source.path.starts_with("src/") && !source.test)
}

fn is_program(source: &Source) -> bool {
    let below = source.path.strip_prefix("src/").unwrap_or_default();
    PROGRAMS.contains(&source.folder.as_str()) || PROGRAMS.contains(&below)
}

/// Every folder and what it may import, closed over the arrows.
fn import_table() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let below: BTreeMap<_, _> = IMPORTS.iter().copied().collect();
    let mut table = BTreeMap::new();
    for (folder, first) in IMPORTS {
        let mut allowed: BTreeSet<&str> = BASE.iter().map(|base| base.0).collect();
        let mut open: Vec<&str> = first.to_vec();
        while let Some(next) = open.pop() {
            if allowed.insert(next) {
                open.extend(below.get(next).copied().unwrap_or_default());
            }
        }
        allowed.insert(folder);
        table.insert(*folder, allowed);
    }
    for (folder, first) in BASE {
        let mut allowed: BTreeSet<&str> = first.iter().copied().collect();
        allowed.insert(folder);
        table.insert(*folder, allowed);
    }
    table
}

/// The folders that a line names after `crate::`.
fn named(line: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    let mut all = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        // `$crate::` and `other_crate::` are something else.
        if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                all.extend(list.split(',').map(|item| word(item.trim())));
            }
            None => all.push(word(rest)),
        }
    }
    all.retain(|name| !name.is_empty());
    all
}

fn imports(sources: &[Source]) -> Vec<String> {
    let table = import_table();
    let mut faults = Vec::new();
    for source in product(sources) {
        if matches!(source.folder.as_str(), "lib" | "main" | "bin") {
            continue;
        }
        let Some(allowed) = table.get(source.folder.as_str()) else {
            faults.push(format!(
                "{}: folder {} is not in the table",
                source.path, source.folder
            ));
            continue;
        };
        for (number, line) in source.code() {
            for name in named(line) {
                if !allowed.contains(name.as_str()) {
                    let (path, folder) = (&source.path, &source.folder);
                    faults.push(format!("{path}:{number}: {folder} may not import {name}"));
                }
            }
        }
    }
    faults
}

fn crate_homes(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in product(sources) {
        for (number, line) in source.code() {
            for (name, homes) in CRATE_HOMES {
                let used = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if used && !homes.contains(&source.folder.as_str()) {
                    faults.push(format!(
                        "{}:{number}: {name} belongs to {homes:?}",
                        source.path
                    ));
                }
            }
        }
    }
    faults
}

fn tiers(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in product(sources) {
        if source.path == "src/lib.rs" {
            continue;
        }
        let below = source.path.strip_prefix("src/").unwrap_or_default();
        let adapter = ["runtime", "sim"].contains(&source.folder.as_str());
        let adapter = adapter || ADAPTERS.contains(&below);
        match source.tier() {
            "Pure." | "Driver." => {}
            "Adapter." if adapter => {}
            "Adapter." => faults.push(format!("{}: adapters live in runtime/, sim/", source.path)),
            other => faults.push(format!("{}: the doc begins with {other:?}", source.path)),
        }
        let doc = source
            .text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        if source.path.ends_with("/mod.rs") && doc > FOLDER_DOC_LINES_MAX {
            faults.push(format!("{}: module doc of {doc} lines", source.path));
        }
    }
    faults
}

fn purity(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in product(sources) {
        if source.tier() == "Adapter." || is_program(source) || source.folder == "main" {
            continue;
        }
        for (number, line) in source.code() {
            for (banned, why) in IMPURE {
                if line.contains(banned) {
                    faults.push(format!("{}:{number}: {banned}: {why}", source.path));
                }
            }
        }
    }
    faults
}

fn no_async(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in product(sources).filter(|source| source.tier() == "Pure.") {
        for (number, line) in source.code() {
            if let Some(word) = ASYNC.iter().find(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: {word} in a pure module", source.path));
            }
        }
    }
    faults
}

fn unsafe_code(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    // A bench may call a store of another make through its unsafe door.
    let bound = |source: &&Source| {
        source.path.starts_with("src/") && !source.path.starts_with("src/runtime/")
    };
    for source in rust(sources).filter(bound) {
        for (index, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains("allow(unsafe_code)") {
                faults.push(format!(
                    "{}:{}: unsafe belongs to runtime/",
                    source.path,
                    index + 1
                ));
            }
        }
    }
    faults
}

/// Whether `line` has `word` with no letter or digit beside it, in any case.
fn has_word(line: &str, word: &str) -> bool {
    let (line, word) = (line.to_lowercase(), word.to_lowercase());
    let plain = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(&word).any(|(at, _)| {
        plain(line[..at].chars().next_back()) && plain(line[at + word.len()..].chars().next())
    })
}

fn unfinished(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            let words = UNFINISHED.iter().filter(|word| has_word(line, word));
            let phrases = UNFINISHED_PHRASES
                .iter()
                .filter(|text| line.contains(**text));
            for word in words.chain(phrases) {
                faults.push(format!("{}:{}: {word}", source.path, index + 1));
            }
        }
    }
    faults
}

fn machine_paths(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
                faults.push(format!("{}:{}: {path}", source.path, index + 1));
            }
        }
    }
    faults
}

fn names(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in rust(sources) {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        if BANNED_FILES.contains(&name) {
            faults.push(format!("{}: the name says nothing", source.path));
        }
        for (number, line) in source.code() {
            if line.contains(concat!("fn ", "get_")) {
                faults.push(format!(
                    "{}:{number}: a query is a noun, without get_",
                    source.path
                ));
            }
        }
    }
    faults
}

fn sizes(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let lines = source.text.lines().count();
        let lines_max = if source.test {
            TEST_LINES_MAX
        } else {
            FILE_LINES_MAX
        };
        if lines > lines_max {
            faults.push(format!("{}: {lines} lines", source.path));
        }
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                faults.push(format!("{}:{}: {columns} columns", source.path, index + 1));
            }
        }
    }
    faults
}

fn unwraps(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in product(sources).filter(|source| !is_program(source)) {
        for (number, line) in source.code() {
            if line.contains(".unwrap()") {
                let path = &source.path;
                faults.push(format!("{path}:{number}: expect(\"why it holds\") instead"));
            }
        }
    }
    faults
}

/// Catches a document that points to a page that was renamed or never written.
fn links() -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec!["README.md".to_owned(), "ARCHITECTURE.md".to_owned()];
    for folder in ["docs", "docs/format", "docs/decisions"] {
        if !root.join(folder).is_dir() {
            continue;
        }
        for entry in fs::read_dir(root.join(folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    let mut faults = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(root.join(page))?;
        let folder = root.join(page).parent().unwrap_or(root).to_owned();
        for (index, line) in text.lines().enumerate() {
            for link in line.split("](").skip(1) {
                let target = link.split([')', '#']).next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                    faults.push(format!("{page}:{}: no {target}", index + 1));
                }
            }
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Failed::from(faults.join("\n")))
    }
}

/// Catches a rule that finds nothing: each is shown a file that breaks it.
fn rules_find() -> Result<(), Failed> {
    let pure = "//! Pure. A file.\n\nuse crate::server::Start;\nuse glommio::io;\n\
                fn f() { std::time::Instant::now().elapsed().await; x.unwrap() }\n\
                fn get_it() {}\n#![allow(unsafe_code)]\n";
    let long = format!(
        "//! Something.\n// {}\n{}\n",
        concat!("TO", "DO"),
        "x".repeat(101)
    );
    let path = concat!("// see /wo", "rk/main\n").to_owned();
    let all = [
        source("src/btree/page.rs", pure.to_owned()),
        source("src/btree/utils.rs", long),
        source("src/nowhere/x.rs", path),
    ];
    let expected: [(&str, Vec<String>, usize); 11] = [
        ("imports", imports(&all), 2),
        ("crates", crate_homes(&all), 1),
        ("tiers", tiers(&all), 2),
        ("purity", purity(&all), 1),
        ("async", no_async(&all), 1),
        ("unsafe", unsafe_code(&all), 1),
        ("unfinished", unfinished(&all), 1),
        ("machine paths", machine_paths(&all), 1),
        ("names", names(&all), 2),
        ("sizes", sizes(&all), 1),
        ("unwraps", unwraps(&all), 1),
    ];
    for (rule, faults, count) in expected {
        if faults.len() != count {
            return Err(Failed::from(format!(
                "{rule}: {count} expected, found {faults:?}"
            )));
        }
    }
    let lists = named("use crate::{btree::Tree, wal}; crate::ids::X; $crate::y; a_crate::z");
    if lists != ["btree", "wal", "ids", "y"] {
        return Err(Failed::from(format!("crate paths read as {lists:?}")));
    }
    Ok(())
}
