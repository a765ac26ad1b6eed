//! The table of topic options, sorted by name: Kafka 4.1's types, defaults and ranges; the words are ours.

use super::{Conversion, Synonym, TopicDefinition};
use crate::definition::{ConfigType, Definition, Support, Validator};

const MAX: &str = "9223372036854775807";
const MS_PER_HOUR: i64 = 3_600_000;
const MS_PER_MINUTE: i64 = 60_000;
const NO_TIERS: &str = "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with \
                        remote log storage.";

const fn option(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    validator: Validator,
    support: Support,
    documentation: &'static str,
) -> Definition {
    Definition { name, kind, default: Some(default), validator, support, documentation }
}

const fn same(name: &'static str) -> Synonym {
    Synonym { name, conversion: Conversion::Same }
}

/// Every topic option, sorted by name.
pub const DEFINITIONS: &[TopicDefinition] = &[
    TopicDefinition {
        option: option(
            "cleanup.policy",
            ConfigType::List,
            "delete",
            Validator::EachOf(&["compact", "delete"]),
            Support::Honoured,
            "What happens to old records: delete removes them by age and size, compact keeps the newest of each \
             key; both may be given. Under compact, records without a key are refused.",
        ),
        synonyms: &[same("log.cleanup.policy")],
    },
    TopicDefinition {
        option: option(
            "compression.gzip.level",
            ConfigType::Int,
            "-1",
            Validator::BetweenOrMinusOne(1, 9),
            Support::Honoured,
            "The level used when compression.type is gzip; -1 is the codec's own default.",
        ),
        synonyms: &[same("compression.gzip.level")],
    },
    TopicDefinition {
        option: option(
            "compression.lz4.level",
            ConfigType::Int,
            "9",
            Validator::Between(1, 17),
            Support::Honoured,
            "The level used when compression.type is lz4.",
        ),
        synonyms: &[same("compression.lz4.level")],
    },
    TopicDefinition {
        option: option(
            "compression.type",
            ConfigType::String,
            "producer",
            Validator::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
            Support::Honoured,
            "How batches are kept: as the producer sent them, or compressed anew with one codec, or uncompressed.",
        ),
        synonyms: &[same("compression.type")],
    },
    TopicDefinition {
        option: option(
            "compression.zstd.level",
            ConfigType::Int,
            "3",
            Validator::Between(-131_072, 22),
            Support::Honoured,
            "The level used when compression.type is zstd.",
        ),
        synonyms: &[same("compression.zstd.level")],
    },
    TopicDefinition {
        option: option(
            "delete.retention.ms",
            ConfigType::Long,
            "86400000",
            Validator::AtLeast(0),
            Support::Honoured,
            "How long a compacted topic keeps tombstones, in milliseconds: a reader that starts from the beginning \
             must finish within it to see every deletion.",
        ),
        synonyms: &[same("log.cleaner.delete.retention.ms")],
    },
    TopicDefinition {
        option: option(
            "file.delete.delay.ms",
            ConfigType::Long,
            "60000",
            Validator::AtLeast(0),
            Support::Vacuous,
            "How long a removed segment file is kept, in milliseconds. There are no segment files: deleted objects \
             have a delay of their own.",
        ),
        synonyms: &[same("log.segment.delete.delay.ms")],
    },
    TopicDefinition {
        option: option(
            "flush.messages",
            ConfigType::Long,
            MAX,
            Validator::AtLeast(1),
            Support::Vacuous,
            "After how many records a log is synced to disk. Every acknowledged record is durable already.",
        ),
        synonyms: &[same("log.flush.interval.messages")],
    },
    TopicDefinition {
        option: option(
            "flush.ms",
            ConfigType::Long,
            MAX,
            Validator::AtLeast(0),
            Support::Vacuous,
            "After how many milliseconds a log is synced to disk. Every acknowledged record is durable already.",
        ),
        synonyms: &[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")],
    },
    TopicDefinition {
        option: option(
            "follower.replication.throttled.replicas",
            ConfigType::List,
            "",
            Validator::ThrottledReplicas,
            Support::Vacuous,
            "Followers whose replication is throttled. There is no replication between agents.",
        ),
        synonyms: &[],
    },
    TopicDefinition {
        option: option(
            "index.interval.bytes",
            ConfigType::Int,
            "4096",
            Validator::AtLeast(0),
            Support::Vacuous,
            "After how many bytes a segment's index has an entry. Every batch is indexed.",
        ),
        synonyms: &[same("log.index.interval.bytes")],
    },
    TopicDefinition {
        option: option(
            "leader.replication.throttled.replicas",
            ConfigType::List,
            "",
            Validator::ThrottledReplicas,
            Support::Vacuous,
            "Leaders whose replication is throttled. There is no replication between agents.",
        ),
        synonyms: &[],
    },
    TopicDefinition {
        option: option(
            "local.retention.bytes",
            ConfigType::Long,
            "-2",
            Validator::AtLeast(-2),
            Support::Vacuous,
            "How many bytes of a partition stay on local disk. None do.",
        ),
        synonyms: &[same("log.local.retention.bytes")],
    },
    TopicDefinition {
        option: option(
            "local.retention.ms",
            ConfigType::Long,
            "-2",
            Validator::AtLeast(-2),
            Support::Vacuous,
            "How many milliseconds a partition's records stay on local disk. None do.",
        ),
        synonyms: &[same("log.local.retention.ms")],
    },
    TopicDefinition {
        option: option(
            "max.compaction.lag.ms",
            ConfigType::Long,
            MAX,
            Validator::AtLeast(1),
            Support::Honoured,
            "The longest time that a record of a compacted topic stays uncompacted, in milliseconds.",
        ),
        synonyms: &[same("log.cleaner.max.compaction.lag.ms")],
    },
    TopicDefinition {
        option: option(
            "max.message.bytes",
            ConfigType::Int,
            "1048588",
            Validator::AtLeast(0),
            Support::Honoured,
            "The largest batch that is accepted, in bytes, with its header and as the producer compressed it; a \
             larger one is refused with MESSAGE_TOO_LARGE.",
        ),
        synonyms: &[same("message.max.bytes")],
    },
    TopicDefinition {
        option: option(
            "message.timestamp.after.max.ms",
            ConfigType::Long,
            "3600000",
            Validator::AtLeast(0),
            Support::Honoured,
            "How far ahead of the broker's clock a record's timestamp may be, in milliseconds; beyond that its batch \
             is refused with INVALID_TIMESTAMP. Without effect under LogAppendTime.",
        ),
        synonyms: &[same("log.message.timestamp.after.max.ms")],
    },
    TopicDefinition {
        option: option(
            "message.timestamp.before.max.ms",
            ConfigType::Long,
            MAX,
            Validator::AtLeast(0),
            Support::Honoured,
            "How far behind the broker's clock a record's timestamp may be, in milliseconds; beyond that its batch \
             is refused with INVALID_TIMESTAMP. Without effect under LogAppendTime.",
        ),
        synonyms: &[same("log.message.timestamp.before.max.ms")],
    },
    TopicDefinition {
        option: option(
            "message.timestamp.type",
            ConfigType::String,
            "CreateTime",
            Validator::OneOf(&["CreateTime", "LogAppendTime"]),
            Support::Honoured,
            "Whose clock a record's timestamp is of: the producer's (CreateTime) or the broker's when it arrived \
             (LogAppendTime).",
        ),
        synonyms: &[same("log.message.timestamp.type")],
    },
    TopicDefinition {
        option: option(
            "min.cleanable.dirty.ratio",
            ConfigType::Double,
            "0.5",
            Validator::DoubleBetween(0.0, 1.0),
            Support::Honoured,
            "Which share of a compacted topic's log must be uncompacted before it is compacted again.",
        ),
        synonyms: &[same("log.cleaner.min.cleanable.ratio")],
    },
    TopicDefinition {
        option: option(
            "min.compaction.lag.ms",
            ConfigType::Long,
            "0",
            Validator::AtLeast(0),
            Support::Honoured,
            "The shortest time that a record of a compacted topic stays uncompacted, in milliseconds.",
        ),
        synonyms: &[same("log.cleaner.min.compaction.lag.ms")],
    },
    TopicDefinition {
        option: option(
            "min.insync.replicas",
            ConfigType::Int,
            "1",
            Validator::AtLeast(1),
            Support::Vacuous,
            "How many replicas must have a record before it is acknowledged. A record is as durable as the bucket \
             when it is acknowledged, whatever this says.",
        ),
        synonyms: &[same("min.insync.replicas")],
    },
    TopicDefinition {
        option: option(
            "preallocate",
            ConfigType::Boolean,
            "false",
            Validator::Any,
            Support::Vacuous,
            "Whether segment files are allocated in advance. There are none.",
        ),
        synonyms: &[same("log.preallocate")],
    },
    TopicDefinition {
        option: option(
            "remote.log.copy.disable",
            ConfigType::Boolean,
            "false",
            Validator::Any,
            Support::Vacuous,
            "Whether tiered data becomes read-only. There are no tiers: all data is in the bucket.",
        ),
        synonyms: &[],
    },
    TopicDefinition {
        option: option(
            "remote.log.delete.on.disable",
            ConfigType::Boolean,
            "false",
            Validator::Any,
            Support::Vacuous,
            "Whether tiered data is deleted when tiering is switched off. There are no tiers.",
        ),
        synonyms: &[],
    },
    TopicDefinition {
        option: option(
            "remote.storage.enable",
            ConfigType::Boolean,
            "false",
            Validator::Any,
            Support::Refused(NO_TIERS),
            "Whether old segments move to a second tier. There are no tiers: all data is in the bucket.",
        ),
        synonyms: &[],
    },
    TopicDefinition {
        option: option(
            "retention.bytes",
            ConfigType::Long,
            "-1",
            Validator::Any,
            Support::Honoured,
            "The size of a partition beyond which its oldest records are deleted, in bytes; -1: without limit. Under \
             the delete policy.",
        ),
        synonyms: &[same("log.retention.bytes")],
    },
    TopicDefinition {
        option: option(
            "retention.ms",
            ConfigType::Long,
            "604800000",
            Validator::AtLeast(-1),
            Support::Honoured,
            "The age beyond which records are deleted, in milliseconds; -1: without limit. Under the delete policy.",
        ),
        synonyms: &[
            Synonym { name: "log.retention.ms", conversion: Conversion::Milliseconds(1) },
            Synonym { name: "log.retention.minutes", conversion: Conversion::Milliseconds(MS_PER_MINUTE) },
            Synonym { name: "log.retention.hours", conversion: Conversion::Milliseconds(MS_PER_HOUR) },
        ],
    },
    TopicDefinition {
        option: option(
            "segment.bytes",
            ConfigType::Int,
            "1073741824",
            Validator::AtLeast(1_048_576),
            Support::Honoured,
            "The size of a segment file. There are none: records are deleted and compacted by the batch. As many bytes of a \
             compacted topic's partition are compacted without waiting, if that is less than compact.bytes.",
        ),
        synonyms: &[same("log.segment.bytes")],
    },
    TopicDefinition {
        option: option(
            "segment.index.bytes",
            ConfigType::Int,
            "10485760",
            Validator::AtLeast(4),
            Support::Vacuous,
            "The size of a segment's index file. There are none.",
        ),
        synonyms: &[same("log.index.size.max.bytes")],
    },
    TopicDefinition {
        option: option(
            "segment.jitter.ms",
            ConfigType::Long,
            "0",
            Validator::AtLeast(0),
            Support::Vacuous,
            "By how much the closing of segment files is spread. There are none.",
        ),
        synonyms: &[
            same("log.roll.jitter.ms"),
            Synonym { name: "log.roll.jitter.hours", conversion: Conversion::Milliseconds(MS_PER_HOUR) },
        ],
    },
    TopicDefinition {
        option: option(
            "segment.ms",
            ConfigType::Long,
            "604800000",
            Validator::AtLeast(1),
            Support::Honoured,
            "After how many milliseconds a segment file is closed. There are none: in compacted topics, what was written \
             waits no longer than this to be compacted, if that is shorter than compact.delay.ms.",
        ),
        synonyms: &[
            same("log.roll.ms"),
            Synonym { name: "log.roll.hours", conversion: Conversion::Milliseconds(MS_PER_HOUR) },
        ],
    },
    TopicDefinition {
        option: option(
            "unclean.leader.election.enable",
            ConfigType::Boolean,
            "false",
            Validator::Any,
            Support::Vacuous,
            "Whether a replica that lags may become leader, losing records. No election ever loses a record here.",
        ),
        synonyms: &[same("unclean.leader.election.enable")],
    },
];
