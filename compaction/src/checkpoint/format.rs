//! The form of a checkpoint's objects (docs/checkpoint.md has the diagram): rows of the metadata store as they are
//! there, framed, named and checked. Pure.

use bytes::Bytes;
use penstock_metadata::codec::{Corrupt, Reader, Writer};
use penstock_metadata::keys::feed::Slot;
use penstock_metadata::kv::Row;
use penstock_types::ObjectId;

/// In front of every key of a checkpoint.
pub const CHECKPOINTS_PREFIX: &str = "checkpoints/";

const NAME: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"PENSCKPT";
const FORMAT: u16 = 1;
const ROW: u8 = 1;
const MORE: u8 = 0;
const LAST: u8 = 2;
const CHECKSUM_BYTES: usize = 4;

/// Which object of which checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartName {
    /// The slot of partitions.
    pub slot: Slot,
    /// The checkpoint.
    pub id: ObjectId,
    /// The part, from 0.
    pub part: u32,
}

impl PartName {
    /// Its key in the bucket: `checkpoints/<slot, two hexadecimal digits>/<id, forty>-<part, eight decimal digits>`.
    pub fn key(&self) -> String {
        format!("{CHECKPOINTS_PREFIX}{:02x}/{}-{:08}", self.slot.get(), self.id, self.part)
    }

    /// The part whose key this is; `None` for any other key.
    pub fn of_key(key: &str) -> Option<Self> {
        let (slot, name) = key.strip_prefix(CHECKPOINTS_PREFIX)?.split_once('/')?;
        let (id, part) = name.split_once('-')?;
        let slot = Slot::numbered(u16::from_str_radix(slot, 16).ok()?)?;
        let found = Self { slot, id: id.parse().ok()?, part: part.parse().ok()? };
        (found.key() == key).then_some(found)
    }
}

/// An object of a checkpoint, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub name: PartName,
    /// Whose.
    pub cluster_id: String,
    /// Whether it is the last of its checkpoint: without one a checkpoint is not whole.
    pub is_last: bool,
    /// Its rows: keys without a cluster's prefix.
    pub rows: Vec<Row>,
}

/// Writes one object of a checkpoint.
#[derive(Debug)]
pub struct PartBuilder {
    writer: Writer,
    rows: u32,
}

impl PartBuilder {
    /// An object without rows yet.
    pub fn new(name: &PartName, cluster_id: &str) -> Self {
        let mut writer = Writer::raw(MAGIC);
        writer.u16(FORMAT).u16(name.slot.get()).fixed(name.id.as_bytes()).u32(name.part).string(cluster_id);
        Self { writer, rows: 0 }
    }

    /// Adds a row, whose key has no cluster's prefix.
    pub fn row(&mut self, row: &Row) {
        self.writer.u8(ROW).bytes(&row.key).bytes(&row.value);
        self.rows += 1;
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.writer.len()
    }

    /// The object.
    pub fn finish(mut self, is_last: bool) -> Bytes {
        self.writer.u8(if is_last { LAST } else { MORE }).u32(self.rows);
        let mut bytes = self.writer.finish();
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes.into()
    }
}

impl Part {
    /// Reads an object.
    ///
    /// # Errors
    /// On whatever isn't exactly what [`PartBuilder`] writes.
    pub fn decode(object: &Bytes) -> Result<Self, Corrupt> {
        let corrupt = |reason| Corrupt { family: NAME, reason };
        let body = object.len().checked_sub(CHECKSUM_BYTES).ok_or(corrupt("too short"))?;
        let (body, checksum) = object.split_at(body);
        if crc32c::crc32c(body).to_be_bytes() != checksum {
            return Err(corrupt("its checksum doesn't hold"));
        }
        let mut reader = Reader::new(NAME, body);
        if reader.array()? != *MAGIC {
            return Err(reader.corrupt("it has another magic"));
        }
        if reader.u16()? != FORMAT {
            return Err(reader.corrupt("unknown format"));
        }
        let slot = Slot::numbered(reader.u16()?).ok_or(reader.corrupt("there is no such slot"))?;
        let id = ObjectId::from_bytes(reader.array()?);
        let name = PartName { slot, id, part: reader.u32()? };
        let cluster_id = reader.string()?.to_owned();
        let mut rows = Vec::new();
        let is_last = loop {
            match reader.u8()? {
                ROW => {
                    let (key, value) = (reader.bytes()?, reader.bytes()?);
                    rows.push(Row { key: object.slice_ref(key), value: object.slice_ref(value) });
                }
                MORE => break false,
                LAST => break true,
                _ => return Err(reader.corrupt("it has neither a row nor an end")),
            }
        };
        if u32::try_from(rows.len()) != Ok(reader.u32()?) {
            return Err(reader.corrupt("rows are missing"));
        }
        reader.finish()?;
        Ok(Self { name, cluster_id, is_last, rows })
    }
}

#[cfg(test)]
mod tests {
    use penstock_types::{Incarnation, StoreVersion};
    use proptest::prelude::*;

    use super::*;

    fn name(slot: u16, part: u32) -> PartName {
        let id = ObjectId::new(Incarnation::new(1), StoreVersion::new(2), 3);
        PartName { slot: Slot::numbered(slot).expect("a slot"), id, part }
    }

    #[test]
    fn keys_are_read_back_and_others_are_not() {
        let key = name(0xab, 7).key();
        assert_eq!(key, "checkpoints/ab/0000000100000000000000020000000000000003-00000007");
        assert_eq!(PartName::of_key(&key), Some(name(0xab, 7)));
        for other in
            ["checkpoints/", "checkpoints/ab/x-00000007", "objects/ab/1", &key[..key.len() - 1], "cluster"]
        {
            assert_eq!(PartName::of_key(other), None, "{other}");
        }
        assert_eq!(PartName::of_key(&key.replace("/ab/", "/AB/")), None);
        assert_eq!(PartName::of_key(&key.replace("-0", "-+")), None);
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        proptest::collection::vec((bytes(), bytes()).prop_map(|(key, value)| Row { key, value }), 0..20)
    }

    proptest! {
        #[test]
        fn an_object_is_read_as_it_was_written(rows in rows(), is_last: bool, slot in 0..256u16, part: u32) {
            let name = name(slot, part);
            let mut builder = PartBuilder::new(&name, "cluster");
            rows.iter().for_each(|row| builder.row(row));
            let object = builder.finish(is_last);
            let expected = Part { name, cluster_id: "cluster".to_owned(), is_last, rows };
            prop_assert_eq!(Part::decode(&object), Ok(expected));
        }

        #[test]
        fn a_changed_or_shortened_object_is_refused(rows in rows(), at: prop::sample::Index, flip in 1..=255u8) {
            let mut builder = PartBuilder::new(&name(1, 0), "cluster");
            rows.iter().for_each(|row| builder.row(row));
            let object = builder.finish(true);
            let at = at.index(object.len());
            prop_assert!(Part::decode(&object.slice(..at)).is_err());
            let mut changed = object.to_vec();
            changed[at] ^= flip;
            prop_assert!(Part::decode(&changed.into()).is_err());
        }

        /// Behind a checksum that holds, too.
        #[test]
        fn garbage_never_panics(garbage: Vec<u8>) {
            let mut object = [&MAGIC[..], &[0, 1, 0, 1], &[7; 20], &garbage].concat();
            let checksum = crc32c::crc32c(&object);
            object.extend_from_slice(&checksum.to_be_bytes());
            let _ = Part::decode(&object.into());
            let _ = Part::decode(&garbage.into());
        }
    }
}
