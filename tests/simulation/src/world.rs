//! One run of a seed: a cluster and its clients, a time of faults, a time of calm, and what must be so at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use penstock_config::AgentConfig;
use penstock_metadata::kv::memory::{FaultKind, MemoryFaults, MemoryStore};
use penstock_types::pause;
use penstock_types::simulated::Life;
use tokio::task::JoinSet;

use crate::agent::bucket::{BucketWeather, Objects};
use crate::agent::clock::SimClock;
use crate::agent::host::{Ground, Host, SeededScheduler};
use crate::agent::seam::{At, COMMIT, GROUP_COMMIT, Hold, JOB_COMMIT, Kill};
use crate::agent::store::Databases;
use crate::checks;
use crate::client::admin::Admin;
use crate::client::consumer::{Consumer, ConsumerPlan};
use crate::client::group::Member;
use crate::client::keys::KeyPlan;
use crate::client::peer::{Clients, Peer};
use crate::client::producer::Producer;
use crate::draw::Draw;
use crate::net::{Net, Weather, agent_address};
use crate::oracle::{Expiry, Oracle};
use crate::scenario::{AgentPlan, CLIENTS_OF_A_LIFE, Scenario};
use crate::{note, trace};

mod restore;

/// In calm, everything that clients have begun is done within so long,
const SETTLES_WITHIN: Duration = Duration::from_secs(180);
/// and so much for each record that was sent: a reader may want a batch at a time.
const SETTLES_PER_RECORD: Duration = Duration::from_millis(60);
/// How long an agent that is left alone may hold on to as much as it does.
const RESTS_WITHIN: Duration = Duration::from_secs(20);
/// How long a client waits for an answer while nothing goes wrong.
const PATIENCE_MS: u64 = 15_000;
/// In quiet, what has expired is deleted within so long: it is sealed, and looked at.
const EXPIRES_WITHIN: Duration = Duration::from_secs(60);
/// And objects that nothing refers to within so long, with all delays, a late upload's among them, and merges before.
const DELETED_WITHIN: Duration = Duration::from_secs(1_500);
/// How long clients may take for anything before the faults begin.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A cluster and its clients.
pub struct World {
    scenario: Scenario,
    draw: Draw,
    ground: Arc<Ground>,
    hosts: Vec<Arc<Host>>,
    clients: Arc<Clients>,
    /// Clients are polled in an order that the seed draws, as agents are.
    life: Arc<Life>,
    /// Lives of the metadata that are over.
    former_lives: usize,
    next_client: usize,
}

/// The clients of a life of the metadata.
struct Crowd {
    /// Producers make new records, and topics are changed.
    works: Arc<AtomicBool>,
    /// Consumers end at the end.
    ends: Arc<AtomicBool>,
    producers: JoinSet<()>,
    readers: JoinSet<()>,
}

impl World {
    /// A world that has not begun.
    pub fn new(scenario: Scenario) -> Self {
        let draw = Draw::new(scenario.seed, "world");
        let oracle = Arc::new(Oracle::default());
        let scheduler = SeededScheduler::new(draw.stream("scheduler"), scenario.yields, scenario.delays);
        let ground = Arc::new(Ground {
            store: Databases::new(MemoryStore::new(draw.stream("store").randomness())),
            objects: Objects::new(draw.stream("objects")),
            net: Net::new(draw.stream("net")),
            scheduler,
            oracle: Arc::clone(&oracle),
        });
        let hosts = scenario
            .agents
            .iter()
            .enumerate()
            .map(|(index, plan)| {
                let clock = SimClock::new(plan.drift_ppm, plan.offset_ms);
                Host::new(index, config(index, plan), Arc::clone(&ground), clock, draw.stream("hosts"))
            })
            .collect();
        let clients = Arc::new(Clients {
            net: Arc::clone(&ground.net),
            oracle,
            agents: scenario.agents.len(),
            patience_ms: AtomicU64::new(PATIENCE_MS),
            strays: scenario.strays,
            expiring: expiring(&scenario),
            compacted: compacted(&scenario),
        });
        let life = Life::new("clients".to_owned(), Arc::clone(&ground.scheduler) as _);
        Self { scenario, draw, ground, hosts, clients, life, former_lives: 0, next_client: 0 }
    }

    /// Runs to the end, or until something is found.
    pub async fn run(mut self) -> Vec<String> {
        let oracle = Arc::clone(&self.ground.oracle);
        {
            let story = self.story();
            tokio::pin!(story);
            tokio::select! {
                biased;
                () = &mut story => {}
                () = oracle.finds() => {}
            }
        }
        self.life.end();
        self.count_store_faults();
        oracle.violations()
    }

    fn count_store_faults(&self) {
        for (kind, count) in self.ground.store.faults_struck() {
            trace::count_by(store_fault(kind), count);
        }
    }

