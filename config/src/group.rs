//! The options of the group coordinator, by Kafka's names, taken together.
//!
//! Their types, defaults and ranges are defined beside the other broker options ([`crate::broker`]).

use std::time::Duration;

use crate::broker::BrokerConfig;

/// Characters of a commit's metadata at most, whatever `offset.metadata.max.bytes` says: a committed offset is one
/// value of the metadata store.
pub const OFFSET_METADATA_CHARACTERS_MAX: usize = 30_000;

/// What the group coordinator is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.min.session.timeout.ms`: a member that asks for a shorter session is refused.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`: a member that asks for a longer session is refused.
    pub max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members;
    /// again as long whenever one came, within the members' rebalance time-out. At least [`SHORTEST_REBALANCE_DELAY`].
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`: further members are refused.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`: a commit with longer metadata (in UTF-16 units, as Kafka counts) is refused. Never
    /// above [`OFFSET_METADATA_CHARACTERS_MAX`].
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`: how long offsets outlive the group's last member, or their commit where there are
    /// none.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`: how often expired offsets are looked for.
    pub offsets_retention_check_interval: Duration,
    /// `offsets.commit.timeout.ms`: how long the metadata store may take for a change of a group or for a commit;
    /// past it clients get a retriable error.
    pub commit_timeout: Duration,
}

impl GroupOptions {
    /// The options in force at a broker.
    pub fn of(config: &BrokerConfig) -> Self {
        let number = |name| u64::try_from(config.integer(name)).unwrap_or(0);
        let ms = |name| Duration::from_millis(number(name));
        let size = |name| usize::try_from(number(name)).unwrap_or(usize::MAX);
        Self {
            min_session_timeout: ms("group.min.session.timeout.ms"),
            max_session_timeout: ms("group.max.session.timeout.ms"),
            initial_rebalance_delay: ms("group.initial.rebalance.delay.ms").max(SHORTEST_REBALANCE_DELAY),
            max_size: size("group.max.size"),
            offset_metadata_max: size("offset.metadata.max.bytes").min(OFFSET_METADATA_CHARACTERS_MAX),
            offsets_retention: Duration::from_secs(60 * number("offsets.retention.minutes")),
            offsets_retention_check_interval: ms("offsets.retention.check.interval.ms"),
            commit_timeout: ms("offsets.commit.timeout.ms"),
        }
    }
}

/// The first rebalance of a group waits so long also with a delay of 0. Apache Kafka ends it behind a timer and a write
/// that lingers (`group.coordinator.append.linger.ms`, 5 ms), so members that start together come into one generation;
/// client tests rely on it.
pub const SHORTEST_REBALANCE_DELAY: Duration = Duration::from_millis(5);

/// Kafka's defaults.
impl Default for GroupOptions {
    fn default() -> Self {
        Self::of(&BrokerConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Layer;

    #[test]
    fn defaults_are_kafkas() {
        let options = GroupOptions::default();
        assert_eq!(options.min_session_timeout, Duration::from_secs(6));
        assert_eq!(options.max_session_timeout, Duration::from_secs(1_800));
        assert_eq!(options.initial_rebalance_delay, Duration::from_secs(3));
        assert_eq!(options.max_size, 2_147_483_647);
        assert_eq!(options.offset_metadata_max, 4_096);
        assert_eq!(options.offsets_retention, Duration::from_secs(7 * 24 * 3_600));
        assert_eq!(options.offsets_retention_check_interval, Duration::from_secs(600));
        assert_eq!(options.commit_timeout, Duration::from_secs(5));
    }

    #[test]
    fn options_come_from_the_broker_and_are_bounded() {
        let layer = Layer::from([
            ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned()),
            ("offset.metadata.max.bytes".to_owned(), "1000000".to_owned()),
        ]);
        let options = GroupOptions::of(&BrokerConfig::new(layer).expect("valid options"));
        assert_eq!(options.initial_rebalance_delay, SHORTEST_REBALANCE_DELAY);
        assert_eq!(options.offset_metadata_max, OFFSET_METADATA_CHARACTERS_MAX);
    }
}
