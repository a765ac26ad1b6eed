//! A section: the batches of one partition, one behind the other.

use bytes::Bytes;

use super::footer::SectionPlacement;
use crate::batch::{BatchError, BatchHeader, CRC_START, Corruption, verify_crc};

/// The checksum of a section: CRC-32C over the first 21 bytes of each of its batches, in order.
///
/// Those bytes hold the batch's length and its own CRC, which covers all that follows: so the one checksum stands for
/// every byte of the section, and making it costs next to nothing, since the batches' CRCs were checked when they
/// came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SectionChecksum(u32);

impl SectionChecksum {
    /// Adds the next batch, of which at least the header must be there.
    pub fn add(&mut self, batch: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, &batch[..CRC_START]);
    }

    /// The checksum of the batches so far.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Why a section isn't what its footer says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// One of its batches can't be read, or is damaged.
    #[error("the batch at byte {position} of the section: {error}")]
    Batch {
        /// From the section's start.
        position: usize,
        /// What is wrong.
        error: BatchError,
    },
    /// The batches are sound, but not those that the footer speaks of.
    #[error("the section has another {what} than the footer says")]
    Mismatch {
        /// What differs.
        what: &'static str,
    },
}

/// Checks every byte of a section against its place in the footer, at the cost of one CRC over it.
pub fn verify_section(section: &Bytes, placement: &SectionPlacement) -> Result<(), SectionError> {
    let mut checksum = SectionChecksum::default();
    let (mut batch_count, mut record_count) = (0u32, 0u64);
    let (mut min_timestamp, mut max_timestamp) = (i64::MAX, i64::MIN);
    let mut position = 0;
    for batch in batches(section) {
        let (header, batch) = batch?;
        verify_crc(&batch, &header).map_err(|error| SectionError::Batch { position, error })?;
        position += batch.len();
        checksum.add(&batch);
        batch_count += 1;
        record_count += u64::try_from(header.record_count).unwrap_or(0);
        min_timestamp = min_timestamp.min(header.base_timestamp);
        max_timestamp = max_timestamp.max(header.max_timestamp);
    }
    let differs = [
        (section.len() as u64 != placement.length, "length"),
        (batch_count != placement.batch_count, "batch count"),
        (record_count != placement.record_count, "record count"),
        ((min_timestamp, max_timestamp) != (placement.min_timestamp, placement.max_timestamp), "time range"),
        (checksum.get() != placement.checksum, "checksum"),
    ];
    match differs.into_iter().find(|(differs, _)| *differs) {
        Some((_, what)) => Err(SectionError::Mismatch { what }),
        None => Ok(()),
    }
}

/// The batches of a section, without a look at their CRCs.
pub fn batches(section: &Bytes) -> Batches {
    Batches { rest: section.clone(), position: 0 }
}

/// An iterator over a section's batches; ends behind the first error.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
    position: usize,
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), SectionError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let header = BatchHeader::parse(&self.rest).and_then(|header| {
            if header.size_bytes() <= self.rest.len() {
                Ok(header)
            } else {
                Err(Corruption::Length { length: header.batch_length }.into())
            }
        });
        match header {
            Ok(header) => {
                let batch = self.rest.split_to(header.size_bytes());
                self.position += batch.len();
                Some(Ok((header, batch)))
            }
            Err(error) => {
                self.rest.clear();
                Some(Err(SectionError::Batch { position: self.position, error }))
            }
        }
    }
}
