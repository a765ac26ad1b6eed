//! Checkpoints of the sealed log in the bucket (family 0x17), by slot of partitions.
//!
//! ```text
//! seals key  0x17 | slot 2 | 01    value  signed 64-bit little-endian: seals of the slot's partitions so far
//! state key  0x17 | slot 2 | 02    value  01 | current checkpoint | pending id
//!   current  00, or 01 | id 20 | seals 8 | parts 4 | bytes varint
//!   pending  00, or 01 | id 20
//! ```
//!
//! A slot needs a new checkpoint when its seals are not those that its current one saw. An id is made like that of a
//! data object: its version is one read before anything that the checkpoint holds.
//!
//! - **Written**: seals by every seal, with an atomic add without a conflict range; the state by the job that writes
//!   checkpoints, before its first PUT (pending: the intent) and behind its last (current). **Read** by that job.
//! - **Cardinality**: two for each slot with sealed partitions. At most 80 bytes.

use penstock_types::ObjectId;

use super::feed::Slot;
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, prefixed};

const NAME: &str = "checkpoint";
const FORMAT: u8 = 1;
const SEALS: u8 = 1;
const STATE: u8 = 2;

/// A checkpoint that is whole in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its id.
    pub id: ObjectId,
    /// The slot's seals that it holds.
    pub seals: i64,
    /// Its objects.
    pub parts: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// A slot's checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckpointState {
    /// The newest that is whole.
    pub current: Option<Checkpoint>,
    /// One that is being written, or was when its writer died.
    pub pending: Option<ObjectId>,
}

/// A row of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointRow {
    /// Seals of a slot.
    Seals(Slot, i64),
    /// Checkpoints of a slot.
    State(Slot, CheckpointState),
}

impl CheckpointState {
    /// The stored value.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::format(FORMAT);
        match &self.current {
            None => writer.u8(0),
            Some(Checkpoint { id, seals, parts, bytes }) => {
                writer.u8(1).fixed(id.as_bytes()).u64(*seals as u64).u32(*parts).varint(*bytes)
            }
        };
        match &self.pending {
            None => writer.u8(0),
            Some(id) => writer.u8(1).fixed(id.as_bytes()),
        };
        writer.finish()
    }

    /// Reads a value; none is no checkpoint.
    pub fn decode(value: Option<&[u8]>) -> Result<Self, Corrupt> {
        let Some(value) = value else { return Ok(Self::default()) };
        let mut reader = Reader::with_format(NAME, value, FORMAT)?;
        let current = match reader.u8()? {
            0 => None,
            1 => Some(Checkpoint {
                id: ObjectId::from_bytes(reader.array()?),
                seals: reader.u64()? as i64,
                parts: reader.u32()?,
                bytes: reader.varint()?,
            }),
            _ => return Err(reader.corrupt("a current checkpoint is neither there nor not")),
        };
        let pending = match reader.u8()? {
            0 => None,
            1 => Some(ObjectId::from_bytes(reader.array()?)),
            _ => return Err(reader.corrupt("a pending checkpoint is neither there nor not")),
        };
        reader.finish()?;
        Ok(Self { current, pending })
    }
}

fn key(keyspace: &Keyspace, slot: Slot, which: u8) -> Vec<u8> {
    let mut key = keyspace.family(Family::Checkpoint);
    key.extend_from_slice(&slot.get().to_be_bytes());
    key.push(which);
    key
}

/// The key of a slot's seals.
pub fn seals_key(keyspace: &Keyspace, slot: Slot) -> Vec<u8> {
    key(keyspace, slot, SEALS)
}

/// Reads a slot's seals; none is 0.
pub fn decode_seals(value: Option<&[u8]>) -> Result<i64, Corrupt> {
    let Some(value) = value else { return Ok(0) };
    let bytes: [u8; 8] =
        value.try_into().map_err(|_| Corrupt { family: NAME, reason: "seals are not eight bytes" })?;
    Ok(i64::from_le_bytes(bytes))
}

/// The key of a slot's state.
pub fn state_key(keyspace: &Keyspace, slot: Slot) -> Vec<u8> {
    key(keyspace, slot, STATE)
}

/// All rows of the family.
pub fn rows(keyspace: &Keyspace) -> KeyRange {
    prefixed(&keyspace.family(Family::Checkpoint))
}

/// Reads a row.
pub fn decode_row(keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<CheckpointRow, Corrupt> {
    let rest = keyspace
        .strip(Family::Checkpoint, key)
        .ok_or(Corrupt { family: NAME, reason: "a key of another family" })?;
    let mut reader = Reader::new(NAME, rest);
    let slot = Slot::numbered(reader.u16()?).ok_or(reader.corrupt("there is no such slot"))?;
    let which = reader.u8()?;
    reader.finish()?;
    match which {
        SEALS => Ok(CheckpointRow::Seals(slot, decode_seals(Some(value))?)),
        STATE => Ok(CheckpointRow::State(slot, CheckpointState::decode(Some(value))?)),
        _ => Err(reader.corrupt("an unknown row")),
    }
}

#[cfg(test)]
mod tests {
    use penstock_types::{Incarnation, StoreVersion};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stored_bytes_are_pinned() {
        let keyspace = Keyspace::new(b"p");
        let slot = Slot::numbered(0x12).expect("a slot");
        assert_eq!(seals_key(&keyspace, slot), b"p\x17\x00\x12\x01");
        assert_eq!(state_key(&keyspace, slot), b"p\x17\x00\x12\x02");
        let id = ObjectId::new(Incarnation::new(1), StoreVersion::new(2), 3);
        let state = CheckpointState {
            current: Some(Checkpoint { id, seals: 7, parts: 1, bytes: 300 }),
            pending: Some(ObjectId::new(Incarnation::new(1), StoreVersion::new(4), 5)),
        };
        let hex: String = state.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "0101000000010000000000000002000000000000000300000000000000070000\
                        0001ac0201000000010000000000000004000000000000000500";
        assert_eq!(hex, expected[..hex.len()], "{hex}");
        let row = decode_row(&keyspace, &state_key(&keyspace, slot), &state.encode());
        assert_eq!(row, Ok(CheckpointRow::State(slot, state)));
        let row = decode_row(&keyspace, &seals_key(&keyspace, slot), &7i64.to_le_bytes());
        assert_eq!(row, Ok(CheckpointRow::Seals(slot, 7)));
        assert_eq!(CheckpointState::decode(None), Ok(CheckpointState::default()));
        let none = CheckpointState::default();
        assert_eq!(CheckpointState::decode(Some(&none.encode())), Ok(none));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(key: Vec<u8>, value: Vec<u8>) {
            let _ = decode_row(&Keyspace::new(b""), &[&[0x17], &key[..]].concat(), &value);
            let _ = CheckpointState::decode(Some(&value));
        }
    }
}