    async fn story(&mut self) {
        let oracle = Arc::clone(&self.ground.oracle);
        for host in &self.hosts {
            tokio::spawn(Arc::clone(host).run());
        }
        let begins = async {
            for host in &self.hosts {
                host.wait_until_serving().await;
            }
        };
        if tokio::time::timeout(STARTS_WITHIN, begins).await.is_err() {
            oracle.violation("the agents do not all start");
            return;
        }
        if let Some(plan) = self.scenario.restore.clone()
            && !self.older_life(&plan).await
        {
            return;
        }
        let Some(Crowd { works, ends, producers, readers }) = self.crowd().await else { return };
        self.faults(self.scenario.faults_for).await;
        self.calm();
        for host in &self.hosts {
            host.calm();
        }
        works.store(false, Ordering::Relaxed);
        if !self.all_end(producers, "producers do not get their answers").await {
            return;
        }
        note!("world", "everything is sent");
        ends.store(true, Ordering::Relaxed);
        if !self.all_end(readers, "consumers do not get to the end").await {
            return;
        }
        self.finish().await;
    }

    /// Makes the topics, and lets clients work.
    async fn crowd(&mut self) -> Option<Crowd> {
        let peer = self.peer("admin");
        let (works, ends) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let rest = self.scenario.admin.unwrap_or(Duration::from_secs(5));
        let mut admin = Admin::new(self.scenario.topics.clone(), peer, Arc::clone(&works), rest);
        if tokio::time::timeout(STARTS_WITHIN, admin.create_all()).await.is_err() {
            self.ground.oracle.violation("topics can't be created");
            return None;
        }
        let (mut producers, mut readers) = (JoinSet::new(), JoinSet::new());
        producers.spawn(self.life.task(admin.run()));
        for mut plan in self.scenario.producers.clone() {
            let Some(peer) = self.client("p", plan.number as usize) else { continue };
            plan.number += (self.former_lives * CLIENTS_OF_A_LIFE) as u32;
            producers.spawn(self.life.task(Producer::new(plan, peer, Arc::clone(&works)).run()));
        }
        for (index, plan) in self.scenario.consumers.clone().into_iter().enumerate() {
            let Some(peer) = self.client("c", index) else { continue };
            readers.spawn(self.life.task(Consumer::new(plan, peer, Arc::clone(&ends)).run()));
        }
        for (index, plan) in self.scenario.members.clone().into_iter().enumerate() {
            let Some(peer) = self.client("g", index) else { continue };
            readers.spawn(self.life.task(Member::new(plan, peer, Arc::clone(&ends)).run()));
        }
        Some(Crowd { works, ends, producers, readers })
    }

    /// A client of this life of the metadata, unless it is left out.
    fn client(&mut self, kind: &str, index: usize) -> Option<Peer> {
        let name = Scenario::client_name(kind, self.former_lives, index);
        (!self.scenario.absent.contains(&name)).then(|| self.peer(&name))
    }

    async fn all_end(&self, mut tasks: JoinSet<()>, otherwise: &str) -> bool {
        let all = async { while tasks.join_next().await.is_some() {} };
        let within = SETTLES_WITHIN + SETTLES_PER_RECORD * self.ground.oracle.records_sent();
        let ended = tokio::time::timeout(within, all).await.is_ok();
        if !ended {
            self.ground.oracle.violation(otherwise);
        }
        ended
    }

