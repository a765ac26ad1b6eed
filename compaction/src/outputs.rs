//! Objects that jobs write: announced before they are put, or given up.

use penstock_metadata::keys::Keyspace;
use penstock_metadata::kv::{Priority, SharedStore, StoreError};
use penstock_metadata::merging::{AnnounceError, Output, announce, give_up};
use penstock_storage::bucket::{Bucket, BucketError};
use penstock_storage::object::{DataObject, MergedBuilder, object_key};
use penstock_types::{Incarnation, ObjectId, Randomness};
use tokio::time::Instant;

use crate::again;
use crate::pace::{Pace, put_deadline};

/// What a job writes its outputs with.
pub(crate) struct Outputs<'a> {
    pub(crate) store: &'a SharedStore,
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) incarnation: Incarnation,
    pub(crate) bucket: &'a Bucket,
    pub(crate) randomness: &'a dyn Randomness,
    pub(crate) pace: &'a Pace,
}

impl Outputs<'_> {
    /// Announces an output, once the pace allows to put it: an intent that waits is swept.
    pub(crate) async fn announce(
        &self,
        builder: MergedBuilder,
        level: u8,
        queues: bool,
    ) -> Result<(Output, DataObject), AnnounceError> {
        let Self { store, keyspace, incarnation, .. } = *self;
        self.pace.take(1, builder.body_length()).await;
        let version = again!(async { store.begin(Priority::Batch).read_version().await })?;
        let sections = u32::try_from(builder.section_count()).unwrap_or(u32::MAX);
        let id = ObjectId::new(incarnation, version, self.randomness.next_u64());
        let object = builder.finish(id);
        let output = Output { id, size: object.length(), level, sections, queues };
        again!(async {
            match announce(store, keyspace, incarnation, &output).await {
                Err(AnnounceError::Store(error)) => Err(error),
                settled => Ok(settled),
            }
        })??;
        Ok((output, object))
    }

    /// Puts it.
    pub(crate) async fn put(&self, output: &Output, object: &DataObject) -> Result<(), BucketError> {
        let (key, chunks) = (object_key(output.id), object.chunks().to_vec());
        self.bucket.put_unhurried(&key, chunks, Instant::now() + put_deadline(output.size)).await?;
        Ok(())
    }

    /// Gives up at once what nothing came to refer to, rather than leave it to the sweeper: whether that was so.
    pub(crate) async fn give_up(&self, output: ObjectId) -> bool {
        let Self { store, keyspace, incarnation, .. } = *self;
        let given_up: Result<bool, StoreError> = again!(give_up(store, keyspace, incarnation, output));
        given_up.unwrap_or_else(|error| {
            tracing::debug!(object = %output, %error, "an output that is given up is left to the sweeper");
            false
        })
    }
}
