//! Pure. A config file, YAML or JSON: keys are flag names, and some stand in maps of their own.

use super::error::ConfigError;
use super::parse::{FileValue, Gathered};
use serde_yaml_ng::Value as Yaml;

/// How a key of a map becomes a flag's name.
type Rename = fn(&str) -> String;

/// Maps and how their keys become flag names.
const MAPS: [(&str, Rename); 4] = [
    ("client-transport-security", client_key),
    ("peer-transport-security", peer_key),
    ("socket-options", |key| format!("socket-{key}")),
    ("discovery-config", |key| match key {
        "discovery-endpoints" | "endpoints" => "discovery-endpoints".to_owned(),
        key => format!(
            "discovery-{}",
            key.strip_prefix("discovery-").unwrap_or(key)
        ),
    }),
];

fn client_key(key: &str) -> String {
    match key {
        "allowed-hostname" | "allowed-hostnames" => "client-cert-allowed-hostname".to_owned(),
        key => key.to_owned(),
    }
}

fn peer_key(key: &str) -> String {
    match key {
        "allowed-cn" | "allowed-cns" => "peer-cert-allowed-cn".to_owned(),
        "allowed-hostname" | "allowed-hostnames" => "peer-cert-allowed-hostname".to_owned(),
        key => format!("peer-{key}"),
    }
}

/// Feeds every entry of the file's text to `gathered`.
pub(super) fn read(path: &str, text: &str, gathered: &mut Gathered) -> Result<(), ConfigError> {
    let syntax = |error: String| ConfigError::FileSyntax {
        path: path.to_owned(),
        error,
    };
    let root: Yaml = serde_yaml_ng::from_str(text).map_err(|error| syntax(error.to_string()))?;
    let entries = match root {
        Yaml::Mapping(entries) => entries,
        Yaml::Null => return Ok(()),
        _ => return Err(syntax("the top level is not a map".to_owned())),
    };
    for (key, value) in &entries {
        let Some(key) = key.as_str() else {
            return Err(syntax("a key is not a string".to_owned()));
        };
        let map = MAPS.iter().find(|(name, _)| *name == key);
        match (map, value) {
            (Some((_, rename)), Yaml::Mapping(entries)) => {
                for (key, value) in entries {
                    if let (Some(key), Some(value)) = (key.as_str(), scalar(value)) {
                        gathered.file_entry(&rename(key), &value)?;
                    }
                }
            }
            (_, value) => {
                if let Some(value) = scalar(value) {
                    gathered.file_entry(key, &value)?;
                }
            }
        }
    }
    Ok(())
}

/// A scalar or list as flag text. Null leaves the default, and maps in odd places say nothing.
fn scalar(value: &Yaml) -> Option<FileValue> {
    match value {
        Yaml::Bool(value) => Some(FileValue::Text(value.to_string())),
        Yaml::Number(value) if value.is_f64() => {
            // Large whole numbers in JSON may be written with an exponent.
            let number = value.as_f64()?;
            let whole = number.fract() == 0.0 && number.abs() < 1e18;
            Some(FileValue::Number(if whole {
                (number as i64).to_string()
            } else {
                number.to_string()
            }))
        }
        Yaml::Number(value) => Some(FileValue::Number(value.to_string())),
        Yaml::String(value) => Some(FileValue::Text(value.clone())),
        Yaml::Sequence(values) => {
            let words: Vec<String> = values
                .iter()
                .filter_map(|value| match scalar(value)? {
                    FileValue::Number(text) | FileValue::Text(text) => Some(text),
                })
                .collect();
            Some(FileValue::Text(words.join(",")))
        }
        _ => None,
    }
}
