//! Memory for frames, shared by all connections, and given out so that clients who announce much and send little keep
//! nobody else waiting.
//!
//! - The first [`UNCOUNTED`] bytes of a frame are free.
//! - While half of the memory is free, a frame claims its whole length at once and is received into one buffer.
//! - Past that it claims step by step, each time as much again as has come of it, and its buffer grows with the claim:
//!   who holds much has sent half of it at least.
//! - Where nothing is left, frames wait; one frame at a time may go on all the same, at its whole length, on top of the
//!   bound. So there is always progress, although all memory may be held by unfinished frames.
//! - While anybody waits, frames that hold memory must come at a rate (`FrameDeadline::contended`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::buffers::FramePool;

/// Read at once where more small frames may follow.
pub(super) const STAGING: usize = 64 << 10;
/// So much of a frame is received before its length is taken from the memory that all connections share. No more than
/// what is left of [`STAGING_SMALL`] behind a frame's length.
pub(super) const UNCOUNTED: usize = 2 << 10;
/// Read at once behind a large frame (the next one will be large too, and what is staged is copied), and where the
/// staging buffers are all in use.
pub(super) const STAGING_SMALL: usize = 4 << 10;
/// The smallest step in which memory is claimed.
const STEP: usize = 8 << 10;

/// What all connections share to read frames with.
#[derive(Debug)]
pub struct FrameMemory {
    frames: Arc<Semaphore>,
    frames_max: usize,
    /// For the one frame that may go past the bound.
    beyond: Arc<Semaphore>,
    waiting: AtomicUsize,
    request_max: usize,
    pub(super) pool: Arc<FramePool>,
    pub(super) staging: StagingPool,
}

/// One that waits for memory.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl FrameMemory {
    /// Memory for frames of at most `request_max` bytes each, and `frames_max` bytes together, but for one frame more;
    /// `retained_max` bytes of unused buffers are kept.
    pub fn new(request_max: usize, frames_max: usize, retained_max: usize) -> Arc<Self> {
        let frames_max = frames_max.clamp(STEP, u32::MAX as usize);
        Arc::new(Self {
            frames: Arc::new(Semaphore::new(frames_max)),
            frames_max,
            beyond: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            request_max,
            pool: FramePool::new(retained_max),
            staging: StagingPool::default(),
        })
    }

    /// Bytes of frames that are being read, or read and not yet let go, but for the one that may go past the bound.
    pub fn in_use(&self) -> usize {
        self.frames_max - self.frames.available_permits()
    }

    /// Whether a frame waits for memory.
    pub fn is_contended(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// The largest frame.
    pub(super) fn request_max(&self) -> usize {
        self.request_max
    }

    /// Claims more for a frame of `length` bytes of which `received` have come: at least one byte more than that, or
    /// the whole length. Waits where there is nothing left. Cancel-safe: what was claimed before stays.
    pub(super) async fn claim(&self, permit: &mut FramePermit, received: usize, length: usize) {
        let missing = length - permit.bytes;
        let is_plenty = self.frames.available_permits() >= self.frames_max / 2 + missing;
        if is_plenty && let Ok(piece) = Arc::clone(&self.frames).try_acquire_many_owned(permits(missing)) {
            return permit.add(piece);
        }
        let step = received.saturating_mul(2).max(STEP).min(length) - permit.bytes;
        // Whoever waits at the head of the queue doesn't wait for most of the memory.
        let step = step.min((self.frames_max / 4).max(1));
        if let Ok(piece) = Arc::clone(&self.frames).try_acquire_many_owned(permits(step)) {
            return permit.add(piece);
        }
        self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        tokio::select! {
            biased;
            piece = Arc::clone(&self.frames).acquire_many_owned(permits(step)) => {
                permit.add(piece.expect("the semaphore is never closed"));
            }
            beyond = Arc::clone(&self.beyond).acquire_owned() => {
                permit.beyond = Some(beyond.expect("the semaphore is never closed"));
                permit.bytes = length;
            }
        }
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a frame's length is an i32")
}

/// The right to hold a frame's bytes in memory; given back when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct FramePermit {
    pieces: Option<OwnedSemaphorePermit>,
    /// Held for its drop: the right to go past the bound.
    beyond: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl FramePermit {
    /// How many bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn add(&mut self, piece: OwnedSemaphorePermit) {
        self.bytes += piece.num_permits();
        match &mut self.pieces {
            Some(pieces) => pieces.merge(piece),
            None => self.pieces = Some(piece),
        }
    }
}

/// Bytes on their way from the socket to their frames.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) bytes: Vec<u8>,
    taken: usize,
    /// So much is read at once.
    pub(super) read_max: usize,
    lent: bool,
}

impl Staging {
    pub(super) fn take(&mut self, up_to: usize) -> &[u8] {
        let start = self.taken;
        self.taken = self.bytes.len().min(start.saturating_add(up_to));
        &self.bytes[start..self.taken]
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left() == 0
    }
}

/// The staging buffers of all connections: at most [`StagingPool::LENT_MAX`] large ones at a time, so that clients
/// who make their connections wait can't multiply them. Past that, small ones.
#[derive(Debug, Default)]
pub(super) struct StagingPool(pub(super) Mutex<StagingShelf>);

#[derive(Debug, Default)]
pub(super) struct StagingShelf {
    pub(super) unused: Vec<Vec<u8>>,
    pub(super) lent: usize,
}

impl StagingPool {
    /// 64 MiB together.
    pub(super) const LENT_MAX: usize = 1024;
    /// 4 MiB together.
    pub(super) const UNUSED_MAX: usize = 64;

    pub(super) fn take(&self, small: bool) -> Staging {
        match self.lend() {
            Some(bytes) => {
                let read_max = if small { STAGING_SMALL } else { STAGING };
                Staging { bytes, taken: 0, read_max, lent: true }
            }
            None => Self::small(),
        }
    }

    fn small() -> Staging {
        Staging { bytes: Vec::with_capacity(STAGING_SMALL), taken: 0, read_max: STAGING_SMALL, lent: false }
    }

    fn lend(&self) -> Option<Vec<u8>> {
        let mut shelf = self.0.lock();
        if shelf.lent >= Self::LENT_MAX {
            return None;
        }
        shelf.lent += 1;
        let reused = shelf.unused.pop();
        drop(shelf);
        Some(reused.unwrap_or_else(|| Vec::with_capacity(STAGING)))
    }

    pub(super) fn give_back(&self, staging: Option<Staging>) {
        let Some(Staging { mut bytes, lent: true, .. }) = staging else { return };
        bytes.clear();
        let mut shelf = self.0.lock();
        shelf.lent -= 1;
        if shelf.unused.len() < Self::UNUSED_MAX {
            shelf.unused.push(bytes);
        }
    }
}
