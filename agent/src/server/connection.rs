//! One connection: its requests are read, started and answered by one task.
//!
//! ```text
//! socket -> frame -> header, bounds, memory -> decode -> handler -+-> in order: awaited before the next is read
//!                                                                 +-> admitted: a promise      (Produce)
//!                                                                 +-> concurrent: work         (Fetch)
//! socket <- answers in the order of the requests <- in flight  <--+
//! ```
//!
//! When the client goes away, all that was under way for it is dropped. When a request is refused, a handler asks for
//! the end or the server stops, no further request is read, and those before it are answered, within a bound.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, PendingAnswer};
use super::in_flight::{InFlight, Slot};
use super::limits::Limits;
use super::listener::Stream;
use super::log_limit::LogLimit;
use super::service::{Client, Examined, Refusal, Service};
use super::stats::{Closed, ServerStats};
use super::writer::{AnswerWriter, WriteEnd};
use crate::api::Routed;
use crate::wire::{
    FrameMemory, FramePermit, FrameReader, HeaderError, Patience, ReadError, ReceivedFrame, RequestHeader,
};

/// What the connections of a server share.
#[derive(Debug)]
pub(super) struct Shared<V> {
    pub(super) service: Arc<V>,
    pub(super) limits: Limits,
    pub(super) frames: Arc<FrameMemory>,
    pub(super) decoded: Arc<Semaphore>,
    pub(super) stats: Arc<ServerStats>,
    pub(super) stop: CancellationToken,
    pub(super) log: LogLimit,
}

impl<V> Shared<V> {
    async fn decoded_permit(&self, bytes: usize) -> OwnedSemaphorePermit {
        // A request that takes more than there is altogether may go alone.
        let permits = u32::try_from(bytes.min(self.limits.decoded_bytes)).unwrap_or(u32::MAX);
        let decoded = &self.decoded;
        let permit = match Arc::clone(decoded).try_acquire_many_owned(permits) {
            Ok(permit) => Ok(permit),
            Err(_) => Arc::clone(decoded).acquire_many_owned(permits).await,
        };
        permit.expect("the semaphore is never closed")
    }
}

/// Serves a connection to its end, and says why it ended.
pub(super) async fn serve<S: Stream, V: Service>(
    stream: S,
    peer: SocketAddr,
    shared: Arc<Shared<V>>,
) -> Closed {
    let (read, write) = stream.split();
    let in_flight = Arc::new(InFlight::new(shared.limits.in_flight));
    let patience = Patience { idle: shared.limits.idle, frame: shared.limits.frame };
    let reading = Reading {
        frames: FrameReader::new(read, Arc::clone(&shared.frames), patience),
        client: Client::new(peer),
        in_flight: Arc::clone(&in_flight),
        shared: Arc::clone(&shared),
    };
    let mut connection = Connection {
        reading: Some(Box::pin(reading.run())),
        writer: AnswerWriter::new(write, Arc::clone(&in_flight), Arc::clone(&shared.stats)),
        in_flight,
        timer: None,
        ending: None,
        idle: shared.limits.idle,
        drain: shared.limits.drain,
    };
    let mut stopped = pin!(shared.stop.cancelled());
    let closed = poll_fn(|cx| connection.poll(cx, stopped.as_mut())).await;
    tracing::debug!(%peer, reason = closed.label(), "connection closed");
    closed
}

struct Connection<F, W> {
    reading: Option<Pin<Box<F>>>,
    writer: AnswerWriter<W>,
    in_flight: Arc<InFlight>,
    /// For the client to take its answers, or for the last requests to be answered.
    timer: Option<Pin<Box<Sleep>>>,
    ending: Option<Ending>,
    idle: Duration,
    drain: Duration,
}

struct Ending {
    why: Closed,
    until: Instant,
}

impl<F: Future<Output = Closed>, W: AsyncWrite + Unpin> Connection<F, W> {
    fn poll(&mut self, cx: &mut Context<'_>, stopped: Pin<&mut impl Future<Output = ()>>) -> Poll<Closed> {
        if self.ending.is_none() && stopped.poll(cx).is_ready() {
            self.in_flight.stop();
            self.end(Closed::Shutdown);
        }
        if let Some(reading) = &mut self.reading
            && let Poll::Ready(why) = reading.as_mut().poll(cx)
        {
            self.reading = None;
            if matches!(why, Closed::ByClient | Closed::SocketError | Closed::Idle | Closed::SlowFrame) {
                return Poll::Ready(why);
            }
            self.end(why);
        }
        match self.writer.poll(cx) {
            Poll::Ready(WriteEnd::Closed) => self.end_now(Closed::ByHandler),
            Poll::Ready(WriteEnd::Failed(error)) => {
                tracing::debug!(%error, "an answer can't be sent");
                return Poll::Ready(Closed::SocketError);
            }
            Poll::Pending => {}
        }
        if let Some(Ending { why, .. }) = self.ending
            && self.reading.is_none()
            && self.writer.is_idle()
        {
            return self.writer.poll_shutdown(cx).map(|_| why);
        }
        self.poll_timer(cx)
    }

