//! Memory for frames, used again and again.
//!
//! A fresh buffer of some 100 KiB costs a page fault for every 4 KiB that is written to it, which is more than
//! receiving the bytes. So the buffers of large frames come back here when the last slice of them is dropped
//! (a record batch may live until its upload is done), and a bounded number of bytes is kept for the frames to come.
//! Small frames are left to the allocator. Sizes are rounded up by an eighth at most, so that frames of about the
//! same size share buffers.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Frames below this are the allocator's business.
const SMALLEST_POOLED: usize = 32 << 10;
/// Steps between two powers of two.
const STEPS: usize = 8;

/// Buffers that are not in use.
#[derive(Debug)]
pub struct FramePool {
    shelf: Mutex<Shelf>,
    retained_max: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Buffers by the number of their size class, the one used last on top.
    classes: Vec<Vec<Vec<u8>>>,
    retained: usize,
}

impl FramePool {
    /// A pool that keeps at most `retained_max` bytes of unused buffers.
    pub fn new(retained_max: usize) -> Arc<Self> {
        Arc::new(Self { shelf: Mutex::default(), retained_max })
    }

    /// An empty buffer with room for `length` bytes at least.
    pub(super) fn take(self: &Arc<Self>, length: usize) -> FrameBuffer {
        if length < SMALLEST_POOLED {
            return FrameBuffer { bytes: Vec::with_capacity(length), pool: None };
        }
        let class = class_of(length);
        let reused = {
            let mut shelf = self.shelf.lock();
            let reused = shelf.classes.get_mut(class).and_then(Vec::pop);
            shelf.retained -= reused.as_ref().map_or(0, Vec::capacity);
            reused
        };
        let bytes = reused.unwrap_or_else(|| Vec::with_capacity(size_of_class(class)));
        FrameBuffer { bytes, pool: Some(Arc::clone(self)) }
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        let (capacity, class) = (bytes.capacity(), class_of(bytes.capacity()));
        // The allocator may have given more than was asked for; such a buffer would be looked for in vain.
        if capacity != size_of_class(class) {
            return;
        }
        bytes.clear();
        let mut shelf = self.shelf.lock();
        if shelf.retained + capacity <= self.retained_max {
            if shelf.classes.len() <= class {
                shelf.classes.resize_with(class + 1, Vec::new);
            }
            shelf.retained += capacity;
            shelf.classes[class].push(bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn retained(&self) -> usize {
        self.shelf.lock().retained
    }
}

/// A frame that is being received.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    pub(super) bytes: Vec<u8>,
    pool: Option<Arc<FramePool>>,
}

impl FrameBuffer {
    /// The received bytes; their memory goes back to the pool with the last slice of them.
    pub(super) fn freeze(self) -> Bytes {
        match self.pool {
            Some(pool) => Bytes::from_owner(Pooled { bytes: self.bytes, pool }),
            None => Bytes::from(self.bytes),
        }
    }
}

struct Pooled {
    bytes: Vec<u8>,
    pool: Arc<FramePool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

/// The class of the smallest buffers that hold `length` bytes: eight steps to each power of two.
fn class_of(length: usize) -> usize {
    let length = length.max(SMALLEST_POOLED);
    let doublings = (length / SMALLEST_POOLED).ilog2() as usize;
    let step = (SMALLEST_POOLED << doublings) / STEPS;
    let above = length - (SMALLEST_POOLED << doublings);
    doublings * STEPS + above.div_ceil(step)
}

fn size_of_class(class: usize) -> usize {
    let base = SMALLEST_POOLED << (class / STEPS);
    base + base / STEPS * (class % STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_lengths_with_an_eighth_to_spare_at_most() {
        for length in (SMALLEST_POOLED..4 << 20).step_by(997).chain([100 << 20, 1 << 30]) {
            let size = size_of_class(class_of(length));
            assert!(size >= length && size - length <= length / STEPS + 1, "{length} got {size}");
            assert_eq!(class_of(size), class_of(length));
        }
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_and_is_used_again() {
        let pool = FramePool::new(1 << 20);
        let mut buffer = pool.take(500_000);
        buffer.bytes.extend_from_slice(b"some bytes");
        let at = buffer.bytes.as_ptr();
        let frame = buffer.freeze();
        let slice = frame.slice(5..);
        drop(frame);
        assert_eq!(pool.retained(), 0);
        assert_eq!(slice, "bytes");
        drop(slice);
        assert_eq!(pool.retained(), size_of_class(class_of(500_000)));
        let again = pool.take(495_000);
        assert_eq!((again.bytes.as_ptr(), again.bytes.len(), pool.retained()), (at, 0, 0));
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let pool = FramePool::new(100_000);
        let buffers: Vec<_> = (0..3).map(|_| pool.take(40_000)).collect();
        buffers.into_iter().for_each(|buffer| drop(buffer.freeze()));
        assert!(pool.retained() > 0 && pool.retained() <= 100_000);
        drop(pool.take(1_000).freeze());
        assert!(pool.retained() <= 100_000);
    }
}
