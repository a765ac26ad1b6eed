//! A partition: everything that is read of it is of one version of the store, so that fold and counter can be held
//! against one another.

use bytes::Bytes;
use penstock_types::{BatchPosition, TopicPartition};

use super::facts::{Facts, Inspected};
use super::row::{position, row_facts, stamp};
use super::{InspectError, Inspector, POLICY, Sink, Stopped, describe, reading};
use crate::fold::FoldState;
use crate::keys::counters::{self, Counters, Stripe};
use crate::keys::feed::{self, Slot};
use crate::keys::log::{self, LogRow};
use crate::keys::trim::{self, Trim};
use crate::keys::{Family, Keyspace, log_start, seal};
use crate::kv::{Isolation, Page, RangeOptions, Row, StoreError, Transaction, prefixed};
use crate::transact::{Abort, OnUnknown, transact};

/// What was read of a partition at one version.
#[derive(Debug)]
struct Raw {
    log_start: Option<Row>,
    trim: Option<Row>,
    seal: Option<Row>,
    counter: Option<Row>,
    feed: Option<Row>,
    /// The rows behind the seal.
    tail: Page,
    /// Index, aborted transactions, producers.
    others: Vec<Page>,
}

impl Inspector {
    pub(super) async fn partition(
        &self,
        partition: TopicPartition,
        sink: &mut dyn Sink,
    ) -> Result<(), InspectError> {
        let limit = self.limit;
        let raw = transact!(&*self.store, POLICY, OnUnknown::RunAgain, async |transaction| {
            read(transaction, &self.keyspace, partition, limit).await.map_err(Abort::<Stopped>::Store)
        });
        let raw = reading(raw.await)?;
        sink.read(raw.tail.rows.len() + raw.others.iter().map(|page| page.rows.len()).sum::<usize>());
        let mut told = Told { keyspace: &self.keyspace, limit, found: Vec::new() };
        told.partition(partition, &raw);
        for found in told.found {
            sink.put(found)?;
        }
        Ok(())
    }
}

async fn read(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    partition: TopicPartition,
    limit: usize,
) -> Result<Raw, StoreError> {
    let keys = [
        log_start::key(keyspace, partition),
        trim::key(keyspace, partition),
        seal::key(keyspace, partition),
        counters::key(keyspace, Stripe::of(partition)),
        feed::key(keyspace, Slot::of(partition)),
    ];
    let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
    let mut rows = keys.into_iter().zip(values).map(|(key, value)| {
        let key = Bytes::from(key);
        value.map(|value| Row { key, value })
    });
    let mut row = || rows.next().flatten();
    let (log_start, trim, seal, counter, feed) = (row(), row(), row(), row(), row());
    let sealed = seal.as_ref().and_then(|row| seal::decode(Some(&row.value)).ok());
    let sealed = sealed.map_or(BatchPosition::ZERO, |state| state.position);
    let options = RangeOptions::page(limit.saturating_add(1), Isolation::Snapshot);
    let tail = transaction.range(log::rows_after(keyspace, partition, &sealed), options).await?;
    let families = [Family::Index, Family::Aborted, Family::Producer];
    let ranges = families.map(|family| prefixed(&keyspace.partition(family, partition)));
    let others = transaction.ranges(ranges.to_vec(), options).await?;
    Ok(Raw { log_start, trim, seal, counter, feed, tail, others })
}

/// What is told of a partition. Pure.
struct Told<'a> {
    keyspace: &'a Keyspace,
    limit: usize,
    found: Vec<Inspected>,
}

