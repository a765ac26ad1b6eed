//! What a seed says: how large the cluster is, who its clients are, and what goes wrong how often.
//!
//! Each kind of fault is on in about half of the seeds, at a rate of its own: a history in which everything fails all
//! the time says little about any one thing.

use std::collections::BTreeSet;
use std::time::Duration;

use penstock_metadata::kv::memory::MemoryFaults;

use crate::agent::bucket::BucketWeather;
use crate::client::admin::TopicPlan;
use crate::client::consumer::ConsumerPlan;
use crate::client::group::MemberPlan;
use crate::client::keys::KeyPlan;
use crate::client::producer::ProducerPlan;
use crate::draw::Draw;
use crate::net::Weather;
use crate::oracle::Compacting;

/// Kinds of faults, by the names under which they can be switched off.
pub const KINDS: &[&str] = &[
    "kill",
    "restart",
    "pause",
    "cut-store",
    "cut-bucket",
    "cut-net",
    "net",
    "bucket",
    "late-put",
    "store",
    "unknown",
    "watch",
    "clock",
    "jump",
    "yield",
    "admin",
    "delete",
    "merge",
    "compact",
    "stray",
    "restore",
];

/// What of a scenario is left out, to find out what matters; and what isn't left to chance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Kinds of faults that happen whether they are drawn or not.
    pub with: BTreeSet<String>,
    /// Kinds of faults that do not happen.
    pub without: BTreeSet<String>,
    /// Clients that are not there, by name.
    pub without_clients: BTreeSet<String>,
    /// At most so many seconds of faults.
    pub seconds: Option<u64>,
}

/// How one agent is.
#[derive(Debug, Clone)]
pub struct AgentPlan {
    /// Its name, if it has one.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// What its clock gains or loses, in millionths.
    pub drift_ppm: i64,
    /// What its clock shows too much.
    pub offset_ms: i64,
    /// Its settings.
    pub settings: Vec<(String, String)>,
}

/// Things that happen to agents now and then, and how far apart.
#[derive(Debug, Clone, Default)]
pub struct Troubles {
    /// Killed at some operation.
    pub kill: Option<Duration>,
    /// Stopped and started.
    pub restart: Option<Duration>,
    /// Held up.
    pub pause: Option<Duration>,
    /// For how long at most.
    pub pause_most: Duration,
    /// Cut from the metadata store.
    pub cut_store: Option<Duration>,
    /// Cut from the bucket.
    pub cut_bucket: Option<Duration>,
    /// For how long at most.
    pub cut_most: Duration,
    /// Connections cut.
    pub cut_net: Option<Duration>,
    /// The wall clock moved.
    pub clock: Option<Duration>,
}

/// Metadata that are restored to an older point, before everything else: an older life of the cluster.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// How long the older life lasts.
    pub lasts: Duration,
    /// When its backup is taken.
    pub backup_after: Duration,
    /// How long it takes until the backup is restored.
    pub takes: Duration,
    /// Whether versions go on from there; if not, they begin lower.
    pub ahead: bool,
    /// How many versions more, or how far they are on.
    pub versions: u64,
    /// How often an agent goes on in a life that is over; else it was killed or stopped.
    pub zombies: f64,
    /// Whether agents are started before everything is raised.
    pub starts_early: bool,
    /// Whether the store fails while the incarnation is raised.
    pub faulty: bool,
}

