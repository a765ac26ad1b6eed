//! `penstock configs`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand, ValueEnum};
use rdkafka::admin::{AlterConfig, ConfigEntry, ConfigSource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use super::CommandError;
use super::client::{Admin, ConnectArguments};
use super::error::{Outcome, code_text};
use super::output::{OutputArguments, Table};

/// The arguments of `configs`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct ConfigsArguments {
    #[command(subcommand)]
    command: ConfigsCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigsCommand {
    /// Show the options of a topic or broker
    #[command(
        after_help = "Examples:\n  penstock configs describe topic orders\n  penstock configs describe broker 1 --all"
    )]
    Describe {
        #[command(flatten)]
        resource: ResourceArguments,
        /// Show defaults too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Change options of a topic or broker
    #[command(
        after_help = "Example:\n  penstock configs alter topic orders --set retention.ms=3600000 --delete cleanup.policy"
    )]
    Alter {
        #[command(flatten)]
        resource: ResourceArguments,
        /// Set an option; can be given several times
        #[arg(long = "set", short = 's', value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Set an option back to its default; can be given several times
        #[arg(long = "delete", short = 'd', value_name = "KEY")]
        deleted: Vec<String>,
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ResourceKind {
    Topic,
    Broker,
}

/// Whose options.
#[derive(Debug, Args)]
struct ResourceArguments {
    /// Whether a topic's or a broker's options
    #[arg(value_name = "topic|broker")]
    kind: ResourceKind,
    /// The topic's name or the broker's id
    name: String,
}

impl ResourceArguments {
    fn label(&self) -> String {
        match self.kind {
            ResourceKind::Topic => self.name.clone(),
            ResourceKind::Broker => format!("broker {}", self.name),
        }
    }

    fn specifier(&self) -> Result<ResourceSpecifier<'_>, CommandError> {
        match self.kind {
            ResourceKind::Topic => Ok(ResourceSpecifier::Topic(&self.name)),
            ResourceKind::Broker => self
                .name
                .parse()
                .map(ResourceSpecifier::Broker)
                .map_err(|_| CommandError::Usage(format!("{} is not a broker's id", self.name))),
        }
    }
}

#[derive(Debug, Serialize)]
struct ShownConfig {
    name: String,
    value: Option<String>,
    source: &'static str,
    read_only: bool,
}

/// What is to be set, and what set back.
#[derive(Debug)]
pub(super) struct Changes {
    set: BTreeMap<String, String>,
    deleted: Vec<String>,
}

impl Changes {
    /// Reads `key=value` arguments.
    pub(super) fn new(set: &[String], deleted: &[String]) -> Result<Self, CommandError> {
        let set = assignments(set)?;
        if let Some(both) = deleted.iter().find(|key| set.contains_key(*key)) {
            return Err(CommandError::Usage(format!("{both} can't be set and deleted at once")));
        }
        Ok(Self { set, deleted: deleted.to_vec() })
    }

    /// Whether nothing is to be changed.
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.deleted.is_empty()
    }
}

/// `key=value` arguments as a map.
pub(super) fn assignments(arguments: &[String]) -> Result<BTreeMap<String, String>, CommandError> {
    let mut map = BTreeMap::new();
    for argument in arguments {
        let (key, value) = argument
            .split_once('=')
            .ok_or_else(|| CommandError::Usage(format!("{argument} has no =: write KEY=VALUE")))?;
        if map.insert(key.trim().to_owned(), value.to_owned()).is_some() {
            return Err(CommandError::Usage(format!("{key} is given twice")));
        }
    }
    Ok(map)
}

pub(super) fn run(arguments: &ConfigsArguments) -> Outcome {
    match &arguments.command {
        ConfigsCommand::Describe { resource, all, connect, output } => {
            describe(resource, *all, connect, output)
        }
        ConfigsCommand::Alter { resource, set, deleted, connect, output } => {
            let changes = Changes::new(set, deleted)?;
            if changes.is_empty() {
                return Err(CommandError::Usage("nothing to alter: give --set or --delete".into()));
            }
            alter(&connect.admin()?, resource.specifier()?, &changes)?;
            output
                .print_line(&serde_json::json!({"done": "altered"}), &format!("altered {}", resource.label()))
        }
    }
}

