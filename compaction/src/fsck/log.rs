//! A partition's log: the tail at one version of the store, the index below its seal page by page.
//!
//! What is visited are the entries that were there when the tail was read, each once: the index only as far as the seal of
//! that version.

use bytes::Bytes;
use penstock_metadata::codec::Corrupt;
use penstock_metadata::fold::{FoldState, LogEntry};
use penstock_metadata::keys::compaction::{self, CompactionState};
use penstock_metadata::keys::counters::{self, Counters, Stripe};
use penstock_metadata::keys::index::{self, PackedIndex};
use penstock_metadata::keys::log::{self, LogRow};
use penstock_metadata::keys::trim::{self, Trim};
use penstock_metadata::keys::{Family, Keyspace, log_start, seal};
use penstock_metadata::kv::{
    Isolation, KeyRange, Page, Priority, RangeOptions, SharedStore, StoreError, prefixed,
};
use penstock_types::{Offset, TopicPartition};

use super::index::IndexCheck;
use super::pages::options;
use super::report::Kind;
use super::topics::Topic;
use crate::again;

/// Rows of a page of the tail.
const TAIL_ROWS: usize = 2_000;
/// Index values of a page.
const INDEX_VALUES: usize = 40;
/// How often a partition is walked that changes meanwhile.
const LOOKS: u32 = 4;
/// How often a tail is begun that is sealed meanwhile.
const TAILS: u32 = 20;

/// What a walk meets.
pub(super) enum Met<'a> {
    /// The walk begins, maybe anew: what was met of the partition before doesn't count.
    Begin,
    /// An entry.
    Entry(&'a LogEntry),
}

/// Whoever walks along.
pub(super) type Visitor<'v> = &'v mut (dyn FnMut(Met<'_>) + Send);

/// Something wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    pub(super) offset: Option<Offset>,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(kind: Kind, offset: Option<Offset>, detail: impl Into<String>) -> Self {
        Self { kind, offset, detail: detail.into() }
    }
}

/// What came of a walk.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) problems: Vec<Problem>,
    pub(super) index_values: u64,
    /// Whether something changed at each look, and so wasn't compared.
    pub(super) unsettled: bool,
    /// Whether it was sealed so fast that its tail could not be read to the end.
    pub(super) incomplete: bool,
}

/// What is said of a partition, at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    sealed: FoldState,
    log_start: Offset,
    trim: Trim,
    counter: i64,
    /// Batches may have left the middle of the log.
    is_compacted: bool,
}

struct TailPage {
    values: Vec<Option<Bytes>>,
    page: Page,
    /// A row in front of the seal.
    below: bool,
}

/// Walks a partition, until what is found wrong is found twice.
pub(super) async fn check(
    store: &SharedStore,
    keyspace: &Keyspace,
    topic: &Topic,
    partition: TopicPartition,
    visitor: Visitor<'_>,
) -> Result<Walked, StoreError> {
    let mut before: Option<Walked> = None;
    for _ in 0..LOOKS {
        let mut walked = walk(store, keyspace, topic, partition, visitor).await?;
        if walked.problems.is_empty() && !walked.unsettled {
            return Ok(walked);
        }
        if let Some(before) = before.filter(|_| !walked.problems.is_empty()) {
            let known = |problem: &Problem| before.problems.iter().any(|other| other.kind == problem.kind);
            walked.problems.retain(known);
            if !walked.problems.is_empty() {
                return Ok(walked);
            }
        }
        before = Some(walked);
    }
    // Each time something else, or nothing but change.
    Ok(Walked { problems: Vec::new(), unsettled: true, ..before.unwrap_or_default() })
}

