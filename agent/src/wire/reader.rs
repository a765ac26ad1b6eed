//! Frames off a socket.
//!
//! ```text
//! length (4, of what follows, 1 to the largest request) | request
//! ```
//!
//! Each frame ends up in a buffer of its own, exactly as large as needed and never zeroed. Small frames are read
//! through a staging buffer, many with one call to the system; of a large frame only the beginning is, the rest goes
//! straight to its place. The staging buffer belongs to a connection only while there is something in it: idle and
//! slow connections hold none.
//!
//! Before memory is taken for a frame, the frame's length is taken from [`FrameMemory`], shared by all connections:
//! where that is used up, the socket isn't read. The first [`UNCOUNTED`] bytes are free: clients that announce large
//! frames and then send little of them keep nobody else waiting.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::buffers::{FrameBuffer, FramePool};

/// Of a frame of which more than this is missing, the rest is read straight to its place.
const READ_DIRECTLY: usize = 16 << 10;
/// Read at once where more small frames may follow.
const STAGING: usize = 64 << 10;
/// So much of a frame is received before its length is taken from the memory that all connections share. No more than
/// what is left of [`STAGING_SMALL`] behind a frame's length.
const UNCOUNTED: usize = 2 << 10;
/// Read at once behind a large frame (the next one will be large too, and what is staged is copied), and where the
/// staging buffers are all in use.
const STAGING_SMALL: usize = 4 << 10;

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The length in front of the frame is not one: negative, zero, or above the largest request.
    #[error("a frame of {length} bytes, where 1 to {max} are allowed")]
    Length {
        /// The length on the wire.
        length: i32,
        /// The largest request.
        max: usize,
    },
    /// The client went away in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Truncated,
    /// The rest of a frame didn't come in time.
    #[error("a frame of {length} bytes took longer than {allowed:?}")]
    SlowFrame {
        /// The frame's length; 0 where not even that had come.
        length: usize,
        /// The time that it had.
        allowed: Duration,
    },
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    /// The socket failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
}

/// How long the server waits for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the next frame to begin.
    pub idle: Duration,
    /// For a frame that was begun.
    pub frame: FrameDeadline,
}

/// What all connections share to read frames with.
#[derive(Debug)]
pub struct FrameMemory {
    frames: Arc<Semaphore>,
    frames_max: usize,
    request_max: usize,
    pool: Arc<FramePool>,
    staging: StagingPool,
}

impl FrameMemory {
    /// Memory for frames of at most `request_max` bytes each, and `frames_max` bytes (no less than that) together;
    /// `retained_max` bytes of unused buffers are kept.
    pub fn new(request_max: usize, frames_max: usize, retained_max: usize) -> Arc<Self> {
        let frames_max = frames_max.max(request_max).min(u32::MAX as usize);
        Arc::new(Self {
            frames: Arc::new(Semaphore::new(frames_max)),
            frames_max,
            request_max: request_max.min(frames_max),
            pool: FramePool::new(retained_max),
            staging: StagingPool::default(),
        })
    }

    /// Bytes of frames that are being read, or read and not yet let go.
    pub fn in_use(&self) -> usize {
        self.frames_max - self.frames.available_permits()
    }

    fn check_length(&self, raw: [u8; 4]) -> Result<usize, ReadError> {
        let length = i32::from_be_bytes(raw);
        match usize::try_from(length) {
            Ok(within) if within > 0 && within <= self.request_max => Ok(within),
            _ => Err(ReadError::Length { length, max: self.request_max }),
        }
    }

    async fn acquire(&self, length: usize) -> FramePermit {
        let permits = u32::try_from(length).expect("a frame's length is an i32");
        let permit = match Arc::clone(&self.frames).try_acquire_many_owned(permits) {
            Ok(permit) => Ok(permit),
            Err(_) => Arc::clone(&self.frames).acquire_many_owned(permits).await,
        };
        FramePermit(permit.expect("the semaphore is never closed"))
    }
}

/// The right to hold a frame's bytes in memory; given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct FramePermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// A frame without its length field.
#[derive(Debug)]
pub struct ReceivedFrame {
    /// The request.
    pub bytes: Bytes,
    /// To be held while the request's bytes count as not yet taken over by its handler.
    pub permit: FramePermit,
}

