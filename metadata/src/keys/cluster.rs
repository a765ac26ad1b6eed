//! The cluster's singletons, family 0x01.
//!
//! ```text
//! 0x01 0x01  identity:          format 1 | cluster id (text) | incarnation (4) | schema version (4) | created (zigzag ms)
//!                               | oldest writer (4): left out where it is the schema version
//! 0x01 0x02  metadata version:  format 1 | incarnation (4) | stamp (10)
//! 0x01 0x03  cutoff:            format 1 | incarnation (4) | store version (8)
//! 0x01 0x04  reckoned time:     format 1 | now (zigzag ms) | incarnation (4) | store version (8)
//! 0x01 0x05  begin:             format 1 | incarnation (4) | store version (8)
//! ```
//!
//! | row | written by | read by | size |
//! |-----|-----------|---------|------|
//! | identity | the cluster's first start; operators' commands | every start | 50 B |
//! | metadata version | every change of a topic or of dynamic configuration, blindly | every commit at snapshot; every refresh of a topic catalog | 15 B |
//! | cutoff | the sweeper of the bucket | every commit, serializably | 13 B |
//! | reckoned time | whatever expires by the wall clock | the same | 20 B |
//! | begin | whoever raises the incarnation | what waits since an earlier one: versions of two can't be compared | 13 B |
//!
//! The metadata version says only "something changed": it is written without being read, so changes of different
//! topics don't conflict. Absent: nothing was ever changed. An absent cutoff refuses nothing.

use penstock_types::{Incarnation, ObjectId, StoreVersion, TimestampMs, Versionstamp};

use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{Transaction, WriteConflict};

const FORMAT: u8 = 1;
const IDENTITY_NAME: &str = "cluster identity";
const IDENTITY: u8 = 1;
const METADATA_VERSION: u8 = 2;
const CUTOFF: u8 = 3;
const TIME: u8 = 4;
const BEGIN: u8 = 5;

/// Who a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// 22 characters of URL-safe base64 of a UUID, as Kafka's.
    pub cluster_id: String,
    /// The metadata's incarnation.
    pub incarnation: Incarnation,
    /// The version of the schema that the rows are written in.
    pub schema_version: u32,
    /// The oldest schema whose programs may still read and write these rows: at most `schema_version`.
    pub oldest_writer: u32,
    /// When the cluster was made.
    pub created_ms: TimestampMs,
}

/// The state of topics and dynamic configuration: two reads that give the same version saw the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataVersion {
    /// The cluster's incarnation at the change.
    pub incarnation: Incarnation,
    /// The stamp of the change.
    pub stamp: Versionstamp,
}

impl MetadataVersion {
    /// Before every change.
    pub const ZERO: Self = Self { incarnation: Incarnation::new(0), stamp: Versionstamp::ZERO };
    /// Bytes of the sortable form: 4 + 10.
    pub const LENGTH: usize = 14;

    /// The sortable form.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.incarnation.get().to_be_bytes());
        bytes[4..].copy_from_slice(self.stamp.as_bytes());
        bytes
    }

    /// Reads the sortable form.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Corrupt> {
        Ok(Self {
            incarnation: Incarnation::new(reader.u32()?),
            stamp: Versionstamp::from_bytes(reader.array()?),
        })
    }
}

/// What the sweeper may already have deleted: objects with ids below it can't be committed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cutoff {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// The version within it.
    pub version: StoreVersion,
}

impl Cutoff {
    /// Refuses nothing.
    pub const ZERO: Self = Self { incarnation: Incarnation::new(0), version: StoreVersion::ZERO };

    /// Whether `object` is below.
    pub fn refuses(&self, object: &ObjectId) -> bool {
        if penstock_types::planted!("cutoff-without-incarnation") {
            return object.version() < self.version;
        }
        (object.incarnation(), object.version()) < (self.incarnation, self.version)
    }
}

fn key(keyspace: &Keyspace, which: u8) -> Vec<u8> {
    let mut key = keyspace.family(Family::Cluster);
    key.push(which);
    key
}

/// The identity's key.
pub fn identity_key(keyspace: &Keyspace) -> Vec<u8> {
    key(keyspace, IDENTITY)
}

/// The identity's value.
pub fn encode_identity(identity: &ClusterIdentity) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer
        .string(&identity.cluster_id)
        .u32(identity.incarnation.get())
        .u32(identity.schema_version)
        .zigzag(identity.created_ms);
    if identity.oldest_writer != identity.schema_version {
        writer.u32(identity.oldest_writer);
    }
    writer.finish()
}

