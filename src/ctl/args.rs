//! Pure. The command line of `ringboltctl`: flags anywhere, commands by unambiguous prefix.

use crate::config::parse_duration;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How a flag's value is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Bool,
    Text,
    Int,
    Time,
    List,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub struct FlagSpec {
    pub name: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
}

/// One command.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec<V: 'static> {
    pub verb: V,
    pub path: &'static [&'static str],
    pub usage: &'static str,
    pub help: &'static str,
    pub flags: &'static [FlagSpec],
}

/// A command line that could not be read, or asked for help. The text goes to stderr (an error) or
/// stdout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArgsError {
    Wrong { text: String, code: i32 },
    Help(String),
}

/// A command line as read.
#[derive(Clone, Debug)]
pub struct Parsed<V: 'static> {
    pub command: &'static CommandSpec<V>,
    /// What follows the command, flags removed. Bytes: keys need not be UTF-8.
    pub args: Vec<Vec<u8>>,
    values: BTreeMap<&'static str, Vec<String>>,
    defaults: BTreeMap<&'static str, &'static str>,
}

impl<V> Parsed<V> {
    /// Whether the flag was given.
    pub fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The last value of a flag, or its default.
    pub fn text(&self, name: &str) -> &str {
        match self.values.get(name).and_then(|values| values.last()) {
            Some(value) => value,
            None => self.defaults.get(name).copied().unwrap_or(""),
        }
    }

    pub fn bool(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A number; the parser has checked it.
    pub fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// A duration; the parser has checked it.
    pub fn time(&self, name: &str) -> Duration {
        parse_duration(self.text(name)).unwrap_or_default()
    }

    /// All words of a list flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        match self.values.get(name) {
            Some(values) => values.iter().flat_map(|value| words(value)).collect(),
            None => words(self.defaults.get(name).copied().unwrap_or("")),
        }
    }
}

/// The grammar: global flags and commands.
pub struct Grammar<V: 'static> {
    pub program: &'static str,
    pub about: &'static str,
    pub globals: &'static [FlagSpec],
    pub commands: &'static [CommandSpec<V>],
    /// Prefix of environment variables that stand for global flags.
    pub variable_prefix: &'static str,
}

impl<V: Copy> Grammar<V> {
    /// Reads arguments (without the program's name) and variables.
    pub fn parse(
        &self,
        arguments: &[Vec<u8>],
        environment: &[(String, String)],
    ) -> Result<Parsed<V>, ArgsError> {
        let mut path: Vec<&'static str> = Vec::new();
        let mut command: Option<&'static CommandSpec<V>> = None;
        let mut args = Vec::new();
        let mut values: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut rest = arguments.iter();
        let mut flags_over = false;
        let mut help = false;
        while let Some(argument) = rest.next() {
            if flags_over || argument.len() < 2 || argument[0] != b'-' {
                if command.is_none() {
                    command = self.step(&mut path, argument)?;
                } else {
                    args.push(argument.clone());
                }
                continue;
            }
            if argument == b"--" {
                flags_over = true;
                // A watch hands what follows to a command: the mark itself must be seen.
                if command.is_some_and(|command| command.path == ["watch"]) {
                    args.push(argument.clone());
                }
                continue;
            }
            let text = String::from_utf8_lossy(argument).into_owned();
            if text == "--help" || text == "-h" {
                help = true;
                continue;
            }
            let (flag, inline) = self.flag(command, &text)?;
            let value = match inline {
                Some(value) => value,
                None if flag.kind == Kind::Bool => "true".to_owned(),
                None => match rest.next() {
                    Some(value) => String::from_utf8_lossy(value).into_owned(),
                    None => {
                        let text = format!("flag needs an argument: {text}");
                        return Err(self.wrong(command, text));
                    }
                },
            };
            let value = check(flag, &value).map_err(|why| {
                let short = flag.short.map(|c| format!("-{c}, ")).unwrap_or_default();
                let name = flag.name;
                let text =
                    format!("invalid argument {value:?} for \"{short}--{name}\" flag: {why}");
                self.wrong(command, text)
            })?;
            values.entry(flag.name).or_default().push(value);
        }
        let Some(command) = command else {
            return Err(ArgsError::Help(self.group_help(&path)));
        };
        if help {
            return Err(ArgsError::Help(self.command_help(command)));
        }
        self.environment(environment, &mut values)?;
        let all = self.globals.iter().chain(command.flags);
        let defaults = all.map(|flag| (flag.name, flag.default)).collect();
        Ok(Parsed {
            command,
            args,
            values,
            defaults,
        })
    }