fn describe(
    resource: &ResourceArguments,
    all: bool,
    connect: &ConnectArguments,
    output: &OutputArguments,
) -> Outcome {
    let entries = entries(&connect.admin()?, resource.specifier()?)?;
    let mut shown: Vec<ShownConfig> = entries
        .into_iter()
        .filter(|entry| all || entry.source != ConfigSource::Default)
        .map(|entry| ShownConfig {
            source: source_name(&entry.source),
            name: entry.name,
            value: entry.value,
            read_only: entry.is_read_only,
        })
        .collect();
    shown.sort_by(|left, right| left.name.cmp(&right.name));
    output.print(&shown, || {
        let mut table = Table::new(["OPTION", "VALUE", "FROM"]);
        for config in &shown {
            table.row([
                config.name.clone(),
                config.value.clone().unwrap_or_default(),
                config.source.to_owned(),
            ]);
        }
        table
    })
}

fn source_name(source: &ConfigSource) -> &'static str {
    match source {
        ConfigSource::Unknown => "unknown",
        ConfigSource::DynamicTopic => "topic",
        ConfigSource::DynamicBroker => "broker",
        ConfigSource::DynamicDefaultBroker => "cluster",
        ConfigSource::StaticBroker => "broker's configuration",
        ConfigSource::Default => "default",
    }
}

/// The options that a resource sets itself.
pub(super) fn own_configs(
    admin: &Admin,
    specifier: ResourceSpecifier<'_>,
) -> Result<BTreeMap<String, String>, CommandError> {
    let own = match specifier {
        ResourceSpecifier::Topic(_) => ConfigSource::DynamicTopic,
        ResourceSpecifier::Broker(_) | ResourceSpecifier::Group(_) => ConfigSource::DynamicBroker,
    };
    let entries = entries(admin, specifier)?;
    Ok(entries
        .into_iter()
        .filter(|entry| entry.source == own)
        .filter_map(|entry| Some((entry.name, entry.value?)))
        .collect())
}

/// Changes some options. The client library knows only the older request, which replaces all of a resource's own
/// options at once; so the others are read first and sent along.
pub(super) fn alter(admin: &Admin, specifier: ResourceSpecifier<'_>, changes: &Changes) -> Outcome {
    let mut wanted = own_configs(admin, specifier)?;
    for key in &changes.deleted {
        wanted.remove(key);
    }
    wanted.extend(changes.set.clone());
    let mut request = AlterConfig::new(specifier);
    for (key, value) in &wanted {
        request = request.set(key, value);
    }
    let results =
        admin.wait("can't alter options", admin.client().alter_configs([&request], &admin.options()))?;
    super::client::check_each(
        "can't alter",
        results.into_iter().map(|result| match result {
            Ok(specifier) => Ok(specifier),
            Err((specifier, code)) => Err((name_of(&specifier), code)),
        }),
    )
    .map(drop)
}

fn name_of(specifier: &OwnedResourceSpecifier) -> String {
    match specifier {
        OwnedResourceSpecifier::Topic(name) | OwnedResourceSpecifier::Group(name) => name.clone(),
        OwnedResourceSpecifier::Broker(id) => format!("broker {id}"),
    }
}

fn entries(admin: &Admin, specifier: ResourceSpecifier<'_>) -> Result<Vec<ConfigEntry>, CommandError> {
    let request = admin.client().describe_configs([&specifier], &admin.options());
    let results = admin.wait("can't describe options", request)?;
    let fail =
        |code: RDKafkaErrorCode| CommandError::Failed(format!("can't describe options: {}", code_text(code)));
    match results.into_iter().next() {
        Some(Ok(resource)) => Ok(resource.entries),
        Some(Err(code)) => Err(fail(code)),
        None => Err(CommandError::Failed("can't describe options: the answer is empty".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_checked() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let changes = Changes::new(&texts(&["a=1=2"]), &texts(&["b"])).expect("valid");
        assert_eq!(changes.set.get("a").map(String::as_str), Some("1=2"));
        assert!(!changes.is_empty());
        for (set, deleted) in [(vec!["a"], vec![]), (vec!["a=1", "a=2"], vec![]), (vec!["a=1"], vec!["a"])] {
            assert!(matches!(Changes::new(&texts(&set), &texts(&deleted)), Err(CommandError::Usage(_))));
        }
    }
}
