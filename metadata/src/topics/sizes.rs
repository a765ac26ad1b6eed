//! How many bytes partitions hold.

use penstock_types::TopicPartition;

use crate::keys::log::{LogRow, rows_after};
use crate::keys::trim::{self, Trim};
use crate::keys::{Keyspace, seal};
use crate::kv::{Isolation, Priority, RangeOptions, SharedStore, StoreError, single_key};

/// How many partitions one transaction looks at.
const PARTITIONS_AT_ONCE: usize = 200;
/// How many rows of a partition one page holds.
const ROWS_AT_ONCE: usize = 1_000;

/// The bytes of the batches of each partition, in the order asked for: those that were ever sealed, whose sum the seal
/// keeps, less those that have left the sealed log since, and those of the rows above.
///
/// Nothing is retried: sizes are for people, who ask again.
///
/// # Errors
/// The store's.
pub async fn partition_sizes(
    store: &SharedStore,
    keyspace: &Keyspace,
    partitions: &[TopicPartition],
) -> Result<Vec<u64>, StoreError> {
    let mut sizes = Vec::with_capacity(partitions.len());
    for partitions in partitions.chunks(PARTITIONS_AT_ONCE) {
        sizes.extend(sizes_at_once(store, keyspace, partitions).await?);
    }
    Ok(sizes)
}

async fn sizes_at_once(
    store: &SharedStore,
    keyspace: &Keyspace,
    partitions: &[TopicPartition],
) -> Result<Vec<u64>, StoreError> {
    let mut transaction = store.begin(Priority::Default);
    let keys = partitions.iter().map(|partition| seal::key(keyspace, *partition));
    let trims = partitions.iter().map(|partition| trim::key(keyspace, *partition));
    let keys: Vec<Vec<u8>> = keys.chain(trims).collect();
    let mut seals = transaction.get_many(&keys, Isolation::Snapshot).await?;
    let trims = seals.split_off(partitions.len());
    let mut sizes = Vec::with_capacity(partitions.len());
    let mut ranges = Vec::with_capacity(partitions.len());
    for ((partition, sealed), trim) in partitions.iter().zip(seals).zip(trims) {
        let sealed = seal::decode(sealed.as_deref())?;
        sizes.push(Trim::decode(trim.as_deref())?.left_of(sealed.bytes));
        ranges.push(rows_after(keyspace, *partition, &sealed.position));
    }
    let options = RangeOptions::page(ROWS_AT_ONCE, Isolation::Snapshot);
    let pages = transaction.ranges(ranges.clone(), options).await?;
    for ((size, mut range), mut page) in sizes.iter_mut().zip(ranges).zip(pages) {
        loop {
            for row in &page.rows {
                if let LogRow::Data { batches, .. } = LogRow::decode(&row.value)? {
                    *size += batches.iter().map(|batch| u64::from(batch.length)).sum::<u64>();
                }
            }
            match page.rows.last() {
                Some(last) if page.more => range.start = single_key(&last.key).end,
                _ => break,
            }
            page = transaction.range(range.clone(), options).await?;
        }
    }
    Ok(sizes)
}