/// Reads an identity. Fields that a later schema added behind are not looked at: the schema version says so.
pub fn decode_identity(value: &[u8]) -> Result<ClusterIdentity, Corrupt> {
    let mut reader = Reader::with_format(IDENTITY_NAME, value, FORMAT)?;
    let cluster_id = reader.string()?.to_owned();
    let incarnation = Incarnation::new(reader.u32()?);
    let schema_version = reader.u32()?;
    let created_ms = reader.zigzag()?;
    let oldest_writer = if reader.remaining() == 0 { schema_version } else { reader.u32()? };
    if oldest_writer > schema_version {
        return Err(reader.corrupt("the oldest writer is newer than the schema"));
    }
    Ok(ClusterIdentity { cluster_id, incarnation, schema_version, oldest_writer, created_ms })
}

/// An identity's value with another incarnation: everything else stays, byte for byte, also what a later schema added.
pub fn with_incarnation(value: &[u8], incarnation: Incarnation) -> Result<Vec<u8>, Corrupt> {
    let mut reader = Reader::with_format(IDENTITY_NAME, value, FORMAT)?;
    reader.string()?;
    let at = value.len() - reader.remaining();
    reader.u32()?;
    let mut value = value.to_vec();
    value[at..at + 4].copy_from_slice(&incarnation.get().to_be_bytes());
    Ok(value)
}

/// The metadata version's key.
pub fn metadata_version_key(keyspace: &Keyspace) -> Vec<u8> {
    key(keyspace, METADATA_VERSION)
}

/// Reads a metadata version; absent means [`MetadataVersion::ZERO`].
pub fn decode_metadata_version(value: Option<&[u8]>) -> Result<MetadataVersion, Corrupt> {
    let Some(value) = value else {
        return Ok(MetadataVersion::ZERO);
    };
    let mut reader = Reader::with_format("metadata version", value, FORMAT)?;
    let version = MetadataVersion::read(&mut reader)?;
    reader.finish()?;
    Ok(version)
}

/// Sets the metadata version to this transaction's stamp, disturbing nobody (only snapshot reads look at it).
pub fn bump_metadata_version(
    transaction: &mut dyn Transaction,
    keyspace: &Keyspace,
    incarnation: Incarnation,
) {
    let mut writer = Writer::format(FORMAT);
    writer.u32(incarnation.get());
    let stamp_at = writer.len();
    writer.fixed(Versionstamp::ZERO.as_bytes());
    let key = metadata_version_key(keyspace);
    transaction.set_stamped_value(&key, &writer.finish(), stamp_at, WriteConflict::No);
}

/// The cutoff's key.
pub fn cutoff_key(keyspace: &Keyspace) -> Vec<u8> {
    key(keyspace, CUTOFF)
}

/// The cutoff's value.
pub fn encode_cutoff(cutoff: Cutoff) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.u32(cutoff.incarnation.get()).u64(cutoff.version.get());
    writer.finish()
}

/// Reads a cutoff; absent means [`Cutoff::ZERO`].
pub fn decode_cutoff(value: Option<&[u8]>) -> Result<Cutoff, Corrupt> {
    let Some(value) = value else {
        return Ok(Cutoff::ZERO);
    };
    let mut reader = Reader::with_format("cutoff", value, FORMAT)?;
    let cutoff =
        Cutoff { incarnation: Incarnation::new(reader.u32()?), version: StoreVersion::new(reader.u64()?) };
    reader.finish()?;
    Ok(cutoff)
}

/// What time it was, by the clocks that were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReckonedTime {
    /// The latest that was ever reckoned, in milliseconds since the epoch.
    pub now_ms: TimestampMs,
    /// The incarnation in which it was reckoned last.
    pub incarnation: Incarnation,
    /// At which version.
    pub version: StoreVersion,
}

/// The reckoned time's key.
pub fn time_key(keyspace: &Keyspace) -> Vec<u8> {
    key(keyspace, TIME)
}

/// The reckoned time's value.
pub fn encode_time(time: ReckonedTime) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.zigzag(time.now_ms).u32(time.incarnation.get()).u64(time.version.get());
    writer.finish()
}

/// Reads a reckoned time; absent means that it was never reckoned.
pub fn decode_time(value: Option<&[u8]>) -> Result<Option<ReckonedTime>, Corrupt> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::with_format("reckoned time", value, FORMAT)?;
    let now_ms = reader.zigzag()?;
    let (incarnation, version) = (Incarnation::new(reader.u32()?), StoreVersion::new(reader.u64()?));
    reader.finish()?;
    Ok(Some(ReckonedTime { now_ms, incarnation, version }))
}

/// The key of the version at which the incarnation began.
pub fn begin_key(keyspace: &Keyspace) -> Vec<u8> {
    key(keyspace, BEGIN)
}

