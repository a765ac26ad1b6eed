//! The control batch that ends a transaction in a partition: one record, made up on read, since nothing of it is
//! stored (KIP-98).

use bytes::{BufMut, Bytes, BytesMut};
use penstock_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

/// Bytes of the batch: a header of 61 and a record of 17.
pub const CONTROL_BATCH_BYTES: usize = 78;

/// What a transaction marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Aborted, else committed.
    pub abort: bool,
    /// The transaction coordinator's epoch.
    pub coordinator_epoch: i32,
    /// When it ended.
    pub timestamp: TimestampMs,
}

/// The batch of a marker at `offset`.
pub fn control_batch(marker: &Marker, offset: Offset, leader_epoch: LeaderEpoch) -> Bytes {
    // transactional (0x10) and control (0x20)
    const ATTRIBUTES: i16 = 0x30;
    let mut covered = BytesMut::with_capacity(CONTROL_BATCH_BYTES - 21);
    covered.put_i16(ATTRIBUTES);
    covered.put_i32(0);
    covered.put_i64(marker.timestamp);
    covered.put_i64(marker.timestamp);
    covered.put_i64(marker.producer.get());
    covered.put_i16(marker.epoch.get());
    covered.put_i32(-1);
    covered.put_i32(1);
    // The record: length 16, attributes, deltas, key of 4, value of 6, no headers (zigzag varints of one byte).
    covered.put_slice(&[32, 0, 0, 0, 8]);
    covered.put_i16(0);
    covered.put_i16(if marker.abort { 0 } else { 1 });
    covered.put_u8(12);
    covered.put_i16(0);
    covered.put_i32(marker.coordinator_epoch);
    covered.put_u8(0);
    let mut batch = BytesMut::with_capacity(CONTROL_BATCH_BYTES);
    batch.put_i64(offset.get());
    batch.put_i32(CONTROL_BATCH_BYTES as i32 - 12);
    batch.put_i32(leader_epoch.get());
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&covered));
    batch.put_slice(&covered);
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_a_control_batch_of_one_record() {
        let marker = Marker {
            producer: ProducerId::new(7),
            epoch: ProducerEpoch::new(3),
            abort: true,
            coordinator_epoch: 5,
            timestamp: 1_000,
        };
        let batch = control_batch(&marker, Offset::at(42), LeaderEpoch::FIRST);
        assert_eq!(batch.len(), CONTROL_BATCH_BYTES);
        let header = crate::batch::BatchHeader::parse(&batch).expect("header");
        assert_eq!((header.base_offset, header.size_bytes()), (42, CONTROL_BATCH_BYTES));
        crate::batch::verify_crc(&batch, &header).expect("checksum");
        assert_eq!((header.record_count, header.producer_id), (1, ProducerId::new(7)));
    }
}