/// The frames of one connection.
#[derive(Debug)]
pub struct FrameReader<R> {
    socket: R,
    memory: Arc<FrameMemory>,
    head: [u8; 4],
    head_filled: usize,
    frame: Option<Partial>,
    staged: Option<Staging>,
    after_large: bool,
    received: u64,
    patience: Patience,
    /// When the wait for the rest of the current frame, or for the next one to begin, was first noticed.
    waiting_since: Option<Instant>,
    /// One timer, set no earlier than needed and looked at when it fires: a connection in use doesn't touch it.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Partial {
    buffer: FrameBuffer,
    length: usize,
    /// `None` while no more than [`UNCOUNTED`] bytes have come; the buffer has room for no more until then.
    permit: Option<FramePermit>,
}

impl Partial {
    fn missing(&self) -> usize {
        self.length - self.buffer.bytes.len()
    }

    /// What may be received with the memory that the frame has.
    fn room(&self) -> usize {
        if self.permit.is_some() {
            self.missing()
        } else {
            self.length.min(UNCOUNTED) - self.buffer.bytes.len()
        }
    }

    fn fill(&mut self, staged: Option<&mut Staging>) {
        let staged = staged.map_or(&[][..], |staged| staged.take(self.room()));
        self.buffer.bytes.extend_from_slice(staged);
    }
}

impl<R> Drop for FrameReader<R> {
    fn drop(&mut self) {
        self.memory.staging.give_back(self.staged.take());
    }
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames off `socket`.
    pub fn new(socket: R, memory: Arc<FrameMemory>, patience: Patience) -> Self {
        Self {
            socket,
            memory,
            head: [0; 4],
            head_filled: 0,
            frame: None,
            staged: None,
            after_large: false,
            received: 0,
            patience,
            waiting_since: None,
            timer: None,
        }
    }

    /// The next frame; `None` when the client has closed the connection between two frames. The wait for a
    /// frame to begin is limited from the time that `quiet_since` tells, and not at all while that is `None`.
    /// Cancel-safe: nothing that was read is lost.
    pub async fn next(
        &mut self,
        quiet_since: impl Fn() -> Option<Instant>,
    ) -> Result<Option<ReceivedFrame>, ReadError> {
        loop {
            if let Some(complete) = self.take_staged().await? {
                return Ok(Some(complete));
            }
            let was_between = self.is_between_frames();
            let count = poll_fn(|cx| match self.poll_fill(cx) {
                Poll::Ready(filled) => Poll::Ready(filled.map_err(ReadError::Io)),
                Poll::Pending => self.poll_patience(cx, &quiet_since).map(Err),
            })
            .await?;
            if count == 0 {
                return if was_between { Ok(None) } else { Err(ReadError::Truncated) };
            }
            if was_between {
                self.waiting_since = None;
            }
            self.received += count as u64;
        }
    }

    /// Bytes received since the last call.
    pub fn take_received(&mut self) -> u64 {
        std::mem::take(&mut self.received)
    }

    fn is_between_frames(&self) -> bool {
        self.frame.is_none() && self.head_filled == 0
    }

    /// Moves what is staged to where it belongs, up to the end of a frame; after `None` nothing is staged any more.
    async fn take_staged(&mut self) -> Result<Option<ReceivedFrame>, ReadError> {
        if self.frame.is_none() {
            let head_missing = 4 - self.head_filled;
            let staged = self.staged.as_mut().map_or(&[][..], |staged| staged.take(head_missing));
            self.head[self.head_filled..self.head_filled + staged.len()].copy_from_slice(staged);
            self.head_filled += staged.len();
            if self.head_filled == 4 {
                let length = self.memory.check_length(self.head)?;
                self.waiting_since = None;
                let uncounted = length.min(UNCOUNTED);
                let (room, permit) = match self.staged.as_ref().map_or(0, Staging::left) >= uncounted {
                    true => (length, Some(self.memory.acquire(length).await)),
                    false => (uncounted, None),
                };
                self.head_filled = 0;
                self.frame = Some(Partial { buffer: self.memory.pool.take(room), length, permit });
            }
        }
        if let Some(frame) = &mut self.frame {
            frame.fill(self.staged.as_mut());
            if frame.permit.is_none() && frame.room() == 0 {
                let permit = self.memory.acquire(frame.length).await;
                if frame.missing() > 0 {
                    let whole = self.memory.pool.take(frame.length);
                    let first = std::mem::replace(&mut frame.buffer, whole);
                    frame.buffer.bytes.extend_from_slice(&first.bytes);
                }
                frame.permit = Some(permit);
                frame.fill(self.staged.as_mut());
            }
        }
        if self.staged.as_ref().is_some_and(Staging::is_empty) {
            self.memory.staging.give_back(self.staged.take());
        }
        Ok(self.take_complete())
    }

