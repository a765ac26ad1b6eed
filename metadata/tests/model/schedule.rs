//! Schedules: what a few clients do, in which order, and what they saw.

use futures::future::join_all;
use penstock_metadata::kv::{
    Committed, Isolation, KeyRange, Priority, RangeOptions, SharedStore, StoreError, Transaction,
    WriteConflict, single_key,
};
use proptest::prelude::*;

pub(crate) const CLIENTS: usize = 4;

#[derive(Debug, Clone)]
pub(crate) enum Write {
    Set(u8, u8),
    Add(u8, i64),
    Max(u8, u64),
    Clear(u8),
    ClearRange(u8, u8),
    StampedKey(u8, u8),
    StampedValue(u8),
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Get(usize, u8, bool),
    Range {
        client: usize,
        start: u8,
        end: u8,
        limit: usize,
        reverse: bool,
        serializable: bool,
    },
    Write(usize, Write, bool),
    ReadConflict(usize, u8, u8),
    WriteConflict(usize, u8, u8),
    /// These clients commit at the same time, and begin anew.
    Commit([bool; CLIENTS]),
}

#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// Whether every write enters the write conflict ranges.
    pub(crate) all_disturb: bool,
    pub(crate) steps: Vec<Step>,
}

/// What a read was, under the prefix, and what it answered.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Vec<u8>,
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
    pub(crate) serializable: bool,
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) more: bool,
}

/// A transaction and its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) read_version: Option<u64>,
    pub(crate) reads: Vec<Read>,
    pub(crate) read_conflicts: Vec<KeyRange>,
    pub(crate) writes: Vec<(Write, bool)>,
    pub(crate) write_conflicts: Vec<KeyRange>,
    pub(crate) result: Result<Committed, StoreError>,
}

#[derive(Debug)]
pub(crate) struct History {
    pub(crate) ended: Vec<Ended>,
    /// The contents afterwards.
    pub(crate) rows: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Keys of the schedules: few, so that clients meet.
pub(crate) fn key(number: u8) -> Vec<u8> {
    vec![b'a' + number % 8]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (0u8..8, any::<u8>()).prop_map(|(key, value)| Write::Set(key, value)),
        2 => (0u8..8, -3i64..100).prop_map(|(key, addend)| Write::Add(key, addend)),
        1 => (0u8..8, 0u64..100).prop_map(|(key, candidate)| Write::Max(key, candidate)),
        2 => (0u8..8).prop_map(Write::Clear),
        1 => (0u8..8, 0u8..8).prop_map(|(start, end)| Write::ClearRange(start.min(end), start.max(end))),
        1 => (0u8..8, any::<u8>()).prop_map(|(key, value)| Write::StampedKey(key, value)),
        1 => (0u8..8).prop_map(Write::StampedValue),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let bounds = || (0u8..8, 0u8..9).prop_map(|(start, end)| (start.min(end), start.max(end)));
    prop_oneof![
        4 => (client.clone(), 0u8..8, any::<bool>())
            .prop_map(|(client, key, serializable)| Step::Get(client, key, serializable)),
        2 => (client.clone(), bounds(), 1usize..5, any::<bool>(), any::<bool>()).prop_map(
            |(client, (start, end), limit, reverse, serializable)| Step::Range {
                client, start, end, limit, reverse, serializable,
            }
        ),
        8 => (client.clone(), write(), any::<bool>())
            .prop_map(|(client, write, disturbs)| Step::Write(client, write, disturbs)),
        1 => (client.clone(), bounds()).prop_map(|(client, (a, b))| Step::ReadConflict(client, a, b)),
        1 => (client, bounds()).prop_map(|(client, (a, b))| Step::WriteConflict(client, a, b)),
        5 => any::<[bool; CLIENTS]>().prop_map(Step::Commit),
    ]
}

pub(crate) fn schedule() -> impl Strategy<Value = Schedule> {
    (any::<bool>(), prop::collection::vec(step(), 1..60))
        .prop_map(|(all_disturb, steps)| Schedule { all_disturb, steps })
}

struct Client {
    transaction: Box<dyn Transaction>,
    ended: Ended,
}

fn begin(store: &SharedStore) -> Client {
    let ended = Ended {
        read_version: None,
        reads: Vec::new(),
        read_conflicts: Vec::new(),
        writes: Vec::new(),
        write_conflicts: Vec::new(),
        result: Err(StoreError::CommitUnknown),
    };
    Client { transaction: store.begin(Priority::Default), ended }
}

/// Runs a schedule under `prefix`.
pub(crate) async fn run(store: &SharedStore, prefix: &[u8], schedule: &Schedule) -> History {
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| begin(store)).collect();
    let mut ended = Vec::new();
    let all = Step::Commit([true; CLIENTS]);
    for step in schedule.steps.iter().chain([&all]) {
        if let Step::Commit(who) = step {
            let committing: Vec<_> = clients
                .iter_mut()
                .zip(who)
                .filter(|(_, commits)| **commits)
                .map(|(client, _)| std::mem::replace(client, begin(store)))
                .collect();
            ended.extend(join_all(committing.into_iter().map(commit)).await);
        } else {
            act(&mut clients, prefix, step, schedule.all_disturb).await;
        }
    }
    let mut reader = begin(store);
    let options = RangeOptions::page(10_000, Isolation::Snapshot);
    let range = prefix.to_vec()..[prefix, &[0xFF]].concat();
    let page = reader.transaction.range(range, options).await.expect("the contents");
    assert!(!page.more);
    History { ended, rows: strip(prefix, &page.rows) }
}

