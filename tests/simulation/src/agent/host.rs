//! One agent of the cluster, through all its lives: started as the binary starts it, killed, held up, restarted.

use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use penstock_agent::broker::Broker;
use penstock_agent::start::{Interruption, Listeners, Parts, start_on};
use penstock_config::AgentConfig;
use penstock_metadata::kv::SharedStore;
use penstock_storage::bucket::BucketOptions;
use penstock_types::simulated::{Life, Scheduler, Turn};
use penstock_types::{Clock, pause};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::bucket::Objects;
use super::clock::SimClock;
use super::seam::{Kill, Seam, Ways};
use super::store::{Databases, SimStore};
use crate::draw::Draw;
use crate::net::{Net, SimListener, agent_address};
use crate::oracle::Oracle;
use crate::{note, trace};

/// Draws whose turn it is.
#[derive(Debug)]
pub struct SeededScheduler {
    draw: Draw,
    /// How often others come first.
    yields: f64,
    /// How often a task stands still for a while.
    delays: f64,
    delay: Range<Duration>,
}

impl SeededScheduler {
    /// A scheduler.
    pub fn new(draw: Draw, yields: f64, delays: f64) -> Arc<Self> {
        Arc::new(Self { draw, yields, delays, delay: Duration::from_millis(1)..Duration::from_millis(40) })
    }
}

impl Scheduler for SeededScheduler {
    fn turn(&self) -> Turn {
        if self.draw.chance(self.yields) {
            Turn::Yield
        } else if self.draw.chance(self.delays) {
            Turn::After(Box::pin(pause(self.draw.duration(self.delay.clone()))))
        } else {
            Turn::Now
        }
    }

    fn begins(&self) {
        trace::keep_time();
    }
}

/// What the agents of a cluster share.
#[derive(Debug)]
pub struct Ground {
    /// The metadata store.
    pub store: Arc<Databases>,
    /// The bucket.
    pub objects: Arc<Objects>,
    /// The network.
    pub net: Arc<Net>,
    /// Whose turn it is.
    pub scheduler: Arc<SeededScheduler>,
    /// What must not be.
    pub oracle: Arc<Oracle>,
}

/// One agent.
#[derive(Debug)]
pub struct Host {
    index: usize,
    config: AgentConfig,
    ground: Arc<Ground>,
    ways: Arc<Ways>,
    clock: Arc<SimClock>,
    draw: Draw,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    lives: u32,
    seam: Option<Arc<Seam>>,
    broker: Weak<Broker>,
    stop: CancellationToken,
    serves: bool,
    /// Not to be started again.
    retired: bool,
    /// Not to be started now.
    down: bool,
    /// An agent that begins to live now and ends by itself is a finding.
    calm: bool,
}

impl Host {
    /// An agent that is not started yet.
    pub fn new(
        index: usize,
        config: AgentConfig,
        ground: Arc<Ground>,
        clock: SimClock,
        draw: Draw,
    ) -> Arc<Self> {
        let (ways, clock) = (Arc::default(), Arc::new(clock));
        let (state, changed) = (Mutex::default(), Notify::new());
        Arc::new(Self { index, config, ground, ways, clock, draw, state, changed })
    }

    /// Its ways to the stores.
    pub fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Its wall clock.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// The seam of its current life.
    pub fn seam(&self) -> Option<Arc<Seam>> {
        self.state.lock().seam.clone().filter(|seam| !seam.is_dead())
    }

    /// Its services, while it serves.
    pub fn broker(&self) -> Option<Arc<Broker>> {
        let state = self.state.lock();
        if state.serves { state.broker.upgrade() } else { None }
    }

    /// Whether it serves.
    pub fn serves(&self) -> bool {
        self.state.lock().serves
    }

    /// From now on it is not expected to end.
    pub fn calm(&self) {
        self.state.lock().calm = true;
        if let Some(seam) = self.seam() {
            seam.spare();
            seam.life().go_on();
        }
    }

    /// Asks it to stop as SIGTERM does.
    pub fn stop(&self) {
        let stop = self.state.lock().stop.clone();
        stop.cancel();
    }

    /// Stops it for good.
    pub fn retire(&self) {
        self.state.lock().retired = true;
        self.stop();
    }

    /// Whatever becomes of the life that it has: it does not begin another one.
    pub fn stay_down(&self) {
        self.state.lock().down = true;
    }

    /// It may live again.
    pub fn come_up(&self) {
        self.state.lock().down = false;
        self.changed.notify_waiters();
    }

    /// How many lives it has had, with the one that it has.
    pub fn lives(&self) -> u32 {
        self.state.lock().lives
    }

