//! Producer ids (KIP-98): allocated in blocks that remember when, in the store's time.

use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::{Incarnation, ProducerId, StoreVersion};
use tokio::time::Instant;

use crate::keys::Keyspace;
use crate::keys::allocation::{self, BLOCK_IDS};
use crate::kv::{Isolation, Priority, RangeOptions, SharedStore, StoreError, WriteConflict, limits};

/// How long ids of a block are handed out: an id is at most that much younger than its block says.
const BLOCK_LIFE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Held {
    next: i64,
    end: i64,
    until: Instant,
}

/// Hands out producer ids. No id is ever handed out twice; ids of a block that were not are lost.
#[derive(Debug)]
pub struct ProducerIds {
    store: SharedStore,
    keyspace: Keyspace,
    incarnation: Incarnation,
    expiry: Duration,
    held: Mutex<Option<Held>>,
    allocating: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    /// An allocator; blocks older than `expiry` are dropped.
    pub fn new(store: SharedStore, keyspace: Keyspace, incarnation: Incarnation, expiry: Duration) -> Self {
        let allocating = tokio::sync::Mutex::new(());
        Self { store, keyspace, incarnation, expiry, held: Mutex::new(None), allocating }
    }

    /// A new id. After an unknown outcome of a block's allocation the next attempt takes another block.
    pub async fn next(&self) -> Result<ProducerId, StoreError> {
        if let Some(id) = self.take() {
            return Ok(id);
        }
        let _turn = self.allocating.lock().await;
        if let Some(id) = self.take() {
            return Ok(id);
        }
        let mut attempts = 0;
        let first = loop {
            match self.allocate().await {
                Ok(first) => break first,
                Err(error) if error.is_retryable() && attempts < 20 => {
                    attempts += 1;
                    penstock_types::pause(Duration::from_millis(attempts)).await;
                }
                Err(error) => return Err(error),
            }
        };
        let held =
            Held { next: first + 1, end: first + i64::from(BLOCK_IDS), until: Instant::now() + BLOCK_LIFE };
        *self.held.lock() = Some(held);
        Ok(ProducerId::new(first))
    }

    fn take(&self) -> Option<ProducerId> {
        let mut held = self.held.lock();
        let block = held.as_mut()?;
        if block.next >= block.end || Instant::now() >= block.until {
            *held = None;
            return None;
        }
        block.next += 1;
        Some(ProducerId::new(block.next - 1))
    }

    async fn allocate(&self) -> Result<i64, StoreError> {
        let mut transaction = self.store.begin(Priority::Default);
        let now = transaction.read_version().await?;
        let next_key = allocation::next_producer_id_key(&self.keyspace);
        let unguarded = penstock_types::planted!("producer-ids-unguarded");
        let isolation = if unguarded { Isolation::Snapshot } else { Isolation::Serializable };
        let next = transaction.get(&next_key, isolation).await?;
        let first = allocation::decode_next(next.as_deref())?;
        let after = first
            .checked_add(i64::from(BLOCK_IDS))
            .ok_or_else(|| StoreError::Failed { reason: "producer ids are used up".to_owned() })?;
        let block_key = allocation::block_key(&self.keyspace, ProducerId::new(first));
        let block = allocation::block_template(self.incarnation, BLOCK_IDS);
        transaction.set(&next_key, &allocation::encode_next(after), WriteConflict::Yes);
        transaction.set_stamped_value(&block_key, &block, allocation::STAMP_AT, WriteConflict::Yes);
        let range = allocation::blocks_up_to(&self.keyspace, ProducerId::new(first));
        let page = transaction.range(range, RangeOptions::page(50, Isolation::Snapshot)).await?;
        for row in &page.rows {
            let block = allocation::decode_block(&row.value)?;
            if self.is_past(block.incarnation, block.allocated, now) {
                transaction.clear(&row.key, WriteConflict::Yes);
            }
        }
        transaction.commit().await?;
        Ok(first)
    }

    /// Whether a block says nothing any more: an id without one is older than producer expiry.
    fn is_past(&self, incarnation: Incarnation, allocated: StoreVersion, now: StoreVersion) -> bool {
        let expiry = self.expiry.as_secs().saturating_mul(limits::VERSIONS_PER_SECOND);
        incarnation < self.incarnation || allocated.get().saturating_add(expiry) < now.get()
    }
}
