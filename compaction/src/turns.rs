//! When a job has its turn: each interval, and when an operator asks; not while an operator has paused it.
//!
//! One [`Turns`] per job and agent. It belongs to the job's loop, which takes turn after turn, and to whoever shows jobs
//! and asks for things. A pause ends by itself: nobody forgets it for ever, and it doesn't outlive the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use penstock_types::pause;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The turns of a job.
#[derive(Debug)]
pub struct Turns {
    name: &'static str,
    about: &'static str,
    state: Mutex<State>,
    changed: Notify,
    /// Of the turn that is under way, or the last: what is done, and what there is to do as far as is known.
    progress: (AtomicU64, AtomicU64),
}

#[derive(Debug, Default)]
struct State {
    paused_until: Option<Instant>,
    /// The turn under way was begun before the pause.
    interrupted: bool,
    /// Turns that were asked for, and how many of them have begun.
    asked: u64,
    begun: u64,
    /// The asked turns that have ended.
    ended: u64,
    running_since: Option<Instant>,
    last: Option<Last>,
    turns: u64,
    failures: u64,
}

#[derive(Debug, Clone)]
struct Last {
    ended: Instant,
    took: Duration,
    error: Option<String>,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// Its name.
    pub name: &'static str,
    /// What it does, in half a sentence.
    pub about: &'static str,
    /// For how long it is paused yet.
    pub paused_for: Option<Duration>,
    /// For how long its turn has been under way.
    pub running_for: Option<Duration>,
    /// What is done of that turn, and of how much; both 0 if that can't be told.
    pub progress: (u64, u64),
    /// When its last turn ended, so long ago.
    pub ended_ago: Option<Duration>,
    /// How long that took.
    pub took: Option<Duration>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Turns that have ended.
    pub turns: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Turns that were asked for and have ended.
    pub asked_ended: u64,
}

impl Turns {
    /// Of a job that does this.
    pub fn new(name: &'static str, about: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            about,
            state: Mutex::default(),
            changed: Notify::new(),
            progress: (AtomicU64::new(0), AtomicU64::new(0)),
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for the next turn: `interval` from now, sooner if somebody asks, later if it is paused.
    pub async fn next(&self, interval: Duration) -> Turn<'_> {
        let due = Instant::now() + interval;
        loop {
            let changed = self.changed.notified();
            let now = Instant::now();
            let waits = {
                let mut state = self.state.lock();
                state.paused_until = state.paused_until.filter(|until| *until > now);
                let is_asked = state.asked > state.begun;
                let until = state.paused_until.map_or(due, |until| until.max(due));
                if is_asked || now >= until {
                    return self.begin(&mut state, now, is_asked);
                }
                until - now
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = pause(waits) => {}
            }
        }
    }

    fn begin(&self, state: &mut State, now: Instant, is_asked: bool) -> Turn<'_> {
        state.running_since = Some(now);
        state.interrupted = false;
        state.begun = state.asked;
        self.progress.0.store(0, Ordering::Relaxed);
        self.progress.1.store(0, Ordering::Relaxed);
        Turn { turns: self, began: now, is_asked, answers: state.asked, counts: true, outcome: None }
    }

    /// Asks for a turn now, paused or not; gives what [`JobStatus::asked_ended`] is once it has ended.
    pub fn ask(&self) -> u64 {
        let mut state = self.state.lock();
        state.asked += 1;
        let number = state.asked;
        drop(state);
        self.changed.notify_one();
        number
    }

    /// No turn begins for so long, but one that is asked for. What is under way goes on, unless the job looks whether it
    /// [is interrupted](Self::is_interrupted).
    pub fn pause(&self, time: Duration) {
        let mut state = self.state.lock();
        state.paused_until = Some(Instant::now() + time);
        state.interrupted = true;
    }

    /// Whether the turn under way is to end soon, since somebody has paused the job after it began. What it leaves is
    /// done in a later one.
    pub fn is_interrupted(&self) -> bool {
        self.state.lock().interrupted
    }

    /// Ends a pause.
    pub fn resume(&self) {
        let mut state = self.state.lock();
        state.paused_until = None;
        state.interrupted = false;
        drop(state);
        self.changed.notify_one();
    }

    /// In this turn there is so much more to do.
    pub fn expects(&self, more: u64) {
        self.progress.1.fetch_add(more, Ordering::Relaxed);
    }

    /// In this turn so much more is done.
    pub fn did(&self, more: u64) {
        self.progress.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How it stands.
    pub fn status(&self) -> JobStatus {
        let now = Instant::now();
        let state = self.state.lock();
        let last = state.last.as_ref();
        JobStatus {
            name: self.name,
            about: self.about,
            paused_for: state.paused_until.and_then(|until| until.checked_duration_since(now)),
            running_for: state.running_since.map(|since| now - since),
            progress: (self.progress.0.load(Ordering::Relaxed), self.progress.1.load(Ordering::Relaxed)),
            ended_ago: last.map(|last| now - last.ended),
            took: last.map(|last| last.took),
            error: last.and_then(|last| last.error.clone()),
            turns: state.turns,
            failures: state.failures,
            asked_ended: state.ended,
        }
    }
}

/// A turn under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    began: Instant,
    is_asked: bool,
    answers: u64,
    counts: bool,
    outcome: Option<String>,
}

impl Turn<'_> {
    /// Whether somebody asked for it: whatever is rarely due is due.
    pub fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// There was nothing to do, since another agent does it: it doesn't count.
    pub fn is_anothers(&mut self) {
        self.counts = false;
    }

    /// It has failed.
    pub fn failed(&mut self, error: &dyn std::error::Error) {
        self.outcome = Some(error.to_string());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let ended = Instant::now();
        let mut state = self.turns.state.lock();
        state.running_since = None;
        state.ended = state.ended.max(self.answers);
        if !self.counts {
            return;
        }
        state.turns += 1;
        state.failures += u64::from(self.outcome.is_some());
        state.last = Some(Last { ended, took: ended - self.began, error: self.outcome.take() });
    }
}

#[cfg(test)]
mod tests;