/// A scenario.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Agents.
    pub agents: Vec<AgentPlan>,
    /// Topics.
    pub topics: Vec<TopicPlan>,
    /// Idempotent and plain producers.
    pub producers: Vec<ProducerPlan>,
    /// Consumers that assign themselves partitions.
    pub consumers: Vec<ConsumerPlan>,
    /// Members of groups.
    pub members: Vec<MemberPlan>,
    /// The metadata are restored to an older point.
    pub restore: Option<RestorePlan>,
    /// Clients that are not there, by name.
    pub absent: BTreeSet<String>,
    /// Whether records are deleted, and objects.
    pub deletes: bool,
    /// Whether objects are merged, and those that were are deleted.
    pub merges: bool,
    /// Whether there are topics that are compacted.
    pub compacts: bool,
    /// How often topics are changed, if they are.
    pub admin: Option<Duration>,
    /// How often a client goes elsewhere than it is told.
    pub strays: f64,
    /// How long a client waits for an answer while things go wrong.
    pub patience: Duration,
    /// For how long things go wrong.
    pub faults_for: Duration,
    /// The network meanwhile.
    pub net: Weather,
    /// The bucket meanwhile.
    pub bucket: BucketWeather,
    /// The metadata store meanwhile.
    pub store: MemoryFaults,
    /// The agents meanwhile.
    pub troubles: Troubles,
    /// How often a task lets others go first.
    pub yields: f64,
    /// How often a task stands still for a moment.
    pub delays: f64,
}

/// More than there are clients of a kind: those of the next life have other numbers.
pub const CLIENTS_OF_A_LIFE: usize = 10;
/// Of how many seeds one restores its metadata.
const RESTORES: f64 = 1.0 / 12.0;

const SECOND: Duration = Duration::from_secs(1);

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

impl Scenario {
    /// What `seed` says, less what is cut.
    pub fn new(seed: u64, cuts: &Cuts) -> Self {
        let draw = Draw::new(seed, "scenario");
        let has = |kind: &str, probability: f64| {
            // Drawn in any case: what is cut must not change the rest.
            let drawn = Draw::new(seed, kind).chance(probability);
            (drawn || cuts.with.contains(kind)) && !cuts.without.contains(kind)
        };
        let mut faults_for = draw.duration(SECOND * 5..SECOND * 60);
        if let Some(seconds) = cuts.seconds {
            faults_for = faults_for.min(SECOND * seconds as u32);
        }
        let mut agents = agents(&Draw::new(seed, "agents"), has("clock", 0.4));
        let mut topics = topics(&Draw::new(seed, "topics"), has("admin", 0.5));
        let restored = has("restore", RESTORES);
        let (deletes, merges, compacts) = (has("delete", 0.5), has("merge", 0.5), has("compact", 0.5));
        let exact = !has("clock", 0.4);
        if deletes || merges || compacts {
            let draw = Draw::new(seed, "deletion");
            let pruned = pruned(&draw);
            topics.extend(deletes.then_some(pruned));
            let jumps = has("jump", 0.25);
            let mut settings = deletion(&draw, restored, jumps);
            if merges {
                settings.extend(merging(&Draw::new(seed, "merging"), jumps));
            }
            if compacts {
                let draw = Draw::new(seed, "compaction");
                settings.extend(compaction(&draw));
                topics.extend((0..1 + draw.index(2)).map(|index| compacted(&draw, index, exact)));
            }
            agents.iter_mut().for_each(|agent| agent.settings.extend(settings.iter().cloned()));
        }
        let clients = Draw::new(seed, "clients");
        let mut producers = producers(&clients, &topics);
        let mut consumers = consumers(&clients, &topics);
        if compacts {
            let draw = Draw::new(seed, "keys");
            write_to_compacted(&draw, &mut producers, &topics);
            consumers.push(table(&draw, &topics));
        }
        let scheduling = Draw::new(seed, "scheduling");
        let (yields, delays) = match has("yield", 0.7) {
            true => (
                scheduling.rate(0.01..0.4),
                if scheduling.chance(0.3) { scheduling.rate(0.0005..0.01) } else { 0.0 },
            ),
            false => (0.0, 0.0),
        };
        Self {
            seed,
            consumers,
            members: members(&clients, &topics),
            restore: restored.then(|| restore(&Draw::new(seed, "restore plan"))),
            absent: cuts.without_clients.clone(),
            admin: topics
                .iter()
                .any(|topic| topic.mortal || topic.pruned)
                .then(|| draw.duration(SECOND..SECOND * 12)),
            deletes,
            merges,
            compacts,
            strays: if has("stray", 0.7) { draw.rate(0.01..0.6) } else { 0.0 },
            patience: milliseconds(draw.rate(300.0..15_000.0) as u64),
            faults_for,
            net: net(&Draw::new(seed, "net weather"), has("net", 0.5)),
            bucket: bucket(&Draw::new(seed, "bucket weather"), has("bucket", 0.6), has("late-put", 0.3)),
            store: store(&Draw::new(seed, "store weather"), &has),
            troubles: troubles(&Draw::new(seed, "troubles"), &has),
            agents,
            topics,
            producers,
            yields,
            delays,
        }
    }

