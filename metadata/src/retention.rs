//! Retention: up to where a partition's log has expired.
//!
//! As Apache Kafka's by segments, here by batches: the first batches of the log, as long as each is older than
//! `retention.ms` by its largest timestamp, or as long as what stays behind it is not below `retention.bytes`. A batch
//! without timestamps is as old as its place in the store's order (Kafka: as its segment's file). Only the sealed log is looked at, and only its bytes count: what is not sealed
//! yet stays, so nothing goes that Kafka would keep.
//!
//! Deliberately absent: what time it is (see `now`), and the deletion itself (see `log_starts`).

use std::time::Duration;

use penstock_types::{Incarnation, Offset, TimestampMs, TopicPartition};

use crate::fold::BatchEntry;
use crate::keys::cluster::begin_key;
use crate::keys::index::{self, PackedIndex};
use crate::keys::trim::{self, Trim};
use crate::keys::{Keyspace, log_start, seal};
use crate::kv::{Isolation, Priority, RangeOptions, SharedStore, StoreError, single_key};
use crate::present::Present;

/// Index values looked at in one transaction.
const MOST_VALUES: usize = 40;

/// What a partition's log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Batches whose largest timestamp is below it are too old.
    pub before_ms: Option<TimestampMs>,
    /// Batches without timestamps are too old that long after they were appended.
    pub age: Option<Duration>,
    /// As many bytes are kept, at least.
    pub bytes: Option<u64>,
}

/// Where a partition's log is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The offset behind the last batch that has expired.
    pub start: Offset,
    /// How many batches that are.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// The walk from the front of a log. Pure.
#[derive(Debug)]
struct Walk {
    retention: Retention,
    present: Present,
    log_start: Offset,
    /// Bytes from here to the end of the sealed log.
    left: u64,
    expired: Option<Expired>,
}

impl Walk {
    /// Takes in the next batch: `false` if it stays.
    fn take(&mut self, batch: &BatchEntry) -> bool {
        let length = u64::from(batch.facts.length);
        let left = self.left.saturating_sub(length);
        if batch.end_offset() <= self.log_start {
            self.left = left;
            return true;
        }
        let newest = batch.facts.max_timestamp;
        let is_old = match newest {
            0.. if penstock_types::planted!("expires-with-the-first") && self.expired.is_some() => true,
            0.. => self.retention.before_ms.is_some_and(|before| newest < before),
            _ => self
                .retention
                .age
                .is_some_and(|age| self.present.age(batch.at.incarnation, batch.at.stamp.version()) > age),
        };
        let is_too_much = self.retention.bytes.is_some_and(|bytes| left >= bytes);
        if !is_old && !is_too_much {
            return false;
        }
        self.left = left;
        let start = batch.end_offset();
        let expired = self.expired.get_or_insert(Expired { start, batches: 0, bytes: 0, more: false });
        expired.start = start;
        expired.batches += 1;
        expired.bytes += length;
        true
    }
}

/// Looks at the front of a partition's log: `None` if nothing has expired.
pub async fn expired(
    store: &SharedStore,
    keyspace: &Keyspace,
    incarnation: Incarnation,
    partition: TopicPartition,
    retention: Retention,
) -> Result<Option<Expired>, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let now = transaction.read_version().await?;
    let keys = [
        log_start::key(keyspace, partition),
        seal::key(keyspace, partition),
        trim::key(keyspace, partition),
        begin_key(keyspace),
    ];
    let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
    let sealed = seal::decode(values[1].as_deref())?;
    let trim = Trim::decode(values[2].as_deref())?;
    let mut walk = Walk {
        retention,
        present: Present::of(incarnation, values[3].as_deref(), now)?,
        log_start: log_start::decode(values[0].as_deref())?,
        left: trim.left_of(sealed.bytes),
        expired: None,
    };
    if retention.before_ms.is_none() && retention.bytes.is_none_or(|bytes| walk.left <= bytes) {
        return Ok(None);
    }
    let mut range = index::from_offset(keyspace, partition, trim.below);
    let mut looked_at = 0;
    loop {
        // Mostly nothing has expired, and the first value says so.
        let most = if looked_at == 0 { 1 } else { MOST_VALUES - looked_at };
        let page = transaction.range(range.clone(), RangeOptions::page(most, Isolation::Snapshot)).await?;
        for row in &page.rows {
            let value = PackedIndex::decode(&row.value)?;
            let mut batches = value.entries.iter().flat_map(crate::fold::LogEntry::batches);
            if !batches.all(|batch| walk.take(&batch)) {
                return Ok(walk.expired);
            }
        }
        looked_at += page.rows.len();
        match page.rows.last() {
            Some(last) if page.more && looked_at < MOST_VALUES => range.start = single_key(&last.key).end,
            _ => return Ok(walk.expired.map(|expired| Expired { more: page.more, ..expired })),
        }
    }
}

#[cfg(test)]
mod tests;