    /// Reads the words of a line as one of `names`, as a transaction's operations are written.
    pub fn parse_line(
        &self,
        words: &[Vec<u8>],
        names: &[&str],
    ) -> Result<Option<Parsed<V>>, ArgsError> {
        match words.first() {
            Some(first) if names.iter().any(|name| name.as_bytes() == first.as_slice()) => {
                self.parse(words, &[]).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Takes one word of the command's path; answers the command when the path is complete.
    fn step(
        &self,
        path: &mut Vec<&'static str>,
        word: &[u8],
    ) -> Result<Option<&'static CommandSpec<V>>, ArgsError> {
        let word = String::from_utf8_lossy(word).into_owned();
        let depth = path.len();
        let mut names: Vec<&'static str> = self
            .commands
            .iter()
            .filter(|command| command.path.len() > depth && command.path[..depth] == path[..])
            .map(|command| command.path[depth])
            .collect();
        names.sort_unstable();
        names.dedup();
        let exact = names.iter().find(|name| **name == word).copied();
        let mut begun = names.iter().filter(|name| name.starts_with(&word));
        let found = match (exact, begun.next(), begun.next()) {
            (Some(name), ..) | (None, Some(&name), None) => name,
            _ => {
                let parent: String = path
                    .iter()
                    .fold(self.program.to_owned(), |all, word| all + " " + word);
                let text = format!(
                    "unknown command {word:?} for {parent:?}\nRun '{parent} --help' for usage."
                );
                return Err(ArgsError::Wrong { text, code: 1 });
            }
        };
        path.push(found);
        Ok(self
            .commands
            .iter()
            .find(|command| command.path == path.as_slice()))
    }

    /// Finds the flag of `--name`, `--name=value`, `-n` or `-nvalue`.
    fn flag(
        &self,
        command: Option<&'static CommandSpec<V>>,
        text: &str,
    ) -> Result<(&'static FlagSpec, Option<String>), ArgsError> {
        let own = command.map_or(&[][..], |command| command.flags);
        let mut all = self.globals.iter().chain(own);
        if let Some(long) = text.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            return match all.find(|flag| flag.name == name) {
                Some(flag) => Ok((flag, value)),
                None => Err(self.wrong(command, format!("unknown flag: --{name}"))),
            };
        }
        let mut chars = text.chars().skip(1);
        let short = chars.next();
        let value: String = chars.collect();
        match all.find(|flag| flag.short == short && short.is_some()) {
            Some(flag) => {
                let value = value.strip_prefix('=').unwrap_or(&value);
                Ok((flag, (!value.is_empty()).then(|| value.to_owned())))
            }
            None => {
                let short = short.unwrap_or('-');
                let text = format!("unknown shorthand flag: {short:?} in {text}");
                Err(self.wrong(command, text))
            }
        }
    }

    /// Takes global flags from variables. Saying the same thing twice is a conflict.
    fn environment(
        &self,
        environment: &[(String, String)],
        values: &mut BTreeMap<&'static str, Vec<String>>,
    ) -> Result<(), ArgsError> {
        for flag in self.globals {
            let name = flag.name.to_ascii_uppercase().replace('-', "_");
            let variable = format!("{}{name}", self.variable_prefix);
            let Some((_, value)) = environment.iter().find(|(name, _)| *name == variable) else {
                continue;
            };
            if value.is_empty() {
                continue;
            }
            if values.contains_key(flag.name) {
                let text = format!(
                    "conflicting environment variable is shadowed by corresponding command-line \
                     flag (either unset environment variable or disable flag): {variable}"
                );
                return Err(ArgsError::Wrong { text, code: 1 });
            }
            let value = check(flag, value).map_err(|why| {
                let text = format!("invalid value {value:?} for {variable}: {why}");
                ArgsError::Wrong { text, code: 1 }
            })?;
            values.insert(flag.name, vec![value]);
        }
        Ok(())
    }

    /// An error with the usage under it.
    fn wrong(&self, command: Option<&'static CommandSpec<V>>, text: String) -> ArgsError {
        let usage = match command {
            Some(command) => self.usage(command),
            None => self.group_help(&[]),
        };
        ArgsError::Wrong {
            text: format!("{text}\n{usage}"),
            code: 1,
        }
    }

    fn usage(&self, command: &CommandSpec<V>) -> String {
        let mut out = format!(
            "Usage:\n  {} {} [flags]\n\nFlags:\n",
            self.program, command.usage
        );
        put_flags(&mut out, command.flags);
        out
    }

    fn command_help(&self, command: &CommandSpec<V>) -> String {
        let mut out = format!("{}\n\n{}", command.help, self.usage(command));
        out.push_str("\nGlobal Flags:\n");
        put_flags(&mut out, self.globals);
        out
    }

    /// The commands under a path; the empty path is the program.
    pub fn group_help(&self, path: &[&str]) -> String {
        let mut out = String::new();
        if path.is_empty() {
            out.push_str(self.about);
            out.push_str("\n\n");
        }
        let prefix = path
            .iter()
            .fold(self.program.to_owned(), |all, word| all + " " + word);
        let _ = write!(out, "Usage:\n  {prefix} [command]\n\nAvailable Commands:\n");
        for command in self.commands {
            if command.path.len() > path.len() && command.path[..path.len()] == *path {
                let name = command.path[path.len()..].join(" ");
                let _ = writeln!(out, "  {name:<20} {}", command.help);
            }
        }
        if path.is_empty() {
            out.push_str("\nFlags:\n");
            put_flags(&mut out, self.globals);
        }
        out
    }
}

fn put_flags(out: &mut String, flags: &[FlagSpec]) {
    for flag in flags {
        let short = flag
            .short
            .map_or("    ".to_owned(), |short| format!("-{short}, "));
        let kind = match flag.kind {
            Kind::Bool => "",
            Kind::Text => " string",
            Kind::Int => " int",
            Kind::Time => " duration",
            Kind::List => " strings",
        };
        let name = format!("{}{kind}", flag.name);
        let _ = write!(out, "  {short}--{name:<28} {}", flag.help);
        let shown = !matches!(flag.default, "" | "0" | "false");
        if shown {
            let _ = write!(out, " (default {})", flag.default);
        }
        out.push('\n');
    }
}

/// Checks a value's grammar; booleans become `true` or `false`.
fn check(flag: &FlagSpec, value: &str) -> Result<String, String> {
    let syntax = |call: &str| format!("{call}: parsing {value:?}: invalid syntax");
    match flag.kind {
        Kind::Bool => match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_owned()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_owned()),
            _ => Err(syntax("strconv.ParseBool")),
        },
        Kind::Int => match value.parse::<i64>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => Err(syntax("strconv.ParseInt")),
        },
        Kind::Time => match parse_duration(value) {
            Some(_) => Ok(value.to_owned()),
            None => Err(wrong_duration(value)),
        },
        Kind::Text | Kind::List => Ok(value.to_owned()),
    }
}

