//! How long ago something was written, by the store's versions.

use std::time::Duration;

use penstock_types::{Incarnation, StoreVersion};

use crate::keys::Keyspace;
use crate::keys::cluster::{begin_key, decode_begin};
use crate::kv::{Isolation, StoreError, Transaction, limits};

/// A transaction's version, in its life of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    incarnation: Incarnation,
    /// Where the incarnation began.
    begin: StoreVersion,
    now: StoreVersion,
}

impl Present {
    /// Reads it.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(
        transaction: &mut dyn Transaction,
        keyspace: &Keyspace,
        incarnation: Incarnation,
    ) -> Result<Self, StoreError> {
        let now = transaction.read_version().await?;
        let begin = transaction.get(&begin_key(keyspace), Isolation::Snapshot).await?;
        Self::of(incarnation, begin.as_deref(), now)
    }

    /// The version `now` of an incarnation, with the row of [`begin_key`] as it was read.
    pub(crate) fn of(
        incarnation: Incarnation,
        begin: Option<&[u8]>,
        now: StoreVersion,
    ) -> Result<Self, StoreError> {
        Ok(Self { incarnation, begin: decode_begin(begin, incarnation)?, now })
    }

    /// How long ago something was written. Versions of two incarnations can't be compared: what an earlier one left counts
    /// from the beginning of this one.
    pub fn age(&self, incarnation: Incarnation, written: StoreVersion) -> Duration {
        let since = if incarnation < self.incarnation { self.begin } else { written };
        limits::time_of(self.now.get().saturating_sub(since.get()))
    }
}