    /// The name of a client in a life of the metadata, as it is run.
    pub fn client_name(kind: &str, life: usize, index: usize) -> String {
        format!("{kind}{}", life * CLIENTS_OF_A_LIFE + index)
    }
}

fn restore(draw: &Draw) -> RestorePlan {
    let lasts = draw.duration(SECOND * 3..SECOND * 25);
    let ahead = draw.chance(0.4);
    RestorePlan {
        lasts,
        backup_after: draw.duration(SECOND..lasts),
        // Longer than a block of producer ids is handed out, and than a transaction lasts.
        takes: draw.duration(SECOND * 12..SECOND * 60),
        ahead,
        versions: draw.rate(1.0..if ahead { 1e12 } else { 1e8 }) as u64,
        zombies: draw.rate(0.2..1.0),
        starts_early: draw.chance(0.3),
        faulty: draw.chance(0.5),
    }
}

fn agents(draw: &Draw, clocks: bool) -> Vec<AgentPlan> {
    let count = *draw.pick(&[1, 2, 2, 3, 3, 3, 4, 5]);
    let named = draw.chance(0.7);
    let zones = 1 + draw.within(0..3);
    let (lagging, ahead) = *draw.pick(&[("1MiB", "0"), ("16MiB", "256KiB"), ("16MiB", "1MiB")]);
    let mut settings = vec![
        ("node.lease.ms".to_owned(), draw.within(1_000..8_000).to_string()),
        ("seal.rows".to_owned(), draw.pick(&[3, 10, 40, 2_000]).to_string()),
        ("seal.age.ms".to_owned(), draw.within(1_000..20_000).to_string()),
        ("seal.interval.ms".to_owned(), draw.within(100..3_000).to_string()),
        ("checkpoint.interval.ms".to_owned(), draw.within(1_000..30_000).to_string()),
        ("flush.put.budget.per.second".to_owned(), draw.pick(&[2, 8, 50, 1_000]).to_string()),
        ("cache.block.bytes".to_owned(), "64KiB".to_owned()),
        ("cache.bytes".to_owned(), draw.pick(&["1MiB", "4MiB", "64MiB"]).to_string()),
        ("cache.lagging.bytes".to_owned(), lagging.to_owned()),
        ("cache.readahead.bytes".to_owned(), ahead.to_owned()),
        ("flush.object.max.bytes".to_owned(), draw.pick(&["64KiB", "256KiB", "8MiB"]).to_string()),
        ("upload.concurrency".to_owned(), draw.pick(&[1, 2, 4, 16]).to_string()),
        ("upload.deadline.ms".to_owned(), draw.within(3_000..20_000).to_string()),
        ("max.incremental.fetch.session.cache.slots".to_owned(), draw.pick(&[0, 2, 1000]).to_string()),
        ("shutdown.deadline.ms".to_owned(), "30s".to_owned()),
        ("drain.grace.ms".to_owned(), draw.within(0..5_000).to_string()),
    ];
    if draw.chance(0.3) {
        settings.push(("flush.interval.ms".to_owned(), draw.within(5..250).to_string()));
    }
    (0..count)
        .map(|index| AgentPlan {
            name: if named { format!("agent-{index}") } else { String::new() },
            zone: if zones > 1 { format!("zone-{}", index % zones) } else { String::new() },
            drift_ppm: if clocks { draw.within(0..20_000) as i64 - 10_000 } else { 0 },
            offset_ms: if clocks { draw.within(0..7_200_000) as i64 - 3_600_000 } else { 0 },
            settings: settings.clone(),
        })
        .collect()
}

