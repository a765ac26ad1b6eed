//! What is known of every record, and what contradicts it. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use super::record::Identity;

/// Examples that are kept of each kind of violation.
const EXAMPLES: usize = 5;
/// Sequences that a reader waits for at most: what a producer gave up stays missing.
const MISSING: usize = 100_000;
/// An offset so far beyond everything that was sent is not remembered: whoever tells it has skipped others.
const BEYOND: u64 = 1_000_000;

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Violation {
    /// It was acknowledged and is nowhere.
    Lost,
    /// It stands in the log twice.
    Duplicated,
    /// It stands behind a later one of its producer.
    Reordered,
    /// It is not at the offset that was acknowledged.
    Misplaced,
    /// One offset was read as two different records.
    OffsetChanged,
    /// An offset below the end was skipped.
    Hole,
    /// An offset was given out again by one read.
    OffsetWentBack,
    /// Its bytes are not those that were written.
    Damaged,
    /// A record that nobody of this run wrote there.
    Foreign,
    /// The end of a partition went back, or stands below what was acknowledged.
    EndWentBack,
    /// An offset of the log was refused to a reader.
    OutOfRange,
    /// What is below the end could not be read in time.
    Unreadable,
}

/// What became of a record, as its producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not told yet, or given up: it may be there once.
    Unknown,
    /// It is in the log, somewhere: its offset was not told.
    Somewhere,
    /// It is there.
    At(u64),
}

#[derive(Debug, Default)]
struct PartitionLedger {
    /// By producer and sequence.
    fates: Vec<Vec<Fate>>,
    /// By offset: what any reader has read there.
    read: Vec<Option<Identity>>,
    /// The highest end that anybody was told.
    end: u64,
    /// The last one.
    told: u64,
}

/// What was written and read of each partition of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    partitions: Vec<Mutex<PartitionLedger>>,
    violations: Mutex<BTreeMap<Violation, Found>>,
    counts: Shared,
}

#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    read: AtomicU64,
    violations: AtomicU64,
}

/// How often something was found, and where, a few times.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Found {
    /// How often.
    pub(super) count: u64,
    /// The first few.
    pub(super) examples: Vec<String>,
}

/// Numbers of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Handed to the producers.
    pub(super) sent: u64,
    /// Acknowledged.
    pub(super) acknowledged: u64,
    /// Given up by the producers: each may be there once.
    pub(super) failed: u64,
    /// Read, by all readers together.
    pub(super) read: u64,
    /// Of whatever kind.
    #[serde(skip)]
    pub(super) violations: u64,
}

impl Ledger {
    pub(super) fn new(partitions: usize, producers: usize) -> Self {
        let partition = || PartitionLedger { fates: vec![Vec::new(); producers], ..Default::default() };
        Self {
            partitions: (0..partitions).map(|_| Mutex::new(partition())).collect(),
            violations: Mutex::default(),
            counts: Shared::default(),
        }
    }

    fn partition(&self, partition: i32) -> &Mutex<PartitionLedger> {
        &self.partitions[partition as usize]
    }

    pub(super) fn partitions(&self) -> std::ops::Range<i32> {
        0..self.partitions.len() as i32
    }

    /// The next record of a producer in a partition, which is about to be sent.
    pub(super) fn next(&self, partition: i32, producer: u32) -> Identity {
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        let mut ledger = self.partition(partition).lock();
        let fates = &mut ledger.fates[producer as usize];
        fates.push(Fate::Unknown);
        Identity { producer, sequence: fates.len() as u64 - 1 }
    }

    /// A record was acknowledged, at that offset if it was told.
    pub(super) fn acknowledged(&self, partition: i32, identity: Identity, offset: Option<u64>) {
        self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
        let mut ledger = self.partition(partition).lock();
        let fate = offset.map_or(Fate::Somewhere, Fate::At);
        ledger.fates[identity.producer as usize][identity.sequence as usize] = fate;
    }