async fn commit(client: Client) -> Ended {
    let Client { transaction, mut ended } = client;
    ended.result = transaction.commit().await;
    ended
}

fn strip(prefix: &[u8], rows: &[penstock_metadata::kv::Row]) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.iter().map(|row| (row.key[prefix.len()..].to_vec(), row.value.to_vec())).collect()
}

fn isolation(serializable: bool) -> Isolation {
    if serializable { Isolation::Serializable } else { Isolation::Snapshot }
}

async fn act(clients: &mut [Client], prefix: &[u8], step: &Step, all_disturb: bool) {
    let full = |suffix: Vec<u8>| [prefix, &suffix].concat();
    match *step {
        Step::Get(client, number, serializable) => {
            let Client { transaction, ended } = &mut clients[client];
            let found = transaction.get(&full(key(number)), isolation(serializable)).await.expect("a read");
            let range = single_key(&key(number));
            ended.reads.push(Read {
                start: range.start.clone(),
                end: range.end.clone(),
                limit: 2,
                reverse: false,
                serializable,
                rows: found.map(|value| (key(number), value.to_vec())).into_iter().collect(),
                more: false,
            });
            ended.read_version = Some(transaction.read_version().await.expect("a version").get());
            if serializable {
                ended.read_conflicts.push(range);
            }
        }
        Step::Range { client, start, end, limit, reverse, serializable } => {
            let Client { transaction, ended } = &mut clients[client];
            let (start, end) = (vec![b'a' + start], vec![b'a' + end]);
            let options = RangeOptions { reverse, ..RangeOptions::page(limit, isolation(serializable)) };
            let page =
                transaction.range(full(start.clone())..full(end.clone()), options).await.expect("a page");
            let rows = strip(prefix, &page.rows);
            if serializable {
                ended.read_conflicts.push(match rows.last() {
                    Some((last, _)) if page.more && reverse => last.clone()..end.clone(),
                    Some((last, _)) if page.more => start.clone()..single_key(last).end,
                    _ => start.clone()..end.clone(),
                });
            }
            ended.reads.push(Read { start, end, limit, reverse, serializable, rows, more: page.more });
            ended.read_version = Some(transaction.read_version().await.expect("a version").get());
        }
        Step::Write(client, ref write, disturbs) => {
            let Client { transaction, ended } = &mut clients[client];
            let disturbs = disturbs || all_disturb;
            apply(&mut **transaction, &full, write, disturbs);
            ended.writes.push((write.clone(), disturbs));
        }
        Step::ReadConflict(client, start, end) => {
            let Client { transaction, ended } = &mut clients[client];
            let (start, end) = (vec![b'a' + start], vec![b'a' + end]);
            ended.read_version = Some(transaction.read_version().await.expect("a version").get());
            transaction.add_read_conflict(full(start.clone())..full(end.clone()));
            ended.read_conflicts.push(start..end);
        }
        Step::WriteConflict(client, start, end) => {
            let Client { transaction, ended } = &mut clients[client];
            let (start, end) = (vec![b'a' + start], vec![b'a' + end]);
            transaction.add_write_conflict(full(start.clone())..full(end.clone()));
            ended.write_conflicts.push(start..end);
        }
        Step::Commit(_) => unreachable!("committed by the caller"),
    }
}

fn apply(
    transaction: &mut dyn Transaction,
    full: &dyn Fn(Vec<u8>) -> Vec<u8>,
    write: &Write,
    disturbs: bool,
) {
    let conflict = if disturbs { WriteConflict::Yes } else { WriteConflict::No };
    match *write {
        Write::Set(number, value) => transaction.set(&full(key(number)), &[value], conflict),
        Write::Add(number, addend) => transaction.atomic_add(&full(key(number)), addend, conflict),
        Write::Max(number, candidate) => transaction.atomic_max(&full(key(number)), candidate, conflict),
        Write::Clear(number) => transaction.clear(&full(key(number)), conflict),
        Write::ClearRange(start, end) => {
            transaction.clear_range(full(key(start))..full(key(end)), conflict);
        }
        Write::StampedKey(number, value) => {
            transaction.set_stamped_key(&full(key(number)), &[value], &[value], conflict);
        }
        Write::StampedValue(number) => {
            transaction.set_stamped_value(&full(key(number)), &[1; 12], 1, conflict);
        }
    }
}