    /// Everything is quiet: agents are at their floor; restarted and cold they still have every record.
    async fn finish(&mut self) {
        let oracle = Arc::clone(&self.ground.oracle);
        self.life.end();
        note!("world", "quiet");
        // Long-polls end, and what clients gave up and sent again is stored, at the pace that the budget allows.
        let mut last = u64::MAX;
        loop {
            pause(RESTS_WITHIN).await;
            let held: u64 = self.hosts.iter().map(checks::held).sum();
            if held == 0 || held >= last {
                break;
            }
            last = held;
        }
        for host in &self.hosts {
            checks::at_rest(host, &oracle);
        }
        for host in &self.hosts {
            host.stop();
            if tokio::time::timeout(Duration::from_secs(60), host.wait_until_gone()).await.is_err() {
                oracle.violation("an agent does not stop");
                return;
            }
            if tokio::time::timeout(Duration::from_secs(60), host.wait_until_serving()).await.is_err() {
                oracle.violation("an agent does not start again in calm");
                return;
            }
        }
        if self.scenario.deletes || self.scenario.merges || self.scenario.compacts {
            self.wait_for_jobs().await;
        }
        let cleaned = match checks::compacted_up_to(&self.ground).await {
            Ok(cleaned) => cleaned,
            Err(error) => return oracle.violation(&error),
        };
        self.life = Life::new("readers".to_owned(), Arc::clone(&self.ground.scheduler) as _);
        let mut readers = JoinSet::new();
        for index in 0..self.hosts.len().min(2) {
            let plan = ConsumerPlan {
                topics: self.scenario.topics.iter().map(|topic| topic.name.clone()).collect(),
                by_name: false,
                in_session: index == 1,
                wait: Duration::from_millis(100),
                rest: Duration::ZERO,
                restarts: 0.0,
            };
            let peer = self.peer(&format!("final{index}"));
            let consumer = Consumer::new(plan, peer, Arc::new(AtomicBool::new(true)));
            readers.spawn(self.life.task(consumer.run()));
        }
        if !self.all_end(readers, "the logs can't be read to their ends").await {
            return;
        }
        oracle.final_check();
        oracle.final_check_of_groups();
        oracle.final_check_of_compaction(&cleaned);
        let section_bytes = config(0, &self.scenario.agents[0]).merge.section.get();
        checks::bucket_and_metadata(&self.ground, section_bytes, &oracle).await;
        checks::stored(&self.ground, &oracle).await;
        if self.scenario.deletes {
            oracle.all_has_expired(EXPIRES_WITHIN);
        }
        for host in &self.hosts {
            host.retire();
        }
        for host in &self.hosts {
            if tokio::time::timeout(Duration::from_secs(60), host.wait_until_gone()).await.is_err() {
                oracle.violation("an agent does not end");
                return;
            }
        }
    }

    /// Waits until what nobody needs is deleted, and what is to be merged is, or ought to be: after quiet there is a moment at
    /// which the bucket holds what is referred to, and nothing else.
    async fn wait_for_jobs(&self) {
        note!("world", "waits for what is to be merged and deleted");
        // Late uploads bring back what was deleted.
        let weather = &self.scenario.bucket;
        let late = if weather.late > 0.0 { weather.late_by.end } else { Duration::ZERO };
        let began = tokio::time::Instant::now();
        loop {
            pause(Duration::from_secs(30)).await;
            let backlog = checks::backlog(&self.ground, self.scenario.merges, &self.ground.oracle).await;
            if began.elapsed() >= EXPIRES_WITHIN.max(late)
                && backlog.as_ref().is_ok_and(checks::Backlog::is_done)
            {
                return;
            }
            if began.elapsed() >= DELETED_WITHIN {
                checks::report_backlog(backlog, &self.ground.oracle);
                return;
            }
        }
    }

    fn peer(&mut self, name: &str) -> Peer {
        self.next_client += 1;
        Peer::new(name, self.next_client, &self.clients, &self.draw)
    }

    /// Lets things go wrong for a while.
    async fn faults(&self, lasts: Duration) {
        let scenario = &self.scenario;
        note!("world", "faults for {lasts:?}");
        self.ground.net.set_weather(scenario.net.clone());
        self.ground.objects.set_weather(scenario.bucket.clone());
        self.ground.store.current().set_faults(scenario.store.clone());
        self.clients.patience_ms.store(scenario.patience.as_millis() as u64, Ordering::Relaxed);
        let troubles = async {
            let troubles = &scenario.troubles;
            tokio::join!(
                self.now_and_then("kill", troubles.kill, async |draw| self.kill(draw)),
                self.now_and_then("restart", troubles.restart, async |draw| self.restart(draw).await),
                self.now_and_then("pause", troubles.pause, async |draw| self.hold(draw).await),
                self.now_and_then("cut-store", troubles.cut_store, async |draw| self.cut(draw, true).await),
                self.now_and_then("cut-bucket", troubles.cut_bucket, async |draw| self
                    .cut(draw, false)
                    .await),
                self.now_and_then("cut-net", troubles.cut_net, async |draw| self.cut_net(draw)),
                self.now_and_then("clock", troubles.clock, async |draw| self.move_clock(draw)),
            );
        };
        let _ = tokio::time::timeout(lasts, troubles).await;
    }

    /// Nothing goes wrong any more.
    fn calm(&self) {
        note!("world", "calm");
        self.clients.patience_ms.store(PATIENCE_MS, Ordering::Relaxed);
        self.ground.net.set_weather(Weather::fair());
        self.ground.objects.set_weather(BucketWeather::fair());
        let latency = Some(Duration::from_micros(100)..Duration::from_millis(3));
        self.ground.store.current().set_faults(MemoryFaults { latency, ..MemoryFaults::default() });
        for host in &self.hosts {
            host.ways().heal();
        }
    }

    async fn now_and_then(&self, label: &str, every: Option<Duration>, what: impl AsyncFn(&Draw)) {
        let Some(every) = every else { return };
        let draw = self.draw.stream(label);
        loop {
            pause(draw.around(every)).await;
            what(&draw).await;
        }
    }

