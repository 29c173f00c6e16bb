//! Pure. Feature gates: switches for features that are not settled, by name and stage.

use super::value::{Value, ValueError};
use std::collections::BTreeMap;
use std::fmt;

/// How settled a feature is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Alpha,
    Beta,
}

impl Stage {
    /// As the metric `etcd_server_feature_enabled` labels it.
    pub const fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

/// Every gate: name, stage, default.
pub const GATES: [(&str, Stage, bool); 9] = [
    ("CompactHashCheck", Stage::Alpha, false),
    ("FastLeaseKeepAlive", Stage::Beta, true),
    ("InitialCorruptCheck", Stage::Alpha, false),
    ("LeaseCheckpoint", Stage::Alpha, false),
    ("LeaseCheckpointPersist", Stage::Alpha, false),
    ("PriorityRequest", Stage::Alpha, false),
    ("SetMemberLocalAddr", Stage::Alpha, false),
    ("StopGRPCServiceOnDefrag", Stage::Alpha, false),
    ("TxnModeWriteWithSharedBuffer", Stage::Beta, true),
];

/// Switches for all gates of a stage; a gate's own name wins over them.
const ALL: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

/// What `--feature-gates` says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FeatureGates {
    given: BTreeMap<String, bool>,
}

/// Why a list of gates is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GateError {
    MissingValue(String),
    NotBoolean { gate: String, value: String },
    Unknown(String),
}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GateError::MissingValue(gate) => write!(f, "missing bool value for {gate}"),
            GateError::NotBoolean { gate, value } => {
                write!(f, "invalid value of {gate}={value}, err: parse error")
            }
            GateError::Unknown(gate) => write!(f, "unrecognized feature gate: {gate}"),
        }
    }
}

impl std::error::Error for GateError {}

impl FeatureGates {
    /// Parses `Name=bool,Name=bool`.
    pub fn parse(text: &str) -> Result<FeatureGates, GateError> {
        let mut gates = FeatureGates::default();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| GateError::MissingValue(pair.trim().to_owned()))?;
            let (name, value) = (name.trim(), value.trim());
            let on = bool::parse(value).map_err(|_: ValueError| GateError::NotBoolean {
                gate: name.to_owned(),
                value: value.to_owned(),
            })?;
            gates.set(name, on)?;
        }
        Ok(gates)
    }

    /// Switches one gate, or all of a stage.
    pub fn set(&mut self, name: &str, on: bool) -> Result<(), GateError> {
        let known = GATES.iter().any(|gate| gate.0 == name) || ALL.iter().any(|all| all.0 == name);
        if !known {
            return Err(GateError::Unknown(name.to_owned()));
        }
        self.given.insert(name.to_owned(), on);
        Ok(())
    }

    /// Adds the gates of `other` that are not given here.
    pub(super) fn merge(&mut self, other: &FeatureGates) {
        for (name, on) in &other.given {
            self.given.entry(name.clone()).or_insert(*on);
        }
    }

    /// Whether the gate `name` is on. Panics for a name that is not in [`GATES`].
    pub fn enabled(&self, name: &str) -> bool {
        let gate = GATES
            .iter()
            .find(|gate| gate.0 == name)
            .expect("callers name known gates");
        if let Some(on) = self.given.get(name) {
            return *on;
        }
        let all = ALL
            .iter()
            .find(|all| all.1 == gate.1)
            .and_then(|all| self.given.get(all.0));
        all.copied().unwrap_or(gate.2)
    }

    /// Every gate and switch with its stage and state, as the metric shows them.
    pub fn all(&self) -> Vec<(String, String, bool)> {
        let switches = ALL.iter().map(|(name, stage)| {
            let on = self.given.get(*name).copied().unwrap_or(false);
            (name.to_string(), stage.label().to_owned(), on)
        });
        let gates = GATES.iter().map(|(name, stage, _)| {
            (
                name.to_string(),
                stage.label().to_owned(),
                self.enabled(name),
            )
        });
        switches.chain(gates).collect()
    }
}
