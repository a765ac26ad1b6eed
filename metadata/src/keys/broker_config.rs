//! Dynamic configuration of the cluster and its brokers, family 0x05.
//!
//! ```text
//! 0x05 0x01               the cluster's default   format 1 | changed: incarnation (4), stamp (10) | count of options,
//! 0x05 0x02 node id (4)   one broker's            each: name (text), value (text)
//! ```
//!
//! Written by AlterConfigs and IncrementalAlterConfigs, with the metadata version and a change row (`topic.rs`);
//! read by every agent's catalog when the change log says so. One row for the default and one for each broker that
//! has options of its own; some hundred bytes.

use std::collections::BTreeMap;

use penstock_types::{Incarnation, Versionstamp};

use super::cluster::MetadataVersion;
use super::topic::{StampedValue, read_configs, write_configs};
use super::{Family, Keyspace};
use crate::codec::{Corrupt, Reader, Writer};
use crate::kv::{KeyRange, prefixed};

const FORMAT: u8 = 1;
const CLUSTER_DEFAULT: u8 = 1;
const BROKER: u8 = 2;

/// Whose dynamic configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BrokerScope {
    /// Every broker's, unless it has its own.
    ClusterDefault,
    /// One broker's: its node id, 0 or above.
    Broker(i32),
}

/// A set of options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfigRow {
    /// When the row was last written.
    pub changed: MetadataVersion,
    /// The options.
    pub configs: BTreeMap<String, String>,
}

/// The key of a scope's row.
pub fn row_key(keyspace: &Keyspace, scope: BrokerScope) -> Vec<u8> {
    let mut key = keyspace.family(Family::BrokerConfig);
    match scope {
        BrokerScope::ClusterDefault => key.push(CLUSTER_DEFAULT),
        BrokerScope::Broker(node) => {
            key.push(BROKER);
            key.extend_from_slice(&(node as u32 ^ (1 << 31)).to_be_bytes());
        }
    }
    key
}

/// Every scope's row.
pub fn rows(keyspace: &Keyspace) -> KeyRange {
    prefixed(&keyspace.family(Family::BrokerConfig))
}

/// The scope that a row's key names.
pub fn decode_row_key(keyspace: &Keyspace, key: &[u8]) -> Result<BrokerScope, Corrupt> {
    let behind = keyspace.strip(Family::BrokerConfig, key).unwrap_or_default();
    let mut reader = Reader::new("broker configuration key", behind);
    let scope = match reader.u8()? {
        CLUSTER_DEFAULT => BrokerScope::ClusterDefault,
        BROKER => BrokerScope::Broker((reader.u32()? ^ (1 << 31)) as i32),
        _ => return Err(reader.corrupt("of an unknown kind")),
    };
    reader.finish()?;
    Ok(scope)
}

/// A scope's row, to be written by a transaction of `incarnation`.
pub fn encode_row(incarnation: Incarnation, configs: &BTreeMap<String, String>) -> StampedValue {
    let mut writer = Writer::format(FORMAT);
    writer.u32(incarnation.get());
    let stamp_at = writer.len();
    writer.fixed(Versionstamp::ZERO.as_bytes());
    write_configs(&mut writer, configs);
    StampedValue { value: writer.finish(), stamp_at }
}

/// Reads a scope's row.
pub fn decode_row(value: &[u8]) -> Result<BrokerConfigRow, Corrupt> {
    let mut reader = Reader::with_format("broker configuration", value, FORMAT)?;
    let changed = MetadataVersion::read(&mut reader)?;
    let configs = read_configs(&mut reader)?;
    reader.finish()?;
    Ok(BrokerConfigRow { changed, configs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip_and_sort(a: i32, b: i32) {
            let keyspace = Keyspace::new(b"x");
            let key = |node| row_key(&keyspace, BrokerScope::Broker(node));
            prop_assert_eq!(decode_row_key(&keyspace, &key(a)).expect("key"), BrokerScope::Broker(a));
            prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
            prop_assert!(row_key(&keyspace, BrokerScope::ClusterDefault) < key(a));
        }

        #[test]
        fn rows_round_trip(configs in prop::collection::btree_map("[a-z.]{1,20}", ".{0,20}", 0..5)) {
            let stamped = encode_row(Incarnation::FIRST, &configs);
            let row = decode_row(&stamped.value).expect("row");
            prop_assert_eq!(row.configs, configs);
            prop_assert_eq!(row.changed.incarnation, Incarnation::FIRST);
        }

        #[test]
        fn garbage_never_panics(key: Vec<u8>, value: Vec<u8>) {
            let _ = decode_row_key(&Keyspace::new(b""), &key);
            let _ = decode_row(&value);
        }
    }
}