fn topics(draw: &Draw, admin: bool) -> Vec<TopicPlan> {
    let count = 1 + draw.index(3);
    // Whatever an agent's clock shows, a record's time is its producer's business.
    let any_time = ("message.timestamp.after.max.ms".to_owned(), i64::MAX.to_string());
    let mut topics: Vec<TopicPlan> = (0..count)
        .map(|index| TopicPlan {
            name: format!("t{index}"),
            partitions: 1 + draw.within(0..6) as i32,
            mortal: false,
            pruned: false,
            retention: None,
            keys: None,
            configs: vec![any_time.clone()],
        })
        .collect();
    let mortal = TopicPlan {
        name: "m".to_owned(),
        partitions: 1 + draw.within(0..4) as i32,
        mortal: true,
        pruned: false,
        retention: None,
        keys: None,
        configs: vec![any_time, ("retention.ms".to_owned(), "-1".to_owned())],
    };
    if admin {
        topics.push(mortal);
    }
    topics
}

/// A topic whose records expire, are deleted, or both.
fn pruned(draw: &Draw) -> TopicPlan {
    let retention = draw.chance(0.6).then(|| draw.duration(SECOND * 4..SECOND * 60));
    let kept = retention.map_or_else(|| "-1".to_owned(), |time| time.as_millis().to_string());
    TopicPlan {
        name: "d".to_owned(),
        partitions: 1 + draw.within(0..4) as i32,
        mortal: false,
        pruned: retention.is_none() || draw.chance(0.7),
        retention,
        keys: None,
        configs: vec![
            ("message.timestamp.after.max.ms".to_owned(), i64::MAX.to_string()),
            ("retention.ms".to_owned(), kept),
        ],
    }
}

/// How agents delete. A backup is of use for as long as what nothing refers to stays; the store's versions may jump by a
/// hundred seconds' worth.
fn deletion(draw: &Draw, restored: bool, jumps: bool) -> Vec<(String, String)> {
    let jump = if jumps { SECOND * 200 } else { Duration::ZERO };
    let delay = if restored { SECOND * 300 } else { draw.duration(SECOND * 5..SECOND * 40) };
    vec![
        setting("log.retention.check.interval.ms", draw.duration(milliseconds(200)..SECOND * 8)),
        setting("collect.delay.ms", delay + jump),
        setting("collect.merged.delay.ms", delay + jump),
        setting("collect.interval.ms", draw.duration(SECOND..SECOND * 3)),
        setting("sweep.lag.ms", draw.duration(SECOND * 5..SECOND * 60) + jump),
        setting("sweep.interval.ms", draw.duration(SECOND..SECOND * 20)),
    ]
}

/// How agents merge: little at a time, so that there is much to go wrong. What was written is merged after twice the age at which it
/// is sealed. In some seeds the sweeper is hardly behind, so that a merge that is held up finds its output swept.
fn merging(draw: &Draw, jumps: bool) -> Vec<(String, String)> {
    let one_of = |name: &str, values: &[&str]| (name.to_owned(), (*draw.pick(values)).to_owned());
    let mut settings = vec![
        setting("merge.interval.ms", draw.duration(milliseconds(200)..SECOND * 4)),
        setting("merge.age.ms", draw.duration(SECOND..SECOND * 10)),
        setting("merge.level.age.ms", draw.duration(SECOND..SECOND * 20)),
        one_of("merge.unit.bytes", &["4KiB", "32KiB", "256KiB", "256MiB"]),
        one_of("merge.section.bytes", &["1KiB", "16KiB", "8MiB"]),
        one_of("merge.object.max.bytes", &["4KiB", "32KiB", "1MiB", "128MiB"]),
        one_of("merge.requests.per.second", &["20", "50", "1000"]),
    ];
    if draw.chance(0.7) {
        settings.push(setting("seal.age.ms", draw.duration(SECOND..SECOND * 4)));
    }
    let (lag, interval) = (draw.duration(SECOND * 2..SECOND * 6), draw.duration(SECOND..SECOND * 3));
    if draw.chance(0.4) && !jumps {
        settings.extend([setting("sweep.lag.ms", lag), setting("sweep.interval.ms", interval)]);
    }
    settings
}

