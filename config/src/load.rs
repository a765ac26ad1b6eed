//! File, then environment, then flags: later ones win. An unknown key is an error that names the nearest known one.

use std::collections::BTreeMap;
use std::fmt;

use crate::broker;
use crate::config::{AgentConfig, Conflict, RENAMED};
use crate::definition::ConfigError;
use crate::nearest::nearest;
use crate::options::{ENVIRONMENT_PREFIX, variable_of};

/// Where a value that is not the default comes from, from the weakest to the strongest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command's own profile, for example `dev`.
    Profile(&'static str),
    /// The configuration file of this name.
    File(String),
    /// An environment variable.
    Environment(String),
    /// A flag on the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(command) => write!(f, "penstock {command}"),
            Self::File(name) => write!(f, "file {name}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// Everything that configures an agent, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The command's name and what it sets beneath all else.
    pub profile: Option<(&'static str, &'static [(&'static str, &'static str)])>,
    /// The configuration file's name and TOML text.
    pub file: Option<(String, String)>,
    /// The environment: name and value. Names without the prefix `PENSTOCK_` are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags in the order given: the flag as written, the key, the value.
    pub flags: Vec<(String, String, String)>,
}

/// A configuration and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: AgentConfig,
    /// Where each value that was set comes from, by key.
    pub sources: BTreeMap<&'static str, Source>,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file is not TOML.
    #[error("{file} is not TOML: {reason}")]
    NotToml {
        /// The file.
        file: String,
        /// What the parser says, in one line.
        reason: String,
    },
    /// A value in the file is a list or a date, which no option takes.
    #[error("{file}: {key} is {found}, which no option takes")]
    NotAValue {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What it is.
        found: &'static str,
    },
    /// The same key stands twice in the file, in two spellings.
    #[error("{file}: {key} is set twice")]
    Twice {
        /// The file.
        file: String,
        /// The key.
        key: String,
    },
    /// No option has this key.
    #[error("unknown option {key} ({origin}){}", suggestion(.nearest.as_deref()))]
    Unknown {
        /// The key or the variable.
        key: String,
        /// Where it was found.
        origin: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// A value is not of the option's type, or out of its range.
    #[error("{key}={value} ({origin}) {reason}")]
    Invalid {
        /// The option.
        key: String,
        /// The value as written; redacted if secret.
        value: String,
        /// Where it was found.
        origin: String,
        /// A half-sentence.
        reason: String,
    },
    /// One of Kafka's options has another name here.
    #[error("{key} ({origin}) is {ours} here: see docs/configuration.md")]
    Renamed {
        /// Kafka's name.
        key: String,
        /// Where it was found.
        origin: String,
        /// Our name.
        ours: &'static str,
    },
    /// A value of one of Kafka's broker options was refused.
    #[error("{error} ({origin})")]
    Kafka {
        /// Where it was found.
        origin: String,
        /// What is wrong.
        error: ConfigError,
    },
    /// A flag of the form `key=value` has no `=`.
    #[error("--set {argument} has no =: write --set key=value")]
    NoValue {
        /// The argument.
        argument: String,
    },
    /// Options that don't go together.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// The keys that can be set: the agent's own, and Kafka's.
fn known_keys() -> impl Iterator<Item = &'static str> {
    let kafkas = broker::DEFINITIONS.iter().map(|definition| definition.option.name);
    AgentConfig::definitions().map(|definition| definition.key).chain(kafkas)
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}

/// Splits the argument of `--set`.
pub fn split_assignment(argument: &str) -> Result<(String, String), LoadError> {
    match argument.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err(LoadError::NoValue { argument: argument.to_owned() }),
    }
}

/// Brings file, environment and flags together and checks the whole.
pub fn load(inputs: &Inputs) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded { config: AgentConfig::default(), sources: BTreeMap::new() };
    if let Some((command, settings)) = inputs.profile {
        for (key, value) in settings {
            loaded.set(key, value, Source::Profile(command))?;
        }
    }
    if let Some((name, text)) = &inputs.file {
        for (key, value) in flatten_file(name, text)? {
            loaded.set(&key, &value, Source::File(name.clone()))?;
        }
    }
    for (variable, value) in &inputs.environment {
        if let Some(key) = key_of_variable(variable)? {
            loaded.set(key, value, Source::Environment(variable.clone()))?;
        }
    }
    for (flag, key, value) in &inputs.flags {
        loaded.set(key, value, Source::Flag(flag.clone()))?;
    }
    loaded.config.validate()?;
    Ok(loaded)
}