    /// Waits until the life of that number is over.
    pub async fn wait_until_past(&self, life: u32) {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state.lock();
                if state.lives > life || state.seam.is_none() {
                    return;
                }
            }
            changed.await;
        }
    }

    async fn wait_until_up(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.state.lock().down {
                return;
            }
            changed.await;
        }
    }

    /// Kills it as SIGKILL does.
    pub fn kill(&self) {
        if let Some(seam) = self.seam() {
            seam.doom("between");
        }
    }

    /// Waits until it serves.
    pub async fn wait_until_serving(&self) {
        loop {
            let changed = self.changed.notified();
            if self.serves() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until it doesn't.
    pub async fn wait_until_gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state.lock().seam.is_none() {
                return;
            }
            changed.await;
        }
    }

    /// Lives again and again, until it is retired.
    pub async fn run(self: Arc<Self>) {
        while !self.state.lock().retired {
            self.wait_until_up().await;
            self.live().await;
            let (retired, calm) = {
                let state = self.state.lock();
                (state.retired, state.calm)
            };
            if !retired {
                let longest = if calm { 200 } else { 4_000 };
                pause(self.draw.duration(Duration::from_millis(20)..Duration::from_millis(longest))).await;
            }
        }
        self.changed.notify_waiters();
    }

    async fn live(self: &Arc<Self>) {
        let (number, stop, began_in_calm) = {
            let mut state = self.state.lock();
            state.lives += 1;
            state.stop = CancellationToken::new();
            (state.lives, state.stop.clone(), state.calm)
        };
        let ground = &self.ground;
        let life = Life::new(format!("a{}.{number}", self.index), Arc::clone(&ground.scheduler) as _);
        let seam = Seam::new(self.index, Arc::clone(&life), Arc::clone(&self.ways));
        let listener = ground.net.listen(agent_address(self.index), &seam);
        self.state.lock().seam = Some(Arc::clone(&seam));
        let (ended, end) = oneshot::channel();
        let host = Arc::clone(self);
        let parts = self.parts(&seam, number);
        note!(life.name(), "starts");
        trace::count("agents started");
        let main = async move {
            let end = host.main(parts, listener, stop).await;
            let _ = ended.send(end);
        };
        let main = tokio::spawn(life.task(main));
        let end = tokio::select! {
            biased;
            () = seam.doomed.notified() => None,
            end = end => end.ok(),
        };
        let broker = {
            let mut state = self.state.lock();
            state.serves = false;
            state.seam = None;
            std::mem::take(&mut state.broker)
        };
        life.end();
        main.abort();
        ground.net.forget(&seam);
        note!(life.name(), "has ended: {}", end.as_deref().unwrap_or("killed"));
        if broker.strong_count() > 0 {
            trace::count("broker outlived its agent");
        }
        // One that began before may end of what happened before.
        if began_in_calm && !matches!(end.as_deref(), Some("stopped")) {
            let how = end.as_deref().unwrap_or("killed");
            ground.oracle.violation(&format!("agent {} ended in calm: {how}", self.index));
        }
        self.changed.notify_waiters();
    }

    fn parts(&self, seam: &Arc<Seam>, number: u32) -> Parts {
        let draw = self.draw.stream(&format!("agent {} life {number}", self.index));
        let databases = Arc::clone(&self.ground.store);
        let store =
            SimStore::new(databases, Arc::clone(seam), draw.stream(&format!("ways {} {number}", self.index)));
        let bucket = self.ground.objects.bucket(seam, &bucket_options(), &draw);
        Parts {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            randomness: draw.randomness(),
            store: Some(store as SharedStore),
            bucket: Some(bucket),
            can_abort: false,
        }
    }

    /// What the process does.
    async fn main(&self, parts: Parts, kafka: SimListener, stop: CancellationToken) -> String {
        let started = start_on(self.config.clone(), parts, Listeners { kafka, http: None }).await;
        let mut agent = match started {
            Ok(agent) => agent,
            Err(error) => return format!("did not start: {error}"),
        };
        {
            let mut state = self.state.lock();
            state.broker = Arc::downgrade(&agent.broker);
            state.serves = true;
        }
        self.changed.notify_waiters();
        let interrupted = tokio::select! {
            biased;
            interruption = agent.interrupted() => Some(interruption),
            () = stop.cancelled() => None,
        };
        self.state.lock().serves = false;
        match interrupted {
            Some(Interruption::Failed(failure)) => format!("failed: {failure}"),
            Some(Interruption::Asked(_)) => "was asked to end".to_owned(),
            None => match agent.shutdown().await {
                Ok(()) => "stopped".to_owned(),
                Err(error) => format!("did not stop: {error}"),
            },
        }
    }

    /// Kills it at an operation to come.
    pub fn kill_at(&self, kill: Kill) {
        if let Some(seam) = self.seam() {
            seam.kill_at(kill);
        }
    }
}

fn bucket_options() -> BucketOptions {
    BucketOptions { attempt_timeout: Duration::from_secs(5), ..BucketOptions::default() }
}