/// A topic of which the newest record of each key stays.
fn compacted(draw: &Draw, index: usize, exact: bool) -> TopicPlan {
    let keys = match draw.index(3) {
        0 => draw.within(1..5),
        1 => draw.within(5..40),
        _ => draw.within(40..400),
    };
    let sometimes = |probability: f64, range: std::ops::Range<Duration>| {
        let (is_some, time) = (draw.chance(probability), draw.duration(range));
        if is_some { milliseconds(time.as_millis() as u64) } else { Duration::ZERO }
    };
    let min_lag = sometimes(0.4, milliseconds(200)..SECOND * 10);
    let delete_retention = sometimes(0.7, milliseconds(100)..SECOND * 12);
    let max_lag = sometimes(0.3, milliseconds(500)..SECOND * 15).max(min_lag);
    let ratio = *draw.pick(&["0", "0", "0", "0.1", "0.5"]);
    let retention = draw.chance(0.3).then(|| draw.duration(SECOND * 6..SECOND * 60));
    let eager = ratio == "0";
    let mut configs = vec![
        ("message.timestamp.after.max.ms".to_owned(), i64::MAX.to_string()),
        ("min.cleanable.dirty.ratio".to_owned(), ratio.to_owned()),
        setting("min.compaction.lag.ms", min_lag),
        setting("delete.retention.ms", delete_retention),
        (
            "cleanup.policy".to_owned(),
            if retention.is_some() { "compact,delete" } else { "compact" }.to_owned(),
        ),
    ];
    configs.extend((!max_lag.is_zero()).then(|| setting("max.compaction.lag.ms", max_lag)));
    configs.extend(retention.map(|time| setting("retention.ms", time)));
    TopicPlan {
        name: format!("k{index}"),
        partitions: 1 + draw.within(0..4) as i32,
        mortal: false,
        pruned: retention.is_some() && draw.chance(0.4),
        retention,
        keys: Some(KeyPlan {
            keys,
            hot: 1 + draw.within(0..keys),
            tombstones: draw.rate(0.02..0.6),
            compacting: Compacting { min_lag, delete_retention, eager, exact },
        }),
        configs,
    }
}

/// Producers make some of what they make for topics that are compacted.
fn write_to_compacted(draw: &Draw, producers: &mut [ProducerPlan], topics: &[TopicPlan]) {
    let is_mortal = |name: &String| topics.iter().any(|topic| topic.mortal && topic.name == *name);
    for topic in topics.iter().filter(|topic| topic.keys.is_some()) {
        for producer in producers.iter_mut() {
            let may = !producer.topics.iter().any(is_mortal) && !producer.topics.contains(&topic.name);
            if draw.chance(0.5) && may {
                producer.topics.push(topic.name.clone());
            }
        }
    }
}

/// A consumer that makes tables of the topics that are compacted, again and again from the beginning.
fn table(draw: &Draw, topics: &[TopicPlan]) -> ConsumerPlan {
    let compacted = topics.iter().filter(|topic| topic.keys.is_some());
    ConsumerPlan {
        topics: compacted.map(|topic| topic.name.clone()).collect(),
        by_name: draw.chance(0.4),
        in_session: draw.chance(0.5),
        wait: draw.duration(Duration::ZERO..milliseconds(300)),
        rest: draw.duration(Duration::ZERO..milliseconds(100)),
        restarts: draw.rate(0.05..0.5),
    }
}

