//! Tasks in a simulation: each belongs to the [`Life`] of the agent that spawned it.
//!
//! Invariants: a task of a life that was ended is never polled again, and its future is dropped with all others of
//! that life, in the order in which they were spawned. Outside of any life a task is polled as it comes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the scheduler wants with a task that could be polled.
pub enum Turn {
    /// It is polled.
    Now,
    /// Others come first.
    Yield,
    /// It is polled when this is done.
    After(Boxed<()>),
}

/// Draws whose turn it is.
pub trait Scheduler: Send + Sync + Debug {
    /// A task could be polled.
    fn turn(&self) -> Turn;

    /// A task begins to be polled.
    fn begins(&self);
}

/// One life of an agent: from its start to its end, however it ends.
pub struct Life {
    name: String,
    scheduler: Arc<dyn Scheduler>,
    dead: AtomicBool,
    held: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    tasks: BTreeMap<u64, Arc<dyn Slot>>,
    /// To be woken when the agent goes on.
    waiting: Vec<Waker>,
}

/// A task's future, to be dropped from outside.
trait Slot: Send + Sync {
    fn empty(&self);
}

struct Content<T>(Mutex<Option<Boxed<T>>>);

impl<T> Slot for Content<T> {
    fn empty(&self) {
        let future = lock(&self.0).take();
        drop(future);
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("name", &self.name).finish_non_exhaustive()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Life>>> = const { RefCell::new(None) };
}

impl Life {
    /// A life without tasks.
    pub fn new(name: String, scheduler: Arc<dyn Scheduler>) -> Arc<Self> {
        let (dead, held) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { name, scheduler, dead, held, state: Mutex::default() })
    }

    /// Whose life it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The life whose task is being polled.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// The task of `future`, as part of this life.
    pub fn task<F>(self: &Arc<Self>, future: F) -> Owned<F::Output>
    where
        F: Future + Send + 'static,
    {
        let slot = Arc::new(Content(Mutex::new(Some(Box::pin(future) as Boxed<F::Output>))));
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        if self.is_dead() {
            slot.empty();
        } else {
            state.tasks.insert(number, Arc::clone(&slot) as Arc<dyn Slot>);
        }
        Owned { slot, owner: Some((Arc::clone(self), number)), waiting: None }
    }

    /// Whether it has ended.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// No task of it is polled again. Its futures stay until [`Life::end`].
    pub fn doom(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Ends it: no task of it is polled again, and all its futures are dropped. Not from within one of its tasks.
    pub fn end(self: &Arc<Self>) {
        self.doom();
        let outer = CURRENT.replace(Some(Arc::clone(self)));
        loop {
            // What a future does when it is dropped must not find the lock taken.
            let next = lock(&self.state).tasks.pop_first();
            let Some((_, slot)) = next else { break };
            slot.empty();
        }
        CURRENT.set(outer);
    }

    /// How many tasks there are.
    pub fn tasks(&self) -> usize {
        lock(&self.state).tasks.len()
    }

    /// From now on no task of it is polled.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// It goes on.
    pub fn go_on(&self) {
        self.held.store(false, Ordering::Relaxed);
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether it is held.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

/// A task of a life, or of none.
pub struct Owned<T> {
    slot: Arc<Content<T>>,
    owner: Option<(Arc<Life>, u64)>,
    waiting: Option<Boxed<()>>,
}

impl<T> Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Owned<T> {
    /// The task of `future`, as part of the current life.
    pub fn new<F>(future: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        match Life::current() {
            Some(life) => life.task(future),
            None => {
                let slot = Arc::new(Content(Mutex::new(Some(Box::pin(future) as Boxed<T>))));
                Self { slot, owner: None, waiting: None }
            }
        }
    }
}

impl<T> Owned<T> {
    /// Whether it may be polled now; where not, it is woken when it may.
    fn may_run(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((life, _)) = &self.owner else { return true };
        if life.is_dead() {
            return false;
        }
        if life.is_held() {
            lock(&life.state).waiting.push(cx.waker().clone());
            return false;
        }
        if let Some(waiting) = &mut self.waiting {
            if waiting.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.waiting = None;
        } else {
            match life.scheduler.turn() {
                Turn::Now => {}
                Turn::Yield => {
                    cx.waker().wake_by_ref();
                    return false;
                }
                Turn::After(mut waiting) => {
                    if waiting.as_mut().poll(cx).is_pending() {
                        self.waiting = Some(waiting);
                        return false;
                    }
                }
            }
        }
        life.scheduler.begins();
        true
    }
}

impl<T> Future for Owned<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if !self.may_run(cx) {
            return Poll::Pending;
        }
        let life = self.owner.as_ref().map(|(life, _)| Arc::clone(life));
        let is_inner = life.is_some();
        let outer = if is_inner { CURRENT.replace(life) } else { None };
        let polled = match lock(&self.slot.0).as_mut() {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        };
        if is_inner {
            CURRENT.set(outer);
        }
        // What it answered while it was killed, nobody learns.
        match &self.owner {
            Some((life, _)) if life.is_dead() => Poll::Pending,
            _ => polled,
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        let Some((life, number)) = &self.owner else { return };
        let slot = lock(&life.state).tasks.remove(number);
        let outer = CURRENT.replace(Some(Arc::clone(life)));
        self.slot.empty();
        drop(slot);
        CURRENT.set(outer);
    }
}

#[cfg(test)]
mod tests;