impl Loaded {
    fn set(&mut self, key: &str, value: &str, source: Source) -> Result<(), LoadError> {
        let Some(definition) = AgentConfig::definitions().find(|definition| definition.key == key) else {
            return self.set_kafka(key, value, source);
        };
        let outcome = self.config.set(key, value).expect("a key with a definition is some component's");
        outcome.map_err(|reason| LoadError::Invalid {
            key: key.to_owned(),
            value: if definition.secret { "[redacted]".into() } else { value.to_owned() },
            origin: source.to_string(),
            reason,
        })?;
        self.sources.insert(definition.key, source);
        Ok(())
    }

    /// One of Kafka's broker options that this agent has no option of its own for.
    fn set_kafka(&mut self, key: &str, value: &str, source: Source) -> Result<(), LoadError> {
        let origin = source.to_string();
        if let Some((_, ours)) = RENAMED.iter().find(|(kafka, _)| *kafka == key) {
            return Err(LoadError::Renamed { key: key.to_owned(), origin, ours });
        }
        let Some(definition) = broker::definition(key) else {
            return Err(LoadError::Unknown {
                key: key.to_owned(),
                origin,
                nearest: nearest(key, known_keys()).map(str::to_owned),
            });
        };
        definition.option.parse(value).map_err(|error| LoadError::Kafka { origin, error })?;
        self.config.kafka.insert(key.to_owned(), value.trim().to_owned());
        self.sources.insert(definition.option.name, source);
        Ok(())
    }

    /// Every option that was set: key, value (redacted if secret), source; in the order of the reference page, then
    /// Kafka's own by name.
    pub fn effective(&self) -> Vec<(&'static str, String, &Source)> {
        let ours = AgentConfig::definitions().filter_map(|definition| {
            let source = self.sources.get(definition.key)?;
            Some((definition.key, self.config.show(definition.key)?, source))
        });
        let kafkas = self
            .sources
            .iter()
            .filter_map(|(key, source)| Some((*key, self.config.kafka.get(*key)?.clone(), source)));
        ours.chain(kafkas).collect()
    }
}

/// Variables with the prefix that configure commands rather than agents.
pub const OTHER_VARIABLES: &[&str] = &["PENSTOCK_CONFIG", "PENSTOCK_BOOTSTRAP", "PENSTOCK_AGENT_HTTP"];

/// The key of a variable; `None` for a variable that is none of ours.
fn key_of_variable(variable: &str) -> Result<Option<&'static str>, LoadError> {
    if !variable.starts_with(ENVIRONMENT_PREFIX) || OTHER_VARIABLES.contains(&variable) {
        return Ok(None);
    }
    if let Some(key) = known_keys().find(|key| variable_of(key) == variable) {
        return Ok(Some(key));
    }
    if is_service_link(variable) {
        return Ok(None);
    }
    let known: Vec<String> = known_keys().map(variable_of).collect();
    Err(LoadError::Unknown {
        key: variable.to_owned(),
        origin: "environment".to_owned(),
        nearest: nearest(variable, known.iter().map(String::as_str)).map(str::to_owned),
    })
}

/// Kubernetes gives every container variables about the services of its namespace: a service named `penstock` makes
/// `PENSTOCK_SERVICE_HOST`, `PENSTOCK_PORT_9092_TCP_ADDR` and the like, and `penstock-x` makes `PENSTOCK_X_…`.
fn is_service_link(variable: &str) -> bool {
    let words: Vec<&str> = variable.split('_').skip(1).collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    (0..words.len()).any(|at| match &words[at..] {
        ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] | ["PORT"] => true,
        ["PORT", number, "TCP" | "UDP" | "SCTP", ..] => is_number(number),
        _ => false,
    })
}

/// The keys and values of a TOML text: flat keys in quotes, or tables within tables joined by dots.
fn flatten_file(name: &str, text: &str) -> Result<BTreeMap<String, String>, LoadError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| LoadError::NotToml {
        file: name.to_owned(),
        reason: one_line(&error, text),
    })?;
    let mut flat = BTreeMap::new();
    flatten_table(name, "", table, &mut flat)?;
    Ok(flat)
}

fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    line.map_or(message.clone(), |line| format!("line {line}: {message}"))
}

fn flatten_table(
    file: &str,
    prefix: &str,
    table: toml::Table,
    flat: &mut BTreeMap<String, String>,
) -> Result<(), LoadError> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let refuse = |found| LoadError::NotAValue { file: file.to_owned(), key: key.clone(), found };
        let text = match value {
            toml::Value::Table(inner) => {
                flatten_table(file, &key, inner, flat)?;
                continue;
            }
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Array(_) => return Err(refuse("a list")),
            toml::Value::Datetime(_) => return Err(refuse("a date")),
        };
        if flat.insert(key.clone(), text).is_some() {
            return Err(LoadError::Twice { file: file.to_owned(), key });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