    /// No further request is read; those before are answered, within the bound for it.
    fn end(&mut self, why: Closed) {
        let until = Instant::now() + self.drain;
        self.ending.get_or_insert(Ending { why, until });
    }

    /// Nothing further is read or answered.
    fn end_now(&mut self, why: Closed) {
        self.reading = None;
        self.end(why);
    }

    /// Ready when the client takes nothing of its answers, or the last requests aren't answered in time. The timer
    /// is looked at when it fires: as long as all goes well it isn't there.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        loop {
            let stalled = self.writer.stalled_since().map(|since| since + self.idle);
            let ending = self.ending.as_ref().map(|ending| ending.until);
            let Some(deadline) = stalled.into_iter().chain(ending).min() else { return Poll::Pending };
            if deadline <= Instant::now() {
                return Poll::Ready(self.ending.as_ref().map_or(Closed::Idle, |ending| ending.why));
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() > deadline || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline, not a stand-in for a condition")]
fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline)
}

/// The reading half.
struct Reading<R, V> {
    frames: FrameReader<R>,
    client: Client,
    in_flight: Arc<InFlight>,
    shared: Arc<Shared<V>>,
}

/// Why a frame gets no handler.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Request(#[from] Refusal),
}

/// What a request takes of the shared memory while it is open.
#[derive(Debug)]
struct Held {
    _frame: FramePermit,
    _decoded: OwnedSemaphorePermit,
}

impl<R: AsyncRead + Unpin, V: Service> Reading<R, V> {
    async fn run(mut self) -> Closed {
        loop {
            poll_fn(|cx| self.in_flight.poll_room(cx)).await;
            let frame = {
                let (frames, in_flight) = (&mut self.frames, &self.in_flight);
                let mut next = pin!(frames.next(|| in_flight.quiet_since()));
                poll_fn(|cx| {
                    if in_flight.is_stopped() { Poll::Ready(None) } else { next.as_mut().poll(cx).map(Some) }
                })
                .await
            };
            let Some(frame) = frame else { return Closed::Shutdown };
            self.shared.stats.received(self.frames.take_received());
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => return Closed::ByClient,
                Err(error) => return self.failed(&error),
            };
            if let Err(rejected) = self.request(frame).await {
                let peer = self.client.peer;
                self.shared.log.info(|suppressed| {
                    tracing::info!(%peer, suppressed, "closing a connection: {rejected}");
                });
                return Closed::Refused;
            }
        }
    }

    async fn request(&mut self, frame: ReceivedFrame) -> Result<(), Rejected> {
        let received_at = Instant::now();
        let header = RequestHeader::read(&frame.bytes)?;
        let api_key = header.api_key;
        let body = frame.bytes.slice(header.length..);
        let decoded_bytes = match self.shared.service.examine(&header, &body)? {
            Examined::Fit { decoded_bytes } => decoded_bytes,
            Examined::Answered(answer) => {
                self.push(PendingAnswer::Ready(Answer::Send(answer)), api_key, received_at);
                return Ok(());
            }
        };
        let context = self.client.context(&header);
        let ReceivedFrame { bytes, permit } = frame;
        drop(bytes);
        let held = Held { _frame: permit, _decoded: self.shared.decoded_permit(decoded_bytes).await };
        self.shared.stats.request(api_key);
        let answer = match self.shared.service.route(api_key, context, body)? {
            Routed::InOrder(handler) => PendingAnswer::Ready(handler.await),
            Routed::Admit(handler) => handler.await,
            Routed::Concurrent(handler) => PendingAnswer::Working(Box::pin(async move {
                let answer = handler.await;
                drop(held);
                answer
            })),
        };
        self.push(answer, api_key, received_at);
        Ok(())
    }

    fn push(&self, answer: PendingAnswer, api_key: i16, received_at: Instant) {
        self.in_flight.push(Slot { answer, api_key, received_at });
    }

    fn failed(&self, error: &ReadError) -> Closed {
        let peer = self.client.peer;
        let (closed, is_news) = match error {
            ReadError::Length { .. } => (Closed::Refused, true),
            ReadError::SlowFrame { .. } | ReadError::Stalled { .. } => (Closed::SlowFrame, true),
            ReadError::Idle(_) => (Closed::Idle, false),
            ReadError::Truncated => (Closed::ByClient, false),
            ReadError::Io(_) => (Closed::SocketError, false),
        };
        if is_news {
            self.shared.log.info(|suppressed| {
                tracing::info!(%peer, suppressed, "closing a connection: {error}");
            });
        } else {
            tracing::debug!(%peer, "closing a connection: {error}");
        }
        closed
    }
}
