//! Which topics lie together: what expires at about the same time, or is rewritten.

use penstock_config::topic::TopicConfig;

/// A class of topics. An output holds topics of one class, so that infinite retention beside a short one doesn't keep the short
/// one's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    /// Log compaction will take batches out of the middle.
    compacted: bool,
    /// The power of two of hours that records are kept; by size only, and for ever.
    keeps: u8,
}

const BY_SIZE: u8 = 254;
const FOR_EVER: u8 = 255;

impl Class {
    pub(super) fn of(config: &TopicConfig) -> Self {
        let policy = config.cleanup_policy;
        let keeps = match (policy.delete, config.retention, config.retention_bytes) {
            (false, _, _) | (true, None, None) => FOR_EVER,
            (true, None, Some(_)) => BY_SIZE,
            (true, Some(retention), _) => {
                let hours = retention.as_secs() / 3_600;
                (hours + 1).ilog2() as u8
            }
        };
        Self { compacted: policy.compact, keeps }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use penstock_config::topic::CleanupPolicy;

    use super::*;

    #[test]
    fn like_retention_lies_together() {
        let with = |retention: Option<u64>, bytes, delete, compact| {
            let defaults = TopicConfig::default();
            let retention = retention.map(|hours: u64| Duration::from_secs(hours * 3_600));
            let cleanup_policy = CleanupPolicy { delete, compact };
            let config = TopicConfig { retention, retention_bytes: bytes, cleanup_policy, ..defaults };
            Class::of(&config)
        };
        let week = with(Some(168), None, true, false);
        assert_eq!(week, with(Some(200), Some(5), true, false));
        assert_ne!(week, with(Some(24), None, true, false));
        assert_ne!(week, with(None, None, true, false));
        assert_eq!(with(Some(1), None, false, false), with(None, None, true, false));
        assert_ne!(with(None, Some(1), true, false), with(None, None, true, false));
        assert_ne!(with(None, None, true, true), with(None, None, true, false));
        assert_eq!(with(Some(u64::MAX / 7_200), None, true, false).keeps, 51);
    }
}
