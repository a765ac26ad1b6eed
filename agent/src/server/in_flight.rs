//! The requests of one connection that aren't answered yet, between its reading and its writing half.
//!
//! Both halves belong to one task, so that a request costs no wake-up of another: the reading half is polled first,
//! then the writing half, which finds there what was read. A waker is needed only where the reading half waits for
//! room.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::answer::PendingAnswer;

/// A request's place in the order of answers.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) answer: PendingAnswer,
    pub(super) api_key: i16,
    pub(super) received_at: Instant,
}

/// The queue between the halves: requests that the writing half hasn't seen, and how many it has.
#[derive(Debug)]
pub(super) struct InFlight {
    state: Mutex<State>,
    max: usize,
}

#[derive(Debug)]
struct State {
    unseen: VecDeque<Slot>,
    count: usize,
    waiting: Option<Waker>,
    last_answer: Instant,
    stopped: bool,
}

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        let state = State {
            unseen: VecDeque::new(),
            count: 0,
            waiting: None,
            last_answer: Instant::now(),
            stopped: false,
        };
        Self { state: Mutex::new(state), max: max.max(1) }
    }

    /// Waits until another request may be read.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.count < self.max {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Adds a request, behind those before it.
    pub(super) fn push(&self, slot: Slot) {
        let mut state = self.state.lock();
        state.count += 1;
        state.unseen.push_back(slot);
    }

    /// Moves what is new to `slots`.
    pub(super) fn drain_to(&self, slots: &mut VecDeque<Slot>) {
        slots.append(&mut self.state.lock().unseen);
    }

    /// Notes that a request was answered.
    pub(super) fn answered(&self, now: Instant) {
        let waiting = {
            let mut state = self.state.lock();
            state.count -= 1;
            state.last_answer = now;
            state.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// No further request shall be read.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// When the last request was answered (or the connection began); `None` while one isn't.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.count == 0).then_some(state.last_answer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().count == 0
    }
}
