//! A group with its members and offsets.

use std::collections::BTreeMap;

use super::facts::{Facts, Inspected};
use super::row::member_facts;
use super::walk::Walk;
use super::{InspectError, Inspector, Sink, describe};
use crate::codec::Corrupt;
use crate::keys::group::{CHUNK_BYTES, StoredMember, decode_member_key, group_key, group_members};
use crate::keys::group_offset::group_offsets;
use crate::kv::Row;

impl Inspector {
    /// A group's row, its members and its offsets. Offsets without a row are told too: they are what is left of a
    /// group.
    pub async fn group(&self, name: &str, sink: &mut dyn Sink) -> Result<(), InspectError> {
        let row = self.get(&group_key(&self.keyspace, name)).await?;
        let offsets = group_offsets(&self.keyspace, name);
        match &row {
            Some(row) => sink.put(describe(&self.keyspace, row))?,
            None if self.page(offsets.clone(), 1).await?.rows.is_empty() => {
                return Err(InspectError::NotFound { what: "group", name: name.to_owned() });
            }
            None => {}
        }
        self.members(name, sink).await?;
        self.describe_all(offsets, sink).await
    }

    /// Members, each put together from its chunks.
    async fn members(&self, group: &str, sink: &mut dyn Sink) -> Result<(), InspectError> {
        let mut walk = Walk::over(group_members(&self.keyspace, group));
        let mut chunks: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        while let Some(rows) = walk.next(self).await? {
            sink.read(rows.len());
            for row in rows {
                match decode_member_key(&self.keyspace, group, &row.key) {
                    Ok((member, chunk)) => {
                        // A member's chunks follow one another: the ones before it are whole.
                        if chunk == 0 {
                            tell(group, &mut chunks, sink)?;
                        }
                        chunks.entry(member).or_default().push(row);
                    }
                    Err(corrupt) => sink.put(Inspected::corrupt(&row, &corrupt))?,
                }
            }
        }
        tell(group, &mut chunks, sink)
    }
}

/// Tells the members whose chunks were gathered.
fn tell(
    group: &str,
    chunks: &mut BTreeMap<String, Vec<Row>>,
    sink: &mut dyn Sink,
) -> Result<(), InspectError> {
    for (member, rows) in std::mem::take(chunks) {
        let whole = rows.iter().rev().skip(1).all(|row| row.value.len() == CHUNK_BYTES);
        let blob: Vec<u8> = rows.iter().flat_map(|row| row.value.iter().copied()).collect();
        let decoded = if whole {
            StoredMember::decode(&blob)
        } else {
            Err(Corrupt { family: "group member", reason: "a chunk is missing" })
        };
        match (decoded, rows.first()) {
            (Ok(decoded), _) => {
                let facts =
                    Facts::default().text("group", group).text("member", &member).count("chunks", rows.len());
                sink.put(Inspected::row("group member", member_facts(facts, &decoded)))?;
            }
            (Err(corrupt), Some(first)) => sink.put(Inspected::corrupt(first, &corrupt))?,
            (Err(_), None) => {}
        }
    }
    Ok(())
}
