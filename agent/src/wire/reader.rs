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
//! Memory for frames is claimed from [`FrameMemory`], shared by all connections: where that is used up, the socket
//! isn't read (see there).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, Sleep};

use super::buffers::FrameBuffer;
use super::frame_memory::{FrameMemory, FramePermit, STAGING, Staging, UNCOUNTED};

/// Of a frame of which more than this is missing, the rest is read straight to its place.
const READ_DIRECTLY: usize = 16 << 10;
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
    /// A frame came slowly while others waited for memory that it held.
    #[error("a frame of {length} bytes came too slowly for {contended:?} while others waited for memory")]
    Stalled {
        /// The frame's length.
        length: usize,
        /// The time that it was watched for.
        contended: Duration,
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
    /// Since when the current frame has been watched while it holds memory, and how much of it had come by then.
    watched: Option<(Instant, usize)>,
    /// One timer, set no earlier than needed and looked at when it fires: a connection in use doesn't touch it.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Partial {
    buffer: FrameBuffer,
    length: usize,
    /// What it may take of the shared memory; nothing while no more than [`UNCOUNTED`] bytes have come.
    permit: FramePermit,
}

impl Partial {
    fn missing(&self) -> usize {
        self.length - self.buffer.bytes.len()
    }

    /// What may be received with the memory that the frame has.
    fn room(&self) -> usize {
        self.permit.bytes().max(UNCOUNTED).min(self.length) - self.buffer.bytes.len()
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
            watched: None,
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

    fn check_length(&self, raw: [u8; 4]) -> Result<usize, ReadError> {
        let (length, max) = (i32::from_be_bytes(raw), self.memory.request_max());
        match usize::try_from(length) {
            Ok(within) if within > 0 && within <= max => Ok(within),
            _ => Err(ReadError::Length { length, max }),
        }
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
                let length = self.check_length(self.head)?;
                self.waiting_since = None;
                let mut permit = FramePermit::default();
                let uncounted = length.min(UNCOUNTED);
                if self.staged.as_ref().map_or(0, Staging::left) >= uncounted {
                    self.memory.claim(&mut permit, uncounted, length).await;
                }
                self.head_filled = 0;
                let buffer = self.memory.pool.take(permit.bytes().max(uncounted));
                self.frame = Some(Partial { buffer, length, permit });
            }
        }
        while let Some(frame) = &mut self.frame {
            frame.fill(self.staged.as_mut());
            if frame.room() > 0 || frame.permit.bytes() == frame.length {
                break;
            }
            let began_waiting = Instant::now();
            self.memory.claim(&mut frame.permit, frame.buffer.bytes.len(), frame.length).await;
            // That wait isn't the client's.
            self.waiting_since = self.waiting_since.map(|since| since + began_waiting.elapsed());
            self.watched = None;
            if frame.missing() > 0 {
                let larger = self.memory.pool.take(frame.permit.bytes());
                let first = std::mem::replace(&mut frame.buffer, larger);
                frame.buffer.bytes.extend_from_slice(&first.bytes);
            }
        }
        if self.staged.as_ref().is_some_and(Staging::is_empty) {
            self.memory.staging.give_back(self.staged.take());
        }
        Ok(self.take_complete())
    }

    fn take_complete(&mut self) -> Option<ReceivedFrame> {
        let Partial { buffer, length, permit } = self.frame.take_if(|frame| frame.missing() == 0)?;
        debug_assert!(permit.bytes() == length, "memory is claimed before a frame is whole");
        self.after_large = length >= STAGING;
        self.waiting_since = None;
        self.watched = None;
        Some(ReceivedFrame { bytes: buffer.freeze(), permit })
    }

    /// Reads once, to the frame itself or to a staging buffer; gives the number of bytes, 0 at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        debug_assert!(self.staged.is_none(), "what is staged is used before more is read");
        match &mut self.frame {
            Some(frame) if frame.permit.bytes() > 0 && frame.missing() >= READ_DIRECTLY => {
                let room = frame.room();
                pin!(self.socket.read_buf(&mut (&mut frame.buffer.bytes).limit(room))).poll(cx)
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
        let contended = self.patience.frame.contended;
        let holds_memory = self.frame.as_ref().is_some_and(|frame| frame.permit.bytes() > 0);
        if holds_memory {
            self.watched.get_or_insert_with(|| (Instant::now(), received));
        }
        let next_look = |since: Instant, watched: Option<(Instant, usize)>| {
            watched.map_or(since + allowed, |(from, _)| (from + contended).min(since + allowed))
        };
        let look = next_look(since, self.watched);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio_sleep_until(look)));
        if timer.deadline() > look {
            timer.as_mut().reset(look);
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
            if let Some((from, had)) = self.watched
                && now >= from + contended
            {
                if self.memory.is_contended() && self.patience.frame.is_slow(received - had, now - from) {
                    return Poll::Ready(ReadError::Stalled { length, contended });
                }
                self.watched = Some((now, received));
            }
            timer.as_mut().reset(next_look(since, self.watched));
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
    /// For so long a frame that holds memory may come slower than that while others wait for memory.
    pub contended: Duration,
}

impl Default for FrameDeadline {
    /// 30 s, and 4 s for each MiB; 2 s while others wait.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(30),
            slowest_bytes_per_second: 256 << 10,
            contended: Duration::from_secs(2),
        }
    }
}

impl FrameDeadline {
    /// The time for a frame of which `bytes` have come.
    pub fn for_received(&self, bytes: usize) -> Duration {
        self.base + Duration::from_secs_f64(bytes as f64 / f64::from(self.slowest_bytes_per_second.max(1)))
    }

    fn is_slow(&self, bytes: usize, within: Duration) -> bool {
        (bytes as f64) < within.as_secs_f64() * f64::from(self.slowest_bytes_per_second)
    }
}

#[cfg(test)]
mod tests;