/// That an incarnation began at a version.
pub fn encode_begin(incarnation: Incarnation, version: StoreVersion) -> Vec<u8> {
    let mut writer = Writer::format(FORMAT);
    writer.u32(incarnation.get()).u64(version.get());
    writer.finish()
}

/// Reads at which version `incarnation` began: at the store's first where none says, which is the first incarnation.
pub fn decode_begin(value: Option<&[u8]>, incarnation: Incarnation) -> Result<StoreVersion, Corrupt> {
    let Some(value) = value else { return Ok(StoreVersion::ZERO) };
    let (of, version) = read_begin(value)?;
    Ok(if of == incarnation { version } else { StoreVersion::ZERO })
}

/// Reads which incarnation began at which version.
pub fn read_begin(value: &[u8]) -> Result<(Incarnation, StoreVersion), Corrupt> {
    let mut reader = Reader::with_format("begin", value, FORMAT)?;
    let read = (Incarnation::new(reader.u32()?), StoreVersion::new(reader.u64()?));
    reader.finish()?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn stored_bytes_are_pinned() {
        let keyspace = Keyspace::new(b"p");
        let identity = ClusterIdentity {
            cluster_id: "MkU3OEVBNTcwNTJENDM2Qk".to_owned(),
            incarnation: Incarnation::FIRST,
            schema_version: 1,
            oldest_writer: 1,
            created_ms: 1_000,
        };
        assert_eq!(identity_key(&keyspace), b"p\x01\x01");
        assert_eq!(
            hex(&encode_identity(&identity)),
            format!("0116{}0000000100000001d00f", hex(b"MkU3OEVBNTcwNTJENDM2Qk"))
        );
        assert_eq!(decode_identity(&encode_identity(&identity)).expect("identity"), identity);
        let later = ClusterIdentity { schema_version: 3, oldest_writer: 2, ..identity };
        assert!(hex(&encode_identity(&later)).ends_with("0000000100000003d00f00000002"));
        // What a later schema has added stays, whoever raises the incarnation.
        let added = [&encode_identity(&later)[..], b"more"].concat();
        assert_eq!(decode_identity(&added).expect("identity"), later);
        let raised = with_incarnation(&added, Incarnation::new(7)).expect("identity");
        let expected = ClusterIdentity { incarnation: Incarnation::new(7), ..later };
        assert_eq!(decode_identity(&raised).expect("identity"), expected);
        assert!(raised.ends_with(b"more") && raised.len() == added.len());
        let cutoff = Cutoff { incarnation: Incarnation::new(2), version: StoreVersion::new(9) };
        assert_eq!(hex(&encode_cutoff(cutoff)), "01000000020000000000000009");
        assert_eq!(decode_cutoff(Some(&encode_cutoff(cutoff))).expect("cutoff"), cutoff);
        let begin = encode_begin(cutoff.incarnation, cutoff.version);
        assert_eq!(decode_begin(Some(&begin), cutoff.incarnation).expect("a begin"), cutoff.version);
        assert_eq!(decode_begin(None, Incarnation::FIRST).expect("a begin"), StoreVersion::ZERO);
    }

    #[test]
    fn a_cutoff_refuses_what_is_older() {
        let cutoff = Cutoff { incarnation: Incarnation::new(2), version: StoreVersion::new(9) };
        let id = |incarnation, version| {
            ObjectId::new(Incarnation::new(incarnation), StoreVersion::new(version), u64::MAX)
        };
        assert!(cutoff.refuses(&id(2, 8)));
        assert!(cutoff.refuses(&id(1, 100)));
        assert!(!cutoff.refuses(&id(2, 9)));
        assert!(!cutoff.refuses(&id(3, 1)));
        assert!(!Cutoff::ZERO.refuses(&id(0, 0)));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = decode_identity(&bytes);
            let _ = with_incarnation(&bytes, Incarnation::FIRST);
            let _ = decode_metadata_version(Some(&bytes));
            let _ = decode_cutoff(Some(&bytes));
            let _ = decode_time(Some(&bytes));
            let _ = decode_begin(Some(&bytes), Incarnation::FIRST);
        }

        #[test]
        fn metadata_versions_sort_as_their_bytes(a: (u32, u64, u16), b: (u32, u64, u16)) {
            let version = |(incarnation, version, order)| MetadataVersion {
                incarnation: Incarnation::new(incarnation),
                stamp: Versionstamp::new(StoreVersion::new(version), order),
            };
            prop_assert_eq!(version(a).cmp(&version(b)), version(a).to_bytes().cmp(&version(b).to_bytes()));
        }
    }
}