impl Told<'_> {
    fn partition(&mut self, partition: TopicPartition, raw: &Raw) {
        let of = || Facts::default().signed("partition", partition.partition.get());
        let log_start = self.decoded(&raw.log_start, log_start::decode);
        let trim = self.decoded(&raw.trim, Trim::decode);
        let sealed = self.decoded(&raw.seal, seal::decode);
        let counter = self.decoded(&raw.counter, Counters::decode).map(|counters| counters.of(partition));
        let fed = self.decoded(&raw.feed, feed::decode);
        let mut facts = of();
        if let Some(offset) = log_start {
            facts = facts.signed("log start offset", offset.get());
        }
        if let Some(trim) = trim {
            facts = facts.signed("trimmed up to", trim.below.get()).signed("bytes gone", trim.bytes);
        }
        if let Some(state) = &sealed {
            facts = facts.signed("sealed offset", state.next_offset.get());
            facts =
                facts.text("sealed up to", position(&state.position)).unsigned("sealed bytes", state.bytes);
            facts = facts.count("open transactions", state.open_transactions.len());
        }
        if let Some(counter) = counter {
            facts = facts.signed("counter", counter);
        }
        facts = facts.unsigned("slot", Slot::of(partition).get());
        if let Some(fed) = fed {
            facts = facts.text("feed", stamp(fed.incarnation, fed.stamp));
        }
        self.found.push(Inspected::row("partition", facts));
        self.tail(of, raw, sealed, counter);
        for page in &raw.others {
            for row in page.rows.iter().take(self.limit) {
                self.found.push(describe(self.keyspace, row));
            }
            if page.rows.len() > self.limit || page.more {
                self.found.push(more(page.rows.len().min(self.limit)));
            }
        }
    }

    /// The rows behind the seal, with their offsets as long as they can be known; behind the last, whether they agree with
    /// the counter.
    fn tail(&mut self, of: impl Fn() -> Facts, raw: &Raw, sealed: Option<FoldState>, counter: Option<i64>) {
        let mut next = sealed.map(|state| state.next_offset.get());
        for (told, row) in raw.tail.rows.iter().enumerate() {
            if told >= self.limit {
                break;
            }
            match log::parse_key(self.keyspace, &row.key) {
                Ok((_, at)) => match LogRow::decode(&row.value) {
                    Ok(decoded) => {
                        let facts = match next {
                            Some(offset) => of().signed("offset", offset),
                            None => of(),
                        };
                        let facts = facts.text("at", position(&at));
                        self.found.push(Inspected::row(Family::Log.name(), row_facts(facts, &decoded)));
                        next = next.and_then(|offset| offset.checked_add(decoded.records()));
                    }
                    Err(corrupt) => {
                        self.found.push(Inspected::corrupt(row, &corrupt));
                        next = None;
                    }
                },
                Err(corrupt) => {
                    self.found.push(Inspected::corrupt(row, &corrupt));
                    next = None;
                }
            }
        }
        if raw.tail.more || raw.tail.rows.len() > self.limit {
            self.found.push(more(raw.tail.rows.len().min(self.limit)));
        } else if let (Some(folded), Some(counter), Some(row)) = (next, counter, &raw.counter)
            && folded != counter
        {
            self.disagrees(row, folded, counter);
        }
    }

    fn disagrees(&mut self, row: &Row, folded: i64, counter: i64) {
        self.found.push(Inspected::Corrupt {
            kind: Family::Counters.name(),
            reason: format!("the fold ends at {folded}, the counter says {counter}"),
            key: row.key.clone(),
            value: row.value.clone(),
        });
    }

    /// A row's value, which may be absent; `None` if it is corrupt, which is told.
    fn decoded<T>(
        &mut self,
        row: &Option<Row>,
        decode: impl Fn(Option<&[u8]>) -> Result<T, crate::codec::Corrupt>,
    ) -> Option<T> {
        match (decode(row.as_ref().map(|row| &*row.value)), row) {
            (Ok(value), _) => Some(value),
            (Err(corrupt), Some(row)) => {
                self.found.push(Inspected::corrupt(row, &corrupt));
                None
            }
            (Err(_), None) => None,
        }
    }
}

/// There are more rows than were asked for.
fn more(told: usize) -> Inspected {
    Inspected::row("more", Facts::default().count("told", told))
}