/// Walks a partition once; what changes meanwhile is visited as it was, or as it is then.
pub(super) async fn walk(
    store: &SharedStore,
    keyspace: &Keyspace,
    topic: &Topic,
    partition: TopicPartition,
    visitor: Visitor<'_>,
) -> Result<Walked, StoreError> {
    for _ in 0..TAILS {
        visitor(Met::Begin);
        let mut walked = Walked::default();
        let head = match tail(store, keyspace, partition, visitor, &mut walked).await? {
            Tail::Read(head) => head,
            Tail::Sealed => continue,
            Tail::Unreadable => return Ok(walked),
        };
        if head.sealed.next_offset > Offset::ZERO {
            below_seal(store, keyspace, topic, partition, &head, visitor, &mut walked).await?;
        }
        if !topic.is_live {
            // Its rows are taken out from the front and the back.
            walked.problems.clear();
        }
        return Ok(walked);
    }
    Ok(Walked { unsettled: true, incomplete: true, ..Walked::default() })
}

enum Tail {
    Read(Head),
    /// It was sealed meanwhile.
    Sealed,
    /// A row of it can't be decoded, which is told.
    Unreadable,
}

async fn tail(
    store: &SharedStore,
    keyspace: &Keyspace,
    partition: TopicPartition,
    visitor: Visitor<'_>,
    walked: &mut Walked,
) -> Result<Tail, StoreError> {
    let mut first: Option<Option<Bytes>> = None;
    let mut state = FoldState::default();
    loop {
        let from = first.is_some().then_some(&state);
        let read = again!(tail_page(store, keyspace, partition, from))?;
        let head = match head(&read.values, partition) {
            Ok(head) => head,
            Err(corrupt) => return Ok(unreadable(walked, &corrupt)),
        };
        match &first {
            None => {
                first = Some(read.values[0].clone());
                state = head.sealed.clone();
            }
            Some(sealed) if *sealed != read.values[0] => return Ok(Tail::Sealed),
            Some(_) => {}
        }
        for row in &read.page.rows {
            let row =
                log::parse_key(keyspace, &row.key).and_then(|(_, at)| Ok((at, LogRow::decode(&row.value)?)));
            match row {
                // Rows come in the order of their places.
                Ok((at, row)) => visitor(Met::Entry(&state.fold(at, row).0)),
                Err(corrupt) => return Ok(unreadable(walked, &corrupt)),
            }
        }
        if read.page.more {
            continue;
        }
        judge(&head, &state, read.below, walked);
        return Ok(Tail::Read(head));
    }
}

fn unreadable(walked: &mut Walked, corrupt: &Corrupt) -> Tail {
    let detail = format!("{corrupt}: the rest of the partition was not looked at");
    walked.problems.push(Problem::new(Kind::CorruptRow, None, detail));
    Tail::Unreadable
}

async fn tail_page(
    store: &SharedStore,
    keyspace: &Keyspace,
    partition: TopicPartition,
    from: Option<&FoldState>,
) -> Result<TailPage, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let keys = [
        seal::key(keyspace, partition),
        log_start::key(keyspace, partition),
        trim::key(keyspace, partition),
        counters::key(keyspace, Stripe::of(partition)),
        compaction::key(keyspace, partition),
    ];
    let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
    let sealed = seal::decode(values[0].as_deref()).unwrap_or_default().position;
    let from = from.map_or(sealed, |state| state.position);
    let rows = transaction.range(log::rows_after(keyspace, partition, &from), options(TAIL_ROWS)).await?;
    let below =
        keyspace.partition(Family::Log, partition)..log::rows_after(keyspace, partition, &sealed).start;
    let below = transaction.range(below, options(1)).await?;
    Ok(TailPage { values, page: rows, below: !below.rows.is_empty() })
}

fn head(values: &[Option<Bytes>], partition: TopicPartition) -> Result<Head, Corrupt> {
    Ok(Head {
        sealed: seal::decode(values[0].as_deref())?,
        log_start: log_start::decode(values[1].as_deref())?,
        trim: Trim::decode(values[2].as_deref())?,
        counter: Counters::decode(values[3].as_deref())?.of(partition),
        is_compacted: CompactionState::decode(values[4].as_deref())?.run > 0,
    })
}

