//! Pure. From arguments, environment and config file to flag values: who may say what, and who
//! wins. Command line over environment; a config file silences both.

use super::error::ConfigError;
use super::flags::{Effect, Flags, Former, flag, former};
use super::gates::FeatureGates;
use super::value::{Value, ValueError};
use super::{Note, NoteLevel};
use std::collections::BTreeSet;

/// What the arguments ask for besides flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Run,
    Help,
    Version,
}

/// Flag values while they are gathered.
pub(super) struct Gathered {
    pub(super) flags: Flags,
    /// Flags that were given, whatever their value.
    pub(super) given: BTreeSet<&'static str>,
    pub(super) notes: Vec<Note>,
    pub(super) config_file: Option<String>,
    pub(super) asked: Asked,
    /// Gates switched by former flags: `--feature-gates` itself wins over them.
    gates: FeatureGates,
    ignored: BTreeSet<String>,
}

/// One name resolved: what happens to its value.
enum Target {
    Flag(&'static super::flags::Flag),
    Former(Former),
    ConfigFile,
    Version,
    Help,
}

impl Target {
    fn of(name: &str) -> Option<Target> {
        match name {
            "config-file" => Some(Target::ConfigFile),
            "version" => Some(Target::Version),
            "help" | "h" => Some(Target::Help),
            _ => flag(name)
                .map(Target::Flag)
                .or_else(|| former(name).map(Target::Former)),
        }
    }

    fn bare(&self) -> bool {
        match self {
            Target::Flag(flag) => flag.bare,
            Target::Former(Former::Current(current)) => flag(current).is_some_and(|f| f.bare),
            Target::Former(Former::Gate(_)) => true,
            Target::Former(Former::Nothing { bare }) => *bare,
            Target::ConfigFile => false,
            Target::Version | Target::Help => true,
        }
    }

    fn boolean(&self) -> bool {
        self.bare() && !matches!(self, Target::Former(Former::Nothing { .. }))
    }
}

impl Gathered {
    pub(super) fn new() -> Gathered {
        Gathered {
            flags: Flags::default(),
            given: BTreeSet::new(),
            notes: Vec::new(),
            config_file: None,
            asked: Asked::Run,
            gates: FeatureGates::default(),
            ignored: BTreeSet::new(),
        }
    }

    /// Takes the command line, without the program's name. A flag given twice: the last one wins.
    pub(super) fn arguments(&mut self, arguments: &[String]) -> Result<(), ConfigError> {
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
                return Err(match argument.as_str() {
                    "gateway" | "grpc-proxy" => ConfigError::Program(argument.clone()),
                    _ => ConfigError::NotAFlag(argument.clone()),
                });
            };
            let body = body.strip_prefix('-').unwrap_or(body);
            if body.is_empty() {
                // "--" ends the flags; nothing may follow.
                return match rest.next() {
                    Some(next) => Err(ConfigError::NotAFlag(next.clone())),
                    None => Ok(()),
                };
            }
            if body.starts_with(['-', '=']) {
                return Err(ConfigError::BadSyntax(argument.clone()));
            }
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            let target =
                Target::of(name).ok_or_else(|| ConfigError::NotDefined(name.to_owned()))?;
            let value = match value {
                Some(value) => value,
                None if target.bare() => "true",
                None => rest
                    .next()
                    .ok_or_else(|| ConfigError::NeedsArgument(name.to_owned()))?
                    .as_str(),
            };
            self.take(&target, name, value).map_err(|error| {
                let (value, flag) = (value.to_owned(), name.to_owned());
                match error {
                    ValueError::Syntax if target.boolean() => {
                        ConfigError::BadBoolean { value, flag }
                    }
                    error => ConfigError::BadValue { value, flag, error },
                }
            })?;
            if self.asked == Asked::Help {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the variables `ETCD_*`. Saying the same thing twice is a conflict.
    pub(super) fn environment(
        &mut self,
        variables: &[(String, String)],
    ) -> Result<(), ConfigError> {
        let on_command_line = self.given.clone();
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix("ETCD_") else {
                continue;
            };
            if ENVIRONMENT_ONLY.contains(&rest) || value.is_empty() {
                continue;
            }
            let name = rest.to_ascii_lowercase().replace('_', "-");
            let target = match Target::of(&name) {
                Some(target) if rest == flag_variable(&name) => target,
                _ => {
                    let text = format!("{variable}={value}");
                    self.warn(
                        "unrecognized environment variable",
                        "environment-variable",
                        &text,
                    );
                    continue;
                }
            };
            let current = match &target {
                Target::Flag(flag) => Some(flag.name),
                Target::Former(Former::Current(name)) => Some(*name),
                _ => None,
            };
            if current.is_some_and(|name| on_command_line.contains(name)) {
                return Err(ConfigError::Conflict {
                    variable: variable.clone(),
                });
            }
            if matches!(target, Target::ConfigFile) && self.config_file.is_some() {
                continue;
            }
            self.take(&target, &name, value)
                .map_err(|error| ConfigError::BadEnvironment {
                    value: value.clone(),
                    variable: variable.clone(),
                    error,
                })?;
        }
        Ok(())
    }

