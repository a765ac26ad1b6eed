//! `penstock groups`.

use clap::{Args, Subcommand};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::groups::GroupInfo;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use super::CommandError;
use super::client::{Admin, ConnectArguments, Context, check_each};
use super::error::Outcome;
use super::output::{OutputArguments, Table};

mod assignment;

/// The arguments of `groups`.
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(super) struct GroupsArguments {
    #[command(subcommand)]
    command: GroupsCommand,
}

#[derive(Debug, Subcommand)]
enum GroupsCommand {
    /// List all groups
    #[command(after_help = "Example:\n  penstock groups list")]
    List {
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Show a group's members, committed offsets and lag
    #[command(after_help = "Example:\n  penstock groups describe billing")]
    Describe {
        /// The group
        group: String,
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Move a group's committed offsets; the group must have no members. Shows what it would do unless --execute
    #[command(
        after_help = "Example:\n  penstock groups reset-offsets billing --topic orders --to-earliest --execute"
    )]
    ResetOffsets(ResetArguments),
    /// Delete groups without members, and their offsets
    #[command(after_help = "Example:\n  penstock groups delete billing")]
    Delete {
        /// The groups
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
        #[command(flatten)]
        connect: ConnectArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
}

#[derive(Debug, Args)]
struct ResetArguments {
    /// The group
    group: String,
    /// The topic
    #[arg(long, short = 't')]
    topic: String,
    /// Only this partition
    #[arg(long, short = 'p', value_name = "N")]
    partition: Option<i32>,
    #[command(flatten)]
    target: TargetArguments,
    /// Do it, instead of showing what would be done
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    connect: ConnectArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArguments {
    /// To the first record that is there
    #[arg(long)]
    to_earliest: bool,
    /// Behind the last record
    #[arg(long)]
    to_latest: bool,
    /// To this offset, within what is there
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record with this timestamp (milliseconds since 1970) or a later one
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    to_timestamp: Option<i64>,
    /// By so many records forwards, or backwards if negative
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

#[derive(Debug, Serialize)]
struct ListedGroup {
    name: String,
    state: String,
    protocol_type: String,
    members: usize,
}

#[derive(Debug, Serialize)]
struct DescribedGroup {
    name: String,
    state: String,
    protocol: String,
    members: Vec<DescribedMember>,
    offsets: Vec<DescribedOffset>,
}

#[derive(Debug, Serialize)]
struct DescribedMember {
    id: String,
    client_id: String,
    client_host: String,
    /// `topic-partition`, sorted; empty if the assignment is not a consumer's.
    partitions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct DescribedOffset {
    topic: String,
    partition: i32,
    committed: i64,
    high_watermark: i64,
    lag: i64,
}

#[derive(Debug, Serialize)]
struct Reset {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
}

pub(super) fn run(arguments: &GroupsArguments) -> Outcome {
    match &arguments.command {
        GroupsCommand::List { connect, output } => list(connect, output),
        GroupsCommand::Describe { group, connect, output } => describe(group, connect, output),
        GroupsCommand::ResetOffsets(arguments) => reset(arguments),
        GroupsCommand::Delete { groups, connect, output } => delete(groups, connect, output),
    }
}

fn list(connect: &ConnectArguments, output: &OutputArguments) -> Outcome {
    let admin = connect.admin()?;
    admin.metadata()?;
    let groups = admin
        .observer()
        .fetch_group_list(None, admin.timeout())
        .map_err(|error| admin.failed("can't list groups", error))?;
    let mut groups: Vec<ListedGroup> = groups
        .groups()
        .iter()
        .map(|group| ListedGroup {
            name: group.name().to_owned(),
            state: group.state().to_owned(),
            protocol_type: group.protocol_type().to_owned(),
            members: group.members().len(),
        })
        .collect();
    groups.sort_by(|left, right| left.name.cmp(&right.name));
    output.print(&groups, || {
        let mut table = Table::new(["GROUP", "STATE", "TYPE", "MEMBERS"]);
        for group in &groups {
            let (name, state) = (group.name.clone(), group.state.clone());
            table.row([name, state, group.protocol_type.clone(), group.members.to_string()]);
        }
        table
    })
}

fn describe(name: &str, connect: &ConnectArguments, output: &OutputArguments) -> Outcome {
    let admin = connect.admin()?;
    admin.metadata()?;
    let list = admin
        .observer()
        .fetch_group_list(Some(name), admin.timeout())
        .map_err(|error| admin.failed("can't describe the group", error))?;
    let offsets = committed_offsets(name, &admin, connect)?;
    let group = list.groups().iter().find(|group| group.name() == name);
    let state = group.map_or("Dead", GroupInfo::state);
    if state == "Dead" && offsets.is_empty() {
        return Err(CommandError::Failed(format!("there is no group {name}")));
    }
    let described = DescribedGroup {
        name: name.to_owned(),
        state: state.to_owned(),
        protocol: group.map(|group| group.protocol().to_owned()).unwrap_or_default(),
        members: group.map(members).unwrap_or_default(),
        offsets,
    };
    output.print(&described, || table(&described))
}

fn members(group: &GroupInfo) -> Vec<DescribedMember> {
    let mut members: Vec<DescribedMember> = group
        .members()
        .iter()
        .map(|member| DescribedMember {
            id: member.id().to_owned(),
            client_id: member.client_id().to_owned(),
            client_host: member.client_host().to_owned(),
            partitions: member.assignment().and_then(assignment::partitions).unwrap_or_default(),
        })
        .collect();
    members.sort_by(|left, right| left.id.cmp(&right.id));
    members
}

/// One row for each partition with an offset, with the member that has it; then the members that have none.
fn table(group: &DescribedGroup) -> Table {
    let mut table = Table::new(["GROUP", "STATE", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"]);
    let start = [group.name.clone(), group.state.clone()];
    let mut shown = Vec::new();
    for offset in &group.offsets {
        let key = format!("{}-{}", offset.topic, offset.partition);
        let owner = group.members.iter().find(|member| member.partitions.contains(&key));
        shown.extend(owner.map(|owner| &owner.id));
        let [group, state] = start.clone();
        table.row([
            group,
            state,
            offset.topic.clone(),
            offset.partition.to_string(),
            offset.committed.to_string(),
            offset.high_watermark.to_string(),
            offset.lag.to_string(),
            owner.map(|owner| owner.id.clone()).unwrap_or_default(),
        ]);
    }
    let rest: Vec<&DescribedMember> =
        group.members.iter().filter(|member| !shown.contains(&&member.id)).collect();
    for member in &rest {
        let [group, state] = start.clone();
        let partitions = member.partitions.join(",");
        table.row([
            group,
            state,
            partitions,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            member.id.clone(),
        ]);
    }
    if group.offsets.is_empty() && rest.is_empty() {
        let [group, state] = start;
        table.row([group, state]);
    }
    table
}

/// Every partition of every topic for which the group has committed an offset.
fn committed_offsets(
    group: &str,
    admin: &Admin,
    connect: &ConnectArguments,
) -> Result<Vec<DescribedOffset>, CommandError> {
    let mut all = TopicPartitionList::new();
    for topic in admin.metadata()?.topics() {
        for partition in topic.partitions() {
            all.add_partition(topic.name(), partition.id());
        }
    }
    let consumer = connect.consumer_of(Some(group), Context::default())?;
    let committed = consumer
        .committed_offsets(all, admin.timeout())
        .map_err(|error| admin.failed("can't read the group's offsets", error))?;
    let mut offsets = Vec::new();
    for element in committed.elements() {
        let Offset::Offset(committed) = element.offset() else { continue };
        let (_, high_watermark) = admin
            .observer()
            .fetch_watermarks(element.topic(), element.partition(), admin.timeout())
            .map_err(|error| admin.failed("can't read a partition's end", error))?;
        offsets.push(DescribedOffset {
            topic: element.topic().to_owned(),
            partition: element.partition(),
            committed,
            high_watermark,
            lag: high_watermark.saturating_sub(committed).max(0),
        });
    }
    offsets.sort_by(|left, right| (&left.topic, left.partition).cmp(&(&right.topic, right.partition)));
    Ok(offsets)
}

fn reset(arguments: &ResetArguments) -> Outcome {
    let admin = arguments.connect.admin()?;
    let metadata = admin.metadata()?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == arguments.topic);
    let topic =
        topic.ok_or_else(|| CommandError::Failed(format!("there is no topic {}", arguments.topic)))?;
    let mut partitions: Vec<i32> =
        topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
    partitions.sort_unstable();
    if let Some(only) = arguments.partition {
        partitions.retain(|partition| *partition == only);
        if partitions.is_empty() {
            return Err(CommandError::Failed(format!("{} has no partition {only}", arguments.topic)));
        }
    }
    let committed = committed_offsets(&arguments.group, &admin, &arguments.connect)?;
    let mut plan = Vec::new();
    for partition in partitions {
        let from = committed
            .iter()
            .find(|offset| offset.topic == arguments.topic && offset.partition == partition)
            .map(|offset| offset.committed);
        let to = target(&admin, arguments, partition, from)?;
        plan.push(Reset { topic: arguments.topic.clone(), partition, from, to });
    }
    if arguments.execute {
        commit(arguments, &admin, &plan)?;
    }
    arguments.output.print(&plan, || {
        let state = if arguments.execute { "NOW AT" } else { "WOULD BE AT (--execute does it)" };
        let mut table = Table::new(["TOPIC", "PARTITION", "WAS AT", state]);
        for reset in &plan {
            let from = reset.from.map(|from| from.to_string()).unwrap_or_default();
            table.row([reset.topic.clone(), reset.partition.to_string(), from, reset.to.to_string()]);
        }
        table
    })
}

/// Where a partition's offset goes, within what is there.
fn target(
    admin: &Admin,
    arguments: &ResetArguments,
    partition: i32,
    from: Option<i64>,
) -> Result<i64, CommandError> {
    let (low, high) = admin
        .observer()
        .fetch_watermarks(&arguments.topic, partition, admin.timeout())
        .map_err(|error| admin.failed("can't read a partition's offsets", error))?;
    let target = &arguments.target;
    let wanted = if target.to_earliest {
        low
    } else if let Some(offset) = target.to_offset {
        offset
    } else if let Some(timestamp) = target.to_timestamp {
        by_timestamp(admin, &arguments.topic, partition, timestamp)?.unwrap_or(high)
    } else if let Some(by) = target.shift_by {
        let from = from.ok_or_else(|| {
            CommandError::Failed(format!("{}-{partition} has no committed offset to shift", arguments.topic))
        })?;
        from.saturating_add(by)
    } else {
        high
    };
    Ok(wanted.clamp(low, high))
}

fn by_timestamp(
    admin: &Admin,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<Option<i64>, CommandError> {
    let failed = |error| admin.failed("can't look a timestamp up", error);
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(timestamp)).map_err(failed)?;
    let answer = admin.observer().offsets_for_times(asked, admin.timeout()).map_err(failed)?;
    let found = answer.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset);
    Ok(match found {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    })
}

fn commit(arguments: &ResetArguments, admin: &Admin, plan: &[Reset]) -> Outcome {
    let failed = |error| admin.failed("can't commit the group's offsets", error);
    let mut offsets = TopicPartitionList::new();
    for reset in plan {
        offsets
            .add_partition_offset(&reset.topic, reset.partition, Offset::Offset(reset.to))
            .map_err(failed)?;
    }
    // Not a member: the coordinator takes it only while the group has none.
    let consumer = arguments.connect.consumer_of(Some(&arguments.group), Context::default())?;
    match consumer.commit(&offsets, CommitMode::Sync) {
        Ok(()) => Ok(()),
        Err(error) => match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::IllegalGeneration) => {
                Err(CommandError::Failed(format!("{} has members: stop them first", arguments.group)))
            }
            _ => Err(failed(error)),
        },
    }
}

fn delete(groups: &[String], connect: &ConnectArguments, output: &OutputArguments) -> Outcome {
    let admin = connect.admin()?;
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    let results =
        admin.wait("can't delete groups", admin.client().delete_groups(&names, &admin.options()))?;
    let done = check_each("can't delete", results)?;
    let line = format!("deleted {}", done.join(", "));
    output.print_line(&serde_json::json!({"done": "deleted", "groups": done}), &line)
}