/// Holds what is said of a partition at one version against one another. Pure.
fn judge(head: &Head, end: &FoldState, below: bool, walked: &mut Walked) {
    let mut wrong = |kind, offset, detail: String| walked.problems.push(Problem::new(kind, offset, detail));
    let folded = end.next_offset;
    if folded.get() != head.counter {
        let detail = format!("the fold ends at {folded}, the counter says {}", head.counter);
        wrong(Kind::Counter, Some(folded), detail);
    }
    if head.log_start.get() > head.counter.max(folded.get()) {
        let detail = format!("the log starts at {} and ends at {folded}", head.log_start);
        wrong(Kind::LogStart, Some(head.log_start), detail);
    }
    if head.trim.below > head.log_start.min(head.sealed.next_offset) {
        let (start, sealed) = (head.log_start, head.sealed.next_offset);
        let detail = format!(
            "trimmed up to {}, with a log that starts at {start} and is sealed up to {sealed}",
            head.trim.below
        );
        wrong(Kind::Trimmed, Some(head.trim.below), detail);
    }
    if below {
        wrong(
            Kind::RowBelowSeal,
            None,
            format!("the seal stands behind it, at offset {}", head.sealed.next_offset),
        );
    }
}

struct IndexPage {
    page: Page,
    head: [Option<Bytes>; 3],
}

async fn below_seal(
    store: &SharedStore,
    keyspace: &Keyspace,
    topic: &Topic,
    partition: TopicPartition,
    head: &Head,
    visitor: Visitor<'_>,
    walked: &mut Walked,
) -> Result<(), StoreError> {
    let all = prefixed(&keyspace.partition(Family::Index, partition));
    let mut check = IndexCheck::new(head.sealed.next_offset, !topic.is_live || head.is_compacted);
    let mut range = all.clone();
    let mut first: Option<Option<Bytes>> = None;
    loop {
        let read = again!(index_page(store, keyspace, partition, range.clone()))?;
        let [trimmed, start, _] = &read.head;
        let trim = Trim::decode(trimmed.as_deref()).unwrap_or_default();
        let log_start = log_start::decode(start.as_deref()).unwrap_or_default();
        first.get_or_insert_with(|| trimmed.clone());
        check.page(log_start, trim.below);
        for row in &read.page.rows {
            let value = index::parse_key(keyspace, &row.key)
                .and_then(|(_, last)| Ok((last, PackedIndex::decode(&row.value)?)));
            match value {
                Ok((last, value)) => check.value(last, &value, visitor),
                Err(corrupt) => {
                    unreadable(walked, &corrupt);
                    return Ok(());
                }
            }
        }
        let last = read.page.rows.last().filter(|_| read.page.more && !check.is_over());
        if let Some(last) = last {
            // The last one again: what follows is held against it at the same version.
            range = last.key.to_vec()..all.end.clone();
            continue;
        }
        walked.index_values += check.values();
        let bytes = check.end(log_start, &mut walked.problems);
        if first.flatten() != *trimmed
            || seal::decode(read.head[2].as_deref()).ok().as_ref() != Some(&head.sealed)
        {
            // What has gone meanwhile is in one sum and not in the other.
            walked.unsettled = true;
        } else if bytes != trim.left_of(head.sealed.bytes) && walked.problems.is_empty() {
            let (sealed, gone) = (head.sealed.bytes, trim.bytes);
            let detail = format!("{bytes} bytes are in the index; {sealed} were sealed, {gone} are gone");
            walked.problems.push(Problem::new(Kind::LogBytes, None, detail));
        }
        return Ok(());
    }
}

async fn index_page(
    store: &SharedStore,
    keyspace: &Keyspace,
    partition: TopicPartition,
    range: KeyRange,
) -> Result<IndexPage, StoreError> {
    let mut transaction = store.begin(Priority::Batch);
    let keys =
        [trim::key(keyspace, partition), log_start::key(keyspace, partition), seal::key(keyspace, partition)];
    let values = transaction.get_many(&keys, Isolation::Snapshot).await?;
    let options = RangeOptions { target_bytes: 2_000_000, ..options(INDEX_VALUES) };
    let page = transaction.range(range, options).await?;
    let mut values = values.into_iter();
    let mut next = || values.next().flatten();
    Ok(IndexPage { page, head: [next(), next(), next()] })
}
