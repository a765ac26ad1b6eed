//! From a batch's header to what the log tells of the batch: one for who appends it and for who holds it against the log. And back.

use penstock_metadata::fold::BatchEntry;
use penstock_metadata::keys::log::{BatchFacts, BatchProducer, flags};
use penstock_storage::batch::{BatchHeader, TimestampType};
use penstock_storage::object::KnownBatch;

/// What the log tells of a batch with this header and so many bytes.
pub fn facts_of(header: &BatchHeader, length: usize) -> BatchFacts {
    let mut bits = 0;
    if header.attributes.is_transactional() {
        bits |= flags::TRANSACTIONAL;
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        bits |= flags::LOG_APPEND_TIME;
    }
    if header.attributes.codec_id() != 0 {
        bits |= flags::COMPRESSED;
    }
    let producer = header.has_producer_id().then_some(BatchProducer {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    });
    BatchFacts {
        length: length as u32,
        records: header.last_offset_delta.wrapping_add(1) as u32,
        flags: bits,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        producer,
    }
}

/// What an object is told of a batch that the log has.
pub(crate) fn known(batch: &BatchEntry) -> KnownBatch {
    KnownBatch {
        base_offset: batch.base_offset,
        leader_epoch: batch.leader_epoch,
        length: batch.facts.length,
        records: batch.facts.records,
        base_timestamp: batch.facts.base_timestamp,
        max_timestamp: batch.facts.max_timestamp,
        producer: batch.facts.producer.map(|producer| (producer.id, producer.epoch, producer.base_sequence)),
    }
}