/// How agents compact: soon, with few keys at a time, and into small objects.
fn compaction(draw: &Draw) -> Vec<(String, String)> {
    let one_of = |name: &str, values: &[&str]| (name.to_owned(), (*draw.pick(values)).to_owned());
    let mut settings = vec![
        setting("compact.interval.ms", draw.duration(milliseconds(200)..SECOND * 4)),
        setting("compact.delay.ms", draw.duration(Duration::ZERO..SECOND * 8)),
        one_of("compact.bytes", &["1", "4KiB", "64KiB", "64MiB"]),
        one_of("compact.map.bytes", &["1KiB", "2KiB", "16KiB", "128MiB"]),
        one_of("compact.object.max.bytes", &["4KiB", "32KiB", "64MiB"]),
        one_of("compact.requests.per.second", &["20", "50", "1000"]),
    ];
    if draw.chance(0.7) {
        settings.push(setting("seal.age.ms", draw.duration(SECOND..SECOND * 4)));
    }
    settings
}

fn setting(name: &str, time: Duration) -> (String, String) {
    (name.to_owned(), time.as_millis().to_string())
}

fn some_topics(draw: &Draw, topics: &[TopicPlan], mortal: bool) -> Vec<String> {
    let of_kind: Vec<&TopicPlan> = topics.iter().filter(|topic| topic.mortal == mortal).collect();
    let first = draw.index(of_kind.len().max(1));
    let chosen = of_kind.iter().enumerate().filter(|(index, _)| *index == first || draw.chance(0.5));
    chosen.map(|(_, topic)| topic.name.clone()).collect()
}

fn producers(draw: &Draw, topics: &[TopicPlan]) -> Vec<ProducerPlan> {
    let has_mortal = topics.iter().any(|topic| topic.mortal);
    let count = 1 + draw.within(0..5) as u32;
    (0..count)
        .map(|number| {
            let mortal = has_mortal && draw.chance(0.5);
            let large = draw.chance(0.15);
            let idempotent = draw.chance(0.75);
            let acks = if idempotent { -1 } else { *draw.pick(&[-1, -1, 1, 0, 0]) };
            let (shortest, longest) = if acks == 0 { (200, 1_500) } else { (20, 600) };
            ProducerPlan {
                number,
                topics: some_topics(draw, topics, mortal),
                idempotent,
                acks,
                by_id: mortal || draw.chance(0.3),
                rest: draw.duration(milliseconds(shortest)..milliseconds(longest)),
                records: if large { 3 } else { draw.within(1..12) },
                filling: if large { 30_000 } else { draw.within(0..1_500) },
                gives_up: draw.duration(SECOND * 5..SECOND * 60),
            }
        })
        .collect()
}

fn consumers(draw: &Draw, topics: &[TopicPlan]) -> Vec<ConsumerPlan> {
    let has_mortal = topics.iter().any(|topic| topic.mortal);
    (0..1 + draw.index(3))
        .map(|_| {
            let mortal = has_mortal && draw.chance(0.25);
            ConsumerPlan {
                topics: some_topics(draw, topics, mortal),
                by_name: !mortal && draw.chance(0.4),
                in_session: draw.chance(0.5),
                wait: draw.duration(Duration::ZERO..milliseconds(1_500)),
                rest: draw.duration(Duration::ZERO..milliseconds(400)),
                restarts: if draw.chance(0.4) { draw.rate(0.005..0.1) } else { 0.0 },
            }
        })
        .collect()
}

fn members(draw: &Draw, topics: &[TopicPlan]) -> Vec<MemberPlan> {
    let mut members = Vec::new();
    for group in 0..draw.within(0..3) {
        let subscribed = some_topics(draw, topics, false);
        let is_static = draw.chance(0.3);
        for member in 0..1 + draw.within(0..3) {
            members.push(MemberPlan {
                group: format!("g{group}"),
                topics: subscribed.clone(),
                instance: is_static.then(|| format!("i{group}-{member}")),
                session: draw.duration(SECOND * 6..SECOND * 12),
                leaves: draw.rate(0.01..0.8),
                rest: draw.duration(milliseconds(10)..milliseconds(500)),
            });
        }
    }
    members
}