    /// A record's producer has given it up.
    pub(super) fn failed(&self) {
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Something was found.
    pub(super) fn found(&self, violation: Violation, example: String) {
        self.counts.violations.fetch_add(1, Ordering::Relaxed);
        let mut violations = self.violations.lock();
        let found = violations.entry(violation).or_default();
        found.count += 1;
        if found.examples.len() < EXAMPLES {
            found.examples.push(example);
        }
    }

    /// A reader has read a record of the run.
    pub(super) fn read(&self, partition: i32, offset: u64, identity: Identity) {
        self.counts.read.fetch_add(1, Ordering::Relaxed);
        if offset > self.counts.sent.load(Ordering::Relaxed) + BEYOND {
            return;
        }
        let index = offset as usize;
        let mut ledger = self.partition(partition).lock();
        if ledger.read.len() <= index {
            ledger.read.resize(index + 1, None);
        }
        let before = ledger.read[index].replace(identity);
        drop(ledger);
        if let Some(before) = before.filter(|before| *before != identity) {
            self.found(
                Violation::OffsetChanged,
                format!("partition {partition}, offset {offset}: {before:?}, then {identity:?}"),
            );
        }
    }

    /// A partition's end was told, by a request that began when the end was known to be at `least`.
    pub(super) fn end(&self, partition: i32, least: u64, end: u64) {
        let mut ledger = self.partition(partition).lock();
        ledger.end = ledger.end.max(end);
        ledger.told = end;
        drop(ledger);
        if end < least {
            self.found(
                Violation::EndWentBack,
                format!("partition {partition}: its end is {end}, and was at {least} before"),
            );
        }
    }

    /// Where a partition must end at least: by what was acknowledged, read, and told.
    pub(super) fn least_end(&self, partition: i32) -> u64 {
        let ledger = self.partition(partition).lock();
        let acknowledged = ledger.fates.iter().flat_map(|fates| {
            // The last acknowledged one of each producer is the highest.
            fates.iter().rev().find_map(|fate| match fate {
                Fate::At(offset) => Some(offset.saturating_add(1)),
                Fate::Unknown | Fate::Somewhere => None,
            })
        });
        acknowledged.max().unwrap_or(0).max(ledger.end)
    }

    /// Holds a partition that was read from its beginning up to `next` against what was acknowledged. What lies behind that, and
    /// below the end, could not be read: nothing is said of it.
    pub(super) fn judge(&self, partition: i32, next: u64) {
        let ledger = self.partition(partition).lock();
        let all_was_read = next >= ledger.told;
        let is_open = |identity: Identity, fate: Fate| match fate {
            Fate::Unknown => false,
            Fate::Somewhere => all_was_read,
            Fate::At(offset) => {
                let there = usize::try_from(offset).ok().and_then(|index| ledger.read.get(index));
                (offset < next || all_was_read) && there != Some(&Some(identity))
            }
        };
        let open: Vec<(Identity, Fate)> = (0..)
            .zip(&ledger.fates)
            .flat_map(|(producer, fates)| {
                (0..).zip(fates).map(move |(sequence, fate)| (Identity { producer, sequence }, *fate))
            })
            .filter(|(identity, fate)| is_open(*identity, *fate))
            .collect();
        if open.is_empty() {
            return;
        }
        let places: HashMap<Identity, u64> =
            (0..).zip(&ledger.read).filter_map(|(offset, identity)| Some(((*identity)?, offset))).collect();
        for (identity, fate) in open {
            match (places.get(&identity), fate) {
                (Some(_), Fate::Somewhere) => {}
                (Some(at), _) => self.found(
                    Violation::Misplaced,
                    format!("partition {partition}: {identity:?} was acknowledged as {fate:?}, is at {at}"),
                ),
                (None, _) => self.found(
                    Violation::Lost,
                    format!("partition {partition}: {identity:?}, acknowledged as {fate:?}"),
                ),
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let Shared { sent, acknowledged, failed, read, violations } = &self.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            sent: get(sent),
            acknowledged: get(acknowledged),
            failed: get(failed),
            read: get(read),
            violations: get(violations),
        }
    }

    pub(super) fn violations(&self) -> BTreeMap<Violation, Found> {
        self.violations.lock().clone()
    }
}

/// What one reader knows of a partition that it follows.
#[derive(Debug, Default)]
pub(super) struct Follow {
    /// Where it goes on.
    pub(super) next: u64,
    producers: BTreeMap<u32, OfProducer>,
}

#[derive(Debug, Default)]
struct OfProducer {
    next: u64,
    missing: BTreeSet<u64>,
}

impl Follow {
    /// The next record's offset.
    pub(super) fn step(&mut self, offset: u64) -> Option<Violation> {
        let violation = match offset.cmp(&self.next) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Violation::Hole),
            std::cmp::Ordering::Less => Some(Violation::OffsetWentBack),
        };
        self.next = self.next.max(offset + 1);
        violation
    }

    /// Which record it is.
    pub(super) fn record(&mut self, identity: Identity) -> Option<Violation> {
        let of = self.producers.entry(identity.producer).or_default();
        if identity.sequence >= of.next {
            let room = (MISSING - of.missing.len().min(MISSING)) as u64;
            let skipped = of.next..identity.sequence;
            of.missing.extend(skipped.take(usize::try_from(room).unwrap_or(usize::MAX)));
            of.next = identity.sequence + 1;
            return None;
        }
        Some(if of.missing.remove(&identity.sequence) { Violation::Reordered } else { Violation::Duplicated })
    }
}
