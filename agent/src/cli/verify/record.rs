//! What a record of a run says of itself.
//!
//! ```text
//! value  "PVR1" 4 | run 8 | producer 4 | partition 4 | sequence 8 | bytes that follow from these | crc32c of all before 4
//! ```

/// Bytes before the filling.
const HEAD: usize = 28;
/// Bytes behind it.
const TAIL: usize = 4;
const MAGIC: &[u8; 4] = b"PVR1";

/// Which record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Identity {
    /// Whose.
    pub(super) producer: u32,
    /// Its place among that producer's records of the partition.
    pub(super) sequence: u64,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A record of the run, as it was written.
    Sound(Identity),
    /// Of another run or partition, or by somebody else.
    Foreign,
    /// Some bytes are not those that were written.
    Damaged,
}

/// Writes a record's value, of `value.len()` bytes, at least 64.
pub(super) fn write(value: &mut [u8], run: u64, partition: i32, identity: Identity) {
    value[..4].copy_from_slice(MAGIC);
    value[4..12].copy_from_slice(&run.to_be_bytes());
    value[12..16].copy_from_slice(&identity.producer.to_be_bytes());
    value[16..20].copy_from_slice(&partition.to_be_bytes());
    value[20..HEAD].copy_from_slice(&identity.sequence.to_be_bytes());
    let end = value.len() - TAIL;
    let mut state = run ^ (u64::from(identity.producer) << 40) ^ identity.sequence;
    for bytes in value[HEAD..end].chunks_mut(8) {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes()[..bytes.len()]);
    }
    let sum = crc32c::crc32c(&value[..end]);
    value[end..].copy_from_slice(&sum.to_be_bytes());
}

/// Reads a value of a partition.
pub(super) fn read(value: Option<&[u8]>, run: u64, partition: i32) -> Content {
    let Some(value) = value.filter(|value| value.len() >= HEAD + TAIL && value.starts_with(MAGIC)) else {
        return Content::Foreign;
    };
    let (content, sum) = value.split_at(value.len() - TAIL);
    if crc32c::crc32c(content).to_be_bytes() != sum {
        return Content::Damaged;
    }
    if content[4..12] != run.to_be_bytes() || content[16..20] != partition.to_be_bytes() {
        return Content::Foreign;
    }
    let producer = u32::from_be_bytes([content[12], content[13], content[14], content[15]]);
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&content[20..HEAD]);
    Content::Sound(Identity { producer, sequence: u64::from_be_bytes(sequence) })
}