    fn some(&self, draw: &Draw) -> &Arc<Host> {
        draw.pick(&self.hosts)
    }

    fn kill(&self, draw: &Draw) {
        let kind = *draw.pick(&[
            "",
            "store",
            COMMIT,
            COMMIT,
            GROUP_COMMIT,
            JOB_COMMIT,
            "bucket put",
            "bucket",
            "socket",
        ]);
        let kill = Kill { at: At { kind, left: draw.within(0..30) }, after: draw.chance(0.5) };
        let host = self.some(draw);
        note!("world", "agent {} is killed at {kill:?}", agent_address(0));
        if draw.chance(0.2) { host.kill() } else { host.kill_at(kill) }
    }

    async fn restart(&self, draw: &Draw) {
        let host = self.some(draw);
        trace::count("fault: agent restarted");
        host.stop();
    }

    async fn hold(&self, draw: &Draw) {
        let host = self.some(draw);
        let Some(seam) = host.seam() else { return };
        let time = draw.duration(Duration::from_millis(50)..self.scenario.troubles.pause_most);
        if draw.chance(0.5) {
            let kind = *draw.pick(&[
                "",
                "store",
                COMMIT,
                COMMIT,
                GROUP_COMMIT,
                GROUP_COMMIT,
                JOB_COMMIT,
                "bucket put",
            ]);
            seam.hold_at(Hold { at: At { kind, left: draw.within(0..20) }, time });
            return;
        }
        note!(seam.life().name(), "stands still for {time:?}");
        trace::count("fault: agent paused");
        seam.life().hold();
        pause(time).await;
        seam.life().go_on();
    }

    async fn cut(&self, draw: &Draw, store: bool) {
        let host = self.some(draw);
        let time = draw.duration(Duration::from_millis(50)..self.scenario.troubles.cut_most);
        note!("world", "a way is cut for {time:?}, store: {store}");
        if store {
            trace::count("fault: agent cut from the store");
            host.ways().cut_store();
        } else {
            trace::count("fault: agent cut from the bucket");
            host.ways().cut_bucket();
        }
        pause(time).await;
        host.ways().heal();
    }

    fn cut_net(&self, draw: &Draw) {
        trace::count("fault: connections of an agent cut");
        self.ground.net.cut(draw.index(self.hosts.len()), draw.fraction());
    }

    fn move_clock(&self, draw: &Draw) {
        trace::count("fault: clock moved");
        self.some(draw).clock().jump(draw.within(0..7_200_000) as i64 - 3_600_000);
    }
}

/// Topics whose records expire, by name.
fn expiring(scenario: &Scenario) -> BTreeMap<String, Expiry> {
    let exact = scenario.troubles.clock.is_none()
        && scenario.agents.iter().all(|agent| agent.drift_ppm == 0 && agent.offset_ms == 0);
    let topics = scenario.topics.iter();
    topics.filter_map(|topic| Some((topic.name.clone(), Expiry { after: topic.retention?, exact }))).collect()
}

/// Topics that are compacted, by name.
fn compacted(scenario: &Scenario) -> BTreeMap<String, KeyPlan> {
    scenario.topics.iter().filter_map(|topic| Some((topic.name.clone(), topic.keys?))).collect()
}

fn store_fault(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Conflict => "fault: store conflict",
        FaultKind::UnknownApplied => "fault: store commit unknown, applied",
        FaultKind::UnknownNotApplied => "fault: store commit unknown, not applied",
        FaultKind::UnknownAppliedLater => "fault: store commit unknown, applied later",
        FaultKind::TooOld => "fault: store version too old",
        FaultKind::FutureVersion => "fault: store version ahead",
        FaultKind::Throttled => "fault: store throttled",
        FaultKind::Unavailable => "fault: store unavailable",
        FaultKind::WatchLost => "fault: store watch lost",
        FaultKind::WatchLate => "fault: store watch late",
        FaultKind::WatchSpurious => "fault: store watch spurious",
        FaultKind::WatchError => "fault: store watch failed",
        FaultKind::VersionJump => "fault: store versions jump",
    }
}

fn config(index: usize, plan: &AgentPlan) -> AgentConfig {
    let mut config = AgentConfig::default();
    let address = agent_address(index).to_string();
    let fixed = [
        ("metadata", "memory"),
        ("object.store", "memory:///"),
        ("listen", address.as_str()),
        ("advertise", address.as_str()),
        ("node.name", plan.name.as_str()),
        ("zone", plan.zone.as_str()),
    ];
    let drawn = plan.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in fixed.into_iter().chain(drawn) {
        match config.set(name, value) {
            Some(set) => set.expect("an allowed value"),
            // One of Kafka's brokers.
            None => drop(config.kafka.insert(name.to_owned(), value.to_owned())),
        }
    }
    config
}