fn net(draw: &Draw, faulty: bool) -> Weather {
    if !faulty {
        return Weather::fair();
    }
    Weather {
        latency: Duration::from_micros(200)..milliseconds(1 + draw.within(1..40)),
        late: draw.rate(0.0005..0.05),
        late_by: milliseconds(50)..draw.duration(milliseconds(200)..SECOND * 8),
        cut: draw.rate(0.0002..0.02),
        piecemeal: draw.rate(0.001..0.3),
    }
}

fn bucket(draw: &Draw, faulty: bool, late: bool) -> BucketWeather {
    let mut weather = BucketWeather::fair();
    weather.put = milliseconds(1)..milliseconds(2 + draw.within(1..250));
    weather.get = milliseconds(1)..milliseconds(2 + draw.within(1..80));
    let sometimes = |range: std::ops::Range<f64>| if draw.chance(0.6) { draw.rate(range) } else { 0.0 };
    if faulty {
        weather.slow = sometimes(0.001..0.1);
        weather.slow_by = milliseconds(100)..draw.duration(milliseconds(500)..SECOND * 12);
        weather.unavailable = sometimes(0.002..0.3);
        weather.lost_answer = sometimes(0.002..0.15);
        weather.hang = sometimes(0.001..0.05);
        weather.short = sometimes(0.001..0.1);
    }
    if late {
        weather.late = draw.rate(0.002..0.1);
        weather.late_by = milliseconds(100)..draw.duration(SECOND..SECOND * 240);
    }
    weather
}

fn store(draw: &Draw, has: &impl Fn(&str, f64) -> bool) -> MemoryFaults {
    let mut faults = MemoryFaults::default();
    let most = draw.duration(Duration::from_micros(1_500)..milliseconds(20));
    faults.latency = Some(Duration::from_micros(100)..most);
    let sometimes = |range: std::ops::Range<f64>| if draw.chance(0.6) { draw.rate(range) } else { 0.0 };
    if has("store", 0.5) {
        faults.conflict = sometimes(0.001..0.2);
        faults.too_old = sometimes(0.0005..0.03);
        faults.future_version = sometimes(0.0005..0.05);
        faults.throttled = sometimes(0.001..0.3);
        faults.unavailable = sometimes(0.0005..0.05);
    }
    if has("unknown", 0.5) {
        faults.unknown_applied = sometimes(0.001..0.1);
        faults.unknown_not_applied = sometimes(0.001..0.1);
        faults.unknown_applied_later = sometimes(0.001..0.1);
        faults.applied_later_after = Duration::ZERO..draw.duration(milliseconds(50)..SECOND * 6);
    }
    if has("watch", 0.5) {
        faults.watch_lost = sometimes(0.001..0.3);
        faults.watch_late = sometimes(0.001..0.5);
        faults.watch_late_by = Duration::ZERO..draw.duration(milliseconds(50)..SECOND * 4);
        faults.watch_spurious = sometimes(0.001..0.2);
        faults.watch_error = sometimes(0.001..0.1);
    }
    if has("jump", 0.25) {
        faults.version_jump = draw.rate(0.0001..0.01);
    }
    faults
}

fn troubles(draw: &Draw, has: &impl Fn(&str, f64) -> bool) -> Troubles {
    let every = |from: u64, to: u64| draw.duration(SECOND * from as u32..SECOND * to as u32);
    let (kill, restart, pause) = (every(2, 20), every(4, 30), every(3, 20));
    let (cut_store, cut_bucket, cut_net, clock) = (every(4, 25), every(4, 25), every(1, 15), every(2, 20));
    Troubles {
        kill: has("kill", 0.5).then_some(kill),
        restart: has("restart", 0.4).then_some(restart),
        pause: has("pause", 0.4).then_some(pause),
        pause_most: draw.duration(milliseconds(500)..SECOND * 20),
        cut_store: has("cut-store", 0.3).then_some(cut_store),
        cut_bucket: has("cut-bucket", 0.3).then_some(cut_bucket),
        cut_most: draw.duration(milliseconds(500)..SECOND * 20),
        cut_net: has("cut-net", 0.4).then_some(cut_net),
        clock: has("clock", 0.4).then_some(clock),
    }
}