/// What Go says of text that is no duration: the first of its parts that is no number with a unit.
fn wrong_duration(text: &str) -> String {
    const UNITS: [&str; 8] = ["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"];
    let numeric = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.trim_start_matches(['+', '-']);
    while rest.starts_with(numeric) {
        rest = rest.trim_start_matches(numeric);
        let (unit, after) = rest.split_at(rest.find(numeric).unwrap_or(rest.len()));
        if unit.is_empty() {
            return format!("time: missing unit in duration {text:?}");
        }
        if !UNITS.contains(&unit) {
            return format!("time: unknown unit {unit:?} in duration {text:?}");
        }
        rest = after;
    }
    format!("time: invalid duration {text:?}")
}

/// Splits a line into words as etcdctl's transactions do: blanks part them, single quotes keep
/// text as it is, double quotes keep blanks and read Go's escapes. `None` when a quote stays open
/// or an escape is wrong.
pub fn split_words(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                let (word, after) = unquote_prefix(rest)?;
                words.push(word);
                rest = after;
            }
            '\'' => {
                let (word, after) = rest[1..].split_once('\'')?;
                words.push(word.as_bytes().to_vec());
                rest = after;
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(rest.as_bytes()[..end].to_vec());
                rest = &rest[end..];
            }
        }
        rest = rest.trim_start();
    }
    Some(words)
}

/// Reads a Go string literal at the beginning of `text`, in double quotes or back quotes; answers
/// its bytes and what follows.
pub fn unquote_prefix(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let (body, after) = rest.split_once('`')?;
        return Some((body.as_bytes().to_vec(), after));
    }
    let mut rest = text.strip_prefix('"')?.chars();
    let mut out = Vec::new();
    let put = |out: &mut Vec<u8>, c: char| {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    };
    let number = |rest: &mut std::str::Chars<'_>, digits: usize, radix: u32| {
        let text = rest.as_str().get(..digits)?;
        let value = u32::from_str_radix(text, radix).ok()?;
        rest.nth(digits - 1);
        Some(value)
    };
    loop {
        match rest.next()? {
            '"' => return Some((out, rest.as_str())),
            '\\' => match rest.clone().next()? {
                '0'..='7' => out.push(u8::try_from(number(&mut rest, 3, 8)?).ok()?),
                escape => {
                    rest.next();
                    match escape {
                        'a' => out.push(7),
                        'b' => out.push(8),
                        'f' => out.push(12),
                        'n' => out.push(b'\n'),
                        'r' => out.push(b'\r'),
                        't' => out.push(b'\t'),
                        'v' => out.push(11),
                        '\\' | '"' | '\'' => out.push(escape as u8),
                        'x' => out.push(number(&mut rest, 2, 16)? as u8),
                        'u' => put(&mut out, char::from_u32(number(&mut rest, 4, 16)?)?),
                        'U' => put(&mut out, char::from_u32(number(&mut rest, 8, 16)?)?),
                        _ => return None,
                    }
                }
            },
            c => put(&mut out, c),
        }
    }
}