    /// Takes one entry of a config file. Unknown keys are tolerated.
    pub(super) fn file_entry(&mut self, key: &str, value: &FileValue) -> Result<(), ConfigError> {
        let target = match Target::of(key) {
            Some(target @ (Target::Flag(_) | Target::Former(_))) => target,
            _ => {
                self.warn("ignored an unknown key of the config file", "key", key);
                return Ok(());
            }
        };
        let text = match value {
            FileValue::Number(number) if target.nanoseconds() => format!("{number}ns"),
            FileValue::Number(number) => number.clone(),
            FileValue::Text(text) => text.clone(),
        };
        self.take(&target, key, &text)
            .map_err(|error| ConfigError::FileValue {
                key: key.to_owned(),
                value: text,
                error,
            })
    }

    fn take(&mut self, target: &Target, name: &str, value: &str) -> Result<(), ValueError> {
        match target {
            Target::ConfigFile => self.config_file = Some(value.to_owned()),
            Target::Version => {
                self.asked = if bool::parse(value)? {
                    Asked::Version
                } else {
                    Asked::Run
                };
            }
            Target::Help => self.asked = Asked::Help,
            Target::Flag(flag) => {
                self.flags
                    .set(flag.name, value)
                    .expect("the table's own name")?;
                self.given.insert(flag.name);
                if flag.effect == Effect::Ignored && !self.flags.is_default(flag.name) {
                    self.ignore(name);
                }
            }
            Target::Former(Former::Current(current)) => {
                self.flags
                    .set(current, value)
                    .expect("a test resolves every former name")?;
                self.given.insert(current);
                let ignored = flag(current).is_some_and(|flag| flag.effect == Effect::Ignored);
                if ignored && !self.flags.is_default(current) {
                    self.ignore(name);
                }
                self.warn("took the value of a flag's former name", "flag", name);
            }
            Target::Former(Former::Gate(gate)) => {
                let on = bool::parse(value)?;
                self.gates
                    .set(gate, on)
                    .expect("a test resolves every former name");
                self.warn("took a former flag as a feature gate", "flag", name);
            }
            Target::Former(Former::Nothing { .. }) => self.ignore(name),
        }
        Ok(())
    }

    /// Adds the gates of former flags to those of `--feature-gates`.
    pub(super) fn finish_gates(&mut self) {
        self.flags.feature_gates.merge(&self.gates);
    }

    fn ignore(&mut self, name: &str) {
        if self.ignored.insert(name.to_owned()) {
            self.warn(
                "flag is accepted for compatibility and ignored",
                "flag",
                name,
            );
        }
    }

    fn warn(&mut self, message: &'static str, field: &'static str, value: &str) {
        self.notes.push(Note {
            level: NoteLevel::Warn,
            message,
            field,
            value: value.to_owned(),
        });
    }
}

impl Target {
    fn nanoseconds(&self) -> bool {
        let name = match self {
            Target::Flag(flag) => flag.name,
            Target::Former(Former::Current(name)) => name,
            _ => return false,
        };
        flag(name).is_some_and(|flag| flag.nanoseconds)
    }
}

/// A scalar of a config file; lists arrive joined by commas.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum FileValue {
    /// A whole number as written.
    Number(String),
    Text(String),
}

/// Variables that are no flags, without their prefix.
const ENVIRONMENT_ONLY: [&str; 3] = ["UNSUPPORTED_ARCH", "VERIFY", "VERSION"];

fn flag_variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}