    fn take_complete(&mut self) -> Option<ReceivedFrame> {
        let Partial { buffer, length, permit } = self.frame.take_if(|frame| frame.missing() == 0)?;
        self.after_large = length >= STAGING;
        self.waiting_since = None;
        let permit = permit.expect("memory is taken before a frame is whole");
        Some(ReceivedFrame { bytes: buffer.freeze(), permit })
    }

    /// Reads once, to the frame itself or to a staging buffer; gives the number of bytes, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.staged.is_none(), "what is staged is used before more is read");
        match &mut self.frame {
            Some(frame) if frame.permit.is_some() && frame.missing() >= READ_DIRECTLY => {
                let missing = frame.missing();
                pin!(self.socket.read_buf(&mut (&mut frame.buffer.bytes).limit(missing))).poll(cx)
            }
            _ => self.poll_stage(cx),
        }
    }

    /// Ready when the client has had its time.
    fn poll_patience(
        &mut self,
        cx: &mut Context<'_>,
        quiet_since: impl Fn() -> Option<Instant>,
    ) -> Poll<ReadError> {
        let mut since = *self.waiting_since.get_or_insert_with(Instant::now);
        let (length, received) =
            self.frame.as_ref().map_or((0, 0), |frame| (frame.length, frame.buffer.bytes.len()));
        let between = self.is_between_frames();
        let allowed = if between { self.patience.idle } else { self.patience.frame.for_received(received) };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio_sleep_until(since + allowed)));
        if timer.deadline() > since + allowed {
            timer.as_mut().reset(since + allowed);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if between {
                since = quiet_since().map_or(now, |quiet| quiet.max(since));
            }
            if now >= since + allowed {
                return Poll::Ready(match between {
                    true => ReadError::Idle(allowed),
                    false => ReadError::SlowFrame { length, allowed },
                });
            }
            timer.as_mut().reset(since + allowed);
        }
        Poll::Pending
    }

    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut staging = self.memory.staging.take(self.after_large);
        let polled = pin!(self.socket.read_buf(&mut (&mut staging.bytes).limit(staging.read_max))).poll(cx);
        if let Poll::Ready(Ok(1..)) = polled {
            self.staged = Some(staging);
        } else {
            self.memory.staging.give_back(Some(staging));
        }
        let count = ready!(polled)?;
        Poll::Ready(Ok(count))
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline, not a stand-in for a condition")]
fn tokio_sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline)
}

/// How long a frame may take from its first byte: a time for any, and more by what has come of it, at the slowest
/// rate that is put up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameDeadline {
    /// For any frame.
    pub base: Duration,
    /// The slowest rate, in bytes per second.
    pub slowest_bytes_per_second: u32,
}

impl Default for FrameDeadline {
    /// 30 s, and 4 s for each MiB.
    fn default() -> Self {
        Self { base: Duration::from_secs(30), slowest_bytes_per_second: 256 << 10 }
    }
}

impl FrameDeadline {
    /// The time for a frame of which `bytes` have come.
    pub fn for_received(&self, bytes: usize) -> Duration {
        self.base + Duration::from_secs_f64(bytes as f64 / f64::from(self.slowest_bytes_per_second.max(1)))
    }
}

/// Bytes on their way from the socket to their frames.
#[derive(Debug)]
struct Staging {
    bytes: Vec<u8>,
    taken: usize,
    read_max: usize,
    lent: bool,
}

impl Staging {
    fn take(&mut self, up_to: usize) -> &[u8] {
        let start = self.taken;
        self.taken = self.bytes.len().min(start.saturating_add(up_to));
        &self.bytes[start..self.taken]
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn is_empty(&self) -> bool {
        self.left() == 0
    }
}

/// The staging buffers of all connections: at most [`StagingPool::LENT_MAX`] large ones at a time, so that clients
/// who make their connections wait can't multiply them. Past that, small ones.
#[derive(Debug, Default)]
struct StagingPool(Mutex<StagingShelf>);

#[derive(Debug, Default)]
struct StagingShelf {
    unused: Vec<Vec<u8>>,
    lent: usize,
}

impl StagingPool {
    /// 64 MiB together.
    const LENT_MAX: usize = 1024;
    /// 4 MiB together.
    const UNUSED_MAX: usize = 64;

    fn take(&self, small: bool) -> Staging {
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

    fn give_back(&self, staging: Option<Staging>) {
        let Some(Staging { mut bytes, lent: true, .. }) = staging else { return };
        bytes.clear();
        let mut shelf = self.0.lock();
        shelf.lent -= 1;
        if shelf.unused.len() < Self::UNUSED_MAX {
            shelf.unused.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
