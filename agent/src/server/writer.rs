//! The writing half of a connection: answers in the order of their requests, as many of them as are ready with one
//! call to the system.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::answer::{Answer, PendingAnswer};
use super::in_flight::{InFlight, Slot};
use super::stats::ServerStats;

/// Chunks that one call to the system takes.
const CHUNKS_AT_ONCE: usize = 64;
/// Answers are collected up to this many bytes before they are written.
const COLLECTED_MAX: usize = 256 << 10;

/// Why the writing half is at its end.
#[derive(Debug)]
pub(super) enum WriteEnd {
    /// A handler asked for the connection to be closed; the answers before that are sent.
    Closed,
    /// The socket failed.
    Failed(io::Error),
}

#[derive(Debug)]
pub(super) struct AnswerWriter<W> {
    socket: W,
    in_flight: Arc<InFlight>,
    slots: VecDeque<Slot>,
    chunks: VecDeque<Bytes>,
    unsent: usize,
    closing: bool,
    unflushed: bool,
    last_progress: Instant,
    stats: Arc<ServerStats>,
}

impl<W: AsyncWrite + Unpin> AnswerWriter<W> {
    pub(super) fn new(socket: W, in_flight: Arc<InFlight>, stats: Arc<ServerStats>) -> Self {
        Self {
            socket,
            in_flight,
            slots: VecDeque::new(),
            chunks: VecDeque::new(),
            unsent: 0,
            closing: false,
            unflushed: false,
            last_progress: Instant::now(),
            stats,
        }
    }

    /// Sends what is ready. Pending where nothing is ready or the socket takes no more; ready at the end only.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<WriteEnd> {
        self.in_flight.drain_to(&mut self.slots);
        loop {
            let more = self.poll_answers(cx);
            while self.unsent > 0 {
                if let Err(error) = ready!(self.poll_write(cx)) {
                    return Poll::Ready(WriteEnd::Failed(error));
                }
            }
            if !more {
                break;
            }
        }
        if self.unflushed {
            if let Err(error) = ready!(Pin::new(&mut self.socket).poll_flush(cx)) {
                return Poll::Ready(WriteEnd::Failed(error));
            }
            self.unflushed = false;
        }
        if self.closing { Poll::Ready(WriteEnd::Closed) } else { Poll::Pending }
    }

    /// Is everything sent that was asked for? Behind an answer that closes the connection nothing is sent any more.
    pub(super) fn is_idle(&self) -> bool {
        self.unsent == 0 && (self.closing || self.in_flight.is_empty())
    }

    /// Since when the client has taken nothing of what waits for it; `None` while nothing waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (self.unsent > 0).then_some(self.last_progress)
    }

    /// Closes the writing direction, so that the client sees the end behind the last answer.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Takes over the answers that are ready, from the oldest on, and lets the handlers that work go on; true if it
    /// stopped because enough is waiting to be written. A client that doesn't take its answers makes no new ones.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.closing {
            if self.unsent >= COLLECTED_MAX {
                return true;
            }
            if penstock_types::planted!("answers-overtake") && self.slots.len() > 1 {
                self.slots.swap(0, 1);
            }
            let Some(oldest) = self.slots.front_mut() else { break };
            let Poll::Ready(answer) = oldest.answer.poll(cx) else { break };
            let slot = self.slots.pop_front().expect("it was just looked at");
            self.take_over(answer, &slot);
        }
        for slot in self.slots.iter_mut().skip(1) {
            if let PendingAnswer::Working(work) = &mut slot.answer
                && let Poll::Ready(answer) = work.as_mut().poll(cx)
            {
                slot.answer = PendingAnswer::Ready(answer);
            }
        }
        false
    }

    fn take_over(&mut self, answer: Answer, slot: &Slot) {
        let now = Instant::now();
        self.stats.answered(slot.api_key, now.duration_since(slot.received_at));
        self.in_flight.answered(now);
        match answer {
            Answer::Send(frame) => {
                if self.unsent == 0 {
                    self.last_progress = now;
                }
                self.unsent += frame.len();
                frame.for_each_chunk(|chunk| self.chunks.push_back(chunk));
            }
            Answer::Nothing => {}
            Answer::Close => self.closing = true,
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); CHUNKS_AT_ONCE];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.stats.sent(written as u64);
        self.unflushed = true;
        self.unsent -= written;
        if self.unsent > 0 {
            self.last_progress = Instant::now();
        }
        let mut left = written;
        while left > 0 {
            let chunk = self.chunks.front_mut().expect("no more was written than there was");
            if chunk.len() > left {
                chunk.advance(left);
                break;
            }
            left -= chunk.len();
            self.chunks.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}
