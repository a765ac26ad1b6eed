//! Data objects (family 0x20): which objects were committed, and what came of each of their batches.
//!
//! ```text
//! key    0x20 | object id 20
//! value  01 | state 1 | versionstamp 10 | incarnation 4 | first n 4 | size varint | batch count varint
//!        | verdict count varint | verdict… | of what a merge wrote: level 1
//!   verdict  first batch varint | batches varint | 00 refusal 1
//!                                                | 01 n 4                                    (same transaction)
//!                                                | 02 incarnation 4 | versionstamp 10 | n 4
//! state  1 committed, 2 intent of a job, 3 tombstone (nothing refers to it; its id stays taken), 4 collected (it is
//!        deleted from the bucket, too)
//! ```
//!
//! - **Written** by the commit of the object, which reads it serializably: of two attempts at the same object either
//!   kills the other. Later by the jobs that collect the object (tombstone) or announce one (intent).
//! - **Read** by commits; after an unknown outcome all answers come from here. Batch `i` of the object was appended
//!   at (incarnation, stamp, first n + i) unless a verdict covers it. A verdict covers a run of batches; for
//!   duplicates their numbers run along.
//!   Of an object that a merge wrote (level 1 and above), `batches` says how many batches of the log were ever made to
//!   refer to it, by swaps that add to it; its stamp and first n mean nothing.
//! - **Cardinality**: one per object, until the sweeper's cutoff has passed its id.
//! - **Size**: 40 bytes where all was appended, never above [`VERDICT_BYTES`] and a little.

use penstock_types::{BatchPosition, Incarnation, ObjectId, Versionstamp};

use super::cluster::Cutoff;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::KeyRange;

const FORMAT: u8 = 1;
/// Where the versionstamp stands in the value.
pub const STAMP_AT: usize = 2;
/// Bytes of verdicts that a row may take; what doesn't fit is refused with [`Refusal::TryAgain`].
pub const VERDICT_BYTES: usize = 80_000;

/// An object's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectState {
    /// Its commit happened.
    Committed,
    /// A job is about to write it.
    Intent,
    /// Nothing refers to it any more; it is in the garbage queue.
    Tombstone,
    /// It was deleted from the bucket.
    Collected,
}

/// Why a batch was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The topic or partition does not exist (any more).
    UnknownTopic,
    /// The sequence does not follow the producer's last one.
    OutOfOrderSequence,
    /// The producer's epoch is older than one already seen.
    InvalidProducerEpoch,
    /// An earlier batch of the same producer and partition failed, or the object's row was full: send it again.
    TryAgain,
}

/// What came of a batch that was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was refused.
    Refused(Refusal),
    /// It is in the log already.
    Duplicate(BatchPosition),
    /// It is in the log already, appended by the same store transaction under this `n`.
    DuplicateHere {
        /// The first one's number.
        n: u32,
    },
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// The object's state.
    pub state: ObjectState,
    /// The stamp of its commit.
    pub stamp: Versionstamp,
    /// The incarnation of its commit.
    pub incarnation: Incarnation,
    /// `n` of its first batch.
    pub first_n: u32,
    /// Bytes of the object.
    pub size: u64,
    /// Batches in the object; of one that a merge wrote, those that were ever referred to.
    pub batches: u32,
    /// The batches that were not appended: (index in the object, verdict), ascending.
    pub verdicts: Vec<(u32, Verdict)>,
    /// 0 for what a commit wrote, else how often its batches were merged.
    pub level: u8,
}

impl ObjectRow {
    /// The stored value; when it is written the stamp is the store's.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        writer.u8(match self.state {
            ObjectState::Committed => 1,
            ObjectState::Intent => 2,
            ObjectState::Tombstone => 3,
            ObjectState::Collected => 4,
        });
        writer.fixed(self.stamp.as_bytes()).u32(self.incarnation.get()).u32(self.first_n);
        writer.varint(self.size).varint(u64::from(self.batches));
        let runs = runs(&self.verdicts);
        writer.varint(runs.len() as u64);
        for (first, count, verdict) in runs {
            writer.varint(u64::from(first)).varint(u64::from(count));
            match verdict {
                Verdict::Refused(refusal) => writer.u8(0).u8(refusal_code(refusal)),
                Verdict::DuplicateHere { n } => writer.u8(1).u32(n),
                Verdict::Duplicate(position) => writer.u8(2).fixed(&position.to_bytes()),
            };
        }
        if self.level > 0 {
            writer.u8(self.level);
        }
        writer.finish()
    }

    /// Reads a stored value.
    pub fn decode(value: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::with_format("object", value, FORMAT)?;
        let state = match reader.u8()? {
            1 => ObjectState::Committed,
            2 => ObjectState::Intent,
            3 => ObjectState::Tombstone,
            4 => ObjectState::Collected,
            _ => return Err(reader.corrupt("unknown state")),
        };
        let stamp = Versionstamp::from_bytes(reader.array()?);
        let incarnation = Incarnation::new(reader.u32()?);
        let first_n = reader.u32()?;
        let size = reader.varint()?;
        let batches = reader.varint_u32()?;
        let count = reader.count(4)?;
        let mut verdicts = Vec::new();
        for _ in 0..count {
            read_run(&mut reader, batches, &mut verdicts)?;
        }
        let level = if reader.remaining() > 0 { reader.u8()? } else { 0 };
        reader.finish()?;
        Ok(Self { state, stamp, incarnation, first_n, size, batches, verdicts, level })
    }

    /// How many of its batches were appended.
    pub fn appended(&self) -> u64 {
        u64::from(self.batches).saturating_sub(self.verdicts.len() as u64)
    }

    /// What came of batch `index` of the object.
    pub fn fate(&self, index: u32) -> Fate {
        let position = |n| BatchPosition { incarnation: self.incarnation, stamp: self.stamp, n };
        match self.verdicts.binary_search_by_key(&index, |(at, _)| *at) {
            Err(_) => Fate::Appended(position(self.first_n + index)),
            Ok(found) => match self.verdicts[found].1 {
                Verdict::Refused(refusal) => Fate::Refused(refusal),
                Verdict::Duplicate(of) => Fate::Duplicate(of),
                Verdict::DuplicateHere { n } => Fate::Duplicate(position(n)),
            },
        }
    }
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in the log, here.
    Appended(BatchPosition),
    /// It was in the log already, here.
    Duplicate(BatchPosition),
    /// It is not in the log.
    Refused(Refusal),
}

fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::UnknownTopic => 1,
        Refusal::OutOfOrderSequence => 2,
        Refusal::InvalidProducerEpoch => 3,
        Refusal::TryAgain => 4,
    }
}

fn read_run(
    reader: &mut Reader<'_>,
    batches: u32,
    verdicts: &mut Vec<(u32, Verdict)>,
) -> Result<(), Corrupt> {
    let first = reader.varint_u32()?;
    let count = reader.varint_u32()?;
    let behind = verdicts.last().is_none_or(|(last, _)| *last < first);
    if !behind || first.checked_add(count).is_none_or(|end| end > batches) {
        return Err(reader.corrupt("verdicts overlap or leave the object"));
    }
    let verdict = match reader.u8()? {
        0 => Verdict::Refused(match reader.u8()? {
            1 => Refusal::UnknownTopic,
            2 => Refusal::OutOfOrderSequence,
            3 => Refusal::InvalidProducerEpoch,
            4 => Refusal::TryAgain,
            _ => return Err(reader.corrupt("unknown refusal")),
        }),
        1 => Verdict::DuplicateHere { n: reader.u32()? },
        2 => Verdict::Duplicate(BatchPosition::from_bytes(&reader.array()?)),
        _ => return Err(reader.corrupt("unknown verdict")),
    };
    for step in 0..count {
        let verdict = shifted(verdict, step).ok_or(reader.corrupt("a verdict's numbers overflow"))?;
        verdicts.push((first + step, verdict));
    }
    Ok(())
}

/// The verdict of the batch `step` behind the first of a run.
fn shifted(verdict: Verdict, step: u32) -> Option<Verdict> {
    Some(match verdict {
        Verdict::Refused(refusal) => Verdict::Refused(refusal),
        Verdict::DuplicateHere { n } => Verdict::DuplicateHere { n: n.checked_add(step)? },
        Verdict::Duplicate(at) => Verdict::Duplicate(BatchPosition { n: at.n.checked_add(step)?, ..at }),
    })
}

fn runs(verdicts: &[(u32, Verdict)]) -> Vec<(u32, u32, Verdict)> {
    let mut runs: Vec<(u32, u32, Verdict)> = Vec::new();
    for (index, verdict) in verdicts {
        match runs.last_mut() {
            Some((first, count, head))
                if *first + *count == *index && shifted(*head, *count) == Some(*verdict) =>
            {
                *count += 1;
            }
            _ => runs.push((*index, 1, *verdict)),
        }
    }
    runs
}

/// Bytes that one more run of `verdict` may take.
pub fn verdict_bytes(verdict: &Verdict) -> usize {
    6 + match verdict {
        Verdict::Refused(_) => 2,
        Verdict::DuplicateHere { .. } => 5,
        Verdict::Duplicate(_) => 1 + BatchPosition::LENGTH,
    }
}

/// The key of an object.
pub fn key(keyspace: &Keyspace, id: ObjectId) -> Vec<u8> {
    let mut key = keyspace.family(Family::Object);
    key.extend_from_slice(id.as_bytes());
    key
}

/// The rows of objects whose ids are below a cutoff.
pub fn below(keyspace: &Keyspace, cutoff: Cutoff) -> KeyRange {
    let end = ObjectId::new(cutoff.incarnation, cutoff.version, 0);
    keyspace.family(Family::Object)..key(keyspace, end)
}

/// Reads a key back.
pub fn parse_key(keyspace: &Keyspace, key: &[u8]) -> Result<ObjectId, Corrupt> {
    let rest = keyspace
        .strip(Family::Object, key)
        .ok_or(Corrupt { family: "object", reason: "a key of another family" })?;
    let mut reader = Reader::new("object", rest);
    let id = ObjectId::from_bytes(reader.array()?);
    reader.finish()?;
    Ok(id)
}
