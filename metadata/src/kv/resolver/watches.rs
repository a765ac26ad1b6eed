//! Watches: who waits for which key to differ from what it saw.
//!
//! A watch is prepared by its transaction and armed when that has committed. Whoever publishes rows makes them
//! readable first and wakes second; arming registers first and compares second: so no change falls between.
//! Dropping the future takes the watch out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Writes;
use crate::kv::{StoreError, Watch};

/// What a watch resolves with.
#[derive(Debug)]
pub(crate) struct Wake {
    /// How late.
    pub(crate) after: Duration,
    pub(crate) result: Result<(), StoreError>,
}

impl Wake {
    /// At once.
    pub(crate) const NOW: Self = Self { after: Duration::ZERO, result: Ok(()) };
}

/// A watch whose transaction has not committed yet. Dropped, it makes its future fail.
pub(crate) struct PendingWatch {
    id: u64,
    key: Vec<u8>,
    wake: oneshot::Sender<Wake>,
}

impl fmt::Debug for PendingWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingWatch").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PendingWatch {
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Resolves it instead of arming it.
    pub(crate) fn resolve(self, wake: Wake) {
        // Nobody waits any more if this fails.
        let _ = self.wake.send(wake);
    }
}

#[derive(Debug)]
struct Waiter {
    saw: Option<Bytes>,
    wake: oneshot::Sender<Wake>,
}

/// The watches of a store.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    next_id: AtomicU64,
    armed: Mutex<BTreeMap<Vec<u8>, BTreeMap<u64, Waiter>>>,
}

impl Watches {
    /// A watch on `key`, to be armed, and its future.
    pub(crate) fn prepare(self: &Arc<Self>, key: &[u8]) -> (PendingWatch, Watch) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (wake, woken) = oneshot::channel();
        let mut place = Place { watches: Arc::clone(self), key: key.to_vec(), id, woken };
        let watch = async move {
            match (&mut place.woken).await {
                Ok(wake) => {
                    if !wake.after.is_zero() {
                        penstock_types::pause(wake.after).await;
                    }
                    wake.result
                }
                Err(_) => Err(StoreError::Unavailable {
                    reason: "the transaction that made the watch did not commit, or the store closed"
                        .to_owned(),
                }),
            }
        };
        (PendingWatch { id, key: key.to_vec(), wake }, Box::pin(watch))
    }

    /// Arms a watch that saw `saw`; `latest` reads what is published now.
    pub(crate) fn arm(
        &self,
        pending: PendingWatch,
        saw: Option<Bytes>,
        latest: impl FnOnce() -> Result<Option<Bytes>, StoreError>,
    ) {
        let PendingWatch { id, key, wake } = pending;
        {
            let mut armed = self.armed.lock();
            // Under the lock: a future dropped from here on finds its waiter and removes it.
            if wake.is_closed() {
                return;
            }
            armed.entry(key.clone()).or_default().insert(id, Waiter { saw: saw.clone(), wake });
        }
        let result = match latest() {
            Ok(value) if value == saw => return,
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(waiter) = self.remove(&key, id) {
            let _ = waiter.wake.send(Wake { after: Duration::ZERO, result });
        }
    }

    /// Wakes those who saw something else than what was just published. `decide` says how, or `None` if this change
    /// is to go unnoticed.
    pub(crate) fn changed(&self, writes: &Writes, mut decide: impl FnMut() -> Option<Wake>) {
        let mut armed = self.armed.lock();
        if armed.is_empty() {
            return;
        }
        for (key, value) in writes {
            let Some(waiters) = armed.get_mut(key.as_ref()) else { continue };
            let ids: Vec<u64> =
                waiters.iter().filter(|(_, waiter)| waiter.saw != *value).map(|(id, _)| *id).collect();
            for id in ids {
                let Some(mut waiter) = waiters.remove(&id) else { continue };
                if let Some(wake) = decide() {
                    let _ = waiter.wake.send(wake);
                } else {
                    waiter.saw.clone_from(value);
                    waiters.insert(id, waiter);
                }
            }
            if waiters.is_empty() {
                armed.remove(key.as_ref());
            }
        }
    }

    /// Drops every waiter: their futures fail.
    pub(crate) fn close(&self) {
        self.armed.lock().clear();
    }

    /// How many watches are armed.
    pub(crate) fn armed(&self) -> usize {
        self.armed.lock().values().map(BTreeMap::len).sum()
    }

    fn remove(&self, key: &[u8], id: u64) -> Option<Waiter> {
        let mut armed = self.armed.lock();
        let waiters = armed.get_mut(key)?;
        let waiter = waiters.remove(&id);
        if waiters.is_empty() {
            armed.remove(key);
        }
        waiter
    }
}

/// A watch's place among the armed ones, given up when its future is dropped.
struct Place {
    watches: Arc<Watches>,
    key: Vec<u8>,
    id: u64,
    woken: oneshot::Receiver<Wake>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // First closed, then removed: see `arm`.
        self.woken.close();
        drop(self.watches.remove(&self.key, self.id));
    }
}
