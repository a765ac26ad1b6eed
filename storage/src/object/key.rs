//! Where an object lies in the bucket: `objects/<shard>/<id>`, the shard as two hexadecimal digits, the id as forty.
//!
//! Ids sort by creation, so each shard lists in the order of creation; shards spread the load over key prefixes.

use penstock_types::ObjectId;

/// In front of every object's key.
pub const OBJECTS_PREFIX: &str = "objects/";

/// The key of an object.
pub fn object_key(id: ObjectId) -> String {
    format!("{OBJECTS_PREFIX}{:02x}/{id}", id.shard())
}

/// In front of the keys of a shard (0 to 255).
pub fn shard_prefix(shard: u8) -> String {
    format!("{OBJECTS_PREFIX}{shard:02x}/")
}

/// The object whose key this is; `None` for any other key.
pub fn id_of_key(key: &str) -> Option<ObjectId> {
    let (_shard, id) = key.strip_prefix(OBJECTS_PREFIX)?.split_once('/')?;
    let id = id.parse().ok()?;
    (object_key(id) == key).then_some(id)
}
