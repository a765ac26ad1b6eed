//! Watches: each has a native transaction of its own, with the read version of the transaction that asked for it.
//!
//! The asking transaction can't carry its watches: they need FoundationDB's read-your-writes layer, and they would
//! put what they watch into its read conflict ranges. So a watch is noted when it is asked for, made when its
//! transaction is about to commit (its value is read then, beside the commit), and armed by an empty commit of its own
//! when that has succeeded. From then on it needs no transaction.
//!
//! Dropping the future at any time takes the watch out.

use std::future::Future;
use std::pin::Pin;

use ::foundationdb::options::TransactionOption;
use ::foundationdb::{FdbResult, Transaction};
use penstock_types::StoreVersion;
use tokio::sync::oneshot;

use super::{Shared, errors};
use crate::kv::{StoreError, Watch};

type NativeWatch = Pin<Box<dyn Future<Output = FdbResult<()>> + Send>>;

/// What a watch's future waits for once its transaction has committed.
struct Armed {
    /// The watch's own empty commit.
    arming: NativeWatch,
    fired: NativeWatch,
}

type Arm = oneshot::Sender<Result<Armed, StoreError>>;

/// A watch whose transaction has not committed yet. Dropped, it makes its future fail.
pub(super) struct PendingWatch {
    key: Vec<u8>,
    arm: Arm,
}

/// A watch with its transaction, to be armed.
pub(super) struct PreparedWatch {
    transaction: Transaction,
    fired: NativeWatch,
    arm: Arm,
}

impl PendingWatch {
    /// A watch on `key` and its future.
    pub(super) fn new(key: &[u8]) -> (Self, Watch) {
        let (arm, armed) = oneshot::channel::<Result<Armed, StoreError>>();
        let watch = async move {
            let Ok(armed) = armed.await else {
                let reason = "the transaction that made the watch did not commit".to_owned();
                return Err(StoreError::Unavailable { reason });
            };
            let Armed { arming, fired } = armed?;
            arming.await.map_err(errors::of_read)?;
            fired.await.map_err(errors::of_read)
        };
        (Self { key: key.to_vec(), arm }, Box::pin(watch))
    }

    /// Makes its future fail.
    pub(super) fn refuse(self, refusal: StoreError) {
        // Nobody waits any more if this fails.
        let _ = self.arm.send(Err(refusal));
    }

    /// Makes the native watch: its key's value at `version` is being read when this returns. `None` where nobody
    /// waits for it, or where it can't be made (its future then says so).
    pub(super) fn prepare(
        self,
        shared: &Shared,
        connection: usize,
        version: StoreVersion,
    ) -> Option<PreparedWatch> {
        if self.arm.is_closed() {
            return None;
        }
        let made = || -> FdbResult<_> {
            let transaction = shared.connections[connection].create_trx()?;
            // The watch's future is bounded by whoever waits for it.
            transaction.set_option(TransactionOption::Timeout(0))?;
            transaction.set_read_version(native_version(version));
            let fired: NativeWatch = Box::pin(transaction.watch(&self.key));
            Ok((transaction, fired))
        };
        match made() {
            Ok((transaction, fired)) => Some(PreparedWatch { transaction, fired, arm: self.arm }),
            Err(error) => {
                let _ = self.arm.send(Err(errors::of_read(error)));
                None
            }
        }
    }
}

impl PreparedWatch {
    /// Arms it, now that its transaction has committed.
    pub(super) fn arm(self) {
        let commit = self.transaction.commit();
        let arming: NativeWatch = Box::pin(async move { commit.await.map(drop).map_err(|error| *error) });
        let _ = self.arm.send(Ok(Armed { arming, fired: self.fired }));
    }
}

/// Versions are signed there. One that doesn't fit is ahead of every store.
pub(super) fn native_version(version: StoreVersion) -> i64 {
    i64::try_from(version.get()).unwrap_or(i64::MAX)
}
