//! The footer: which partition's batches lie where. See docs/data-object.md for the diagrams.

use penstock_types::{ObjectId, PartitionIndex, TimestampMs, TopicId, TopicPartition};

use crate::batch::HEADER_BYTES;

/// The version that is written.
pub const VERSION: u16 = 1;
/// Bytes of the trailer, with which every object ends.
pub const TRAILER_BYTES: usize = 20;
/// How much of an object's end to read first: holds the footer of some two thousand sections.
pub const READ_TAIL_BYTES: u64 = 64 * 1024;
/// The longest footer: two million sections.
pub const MAX_FOOTER_BYTES: u32 = 64 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"PENSTOCK";
/// The batches carry their offsets and leader epochs. Bit 0 is reserved, see docs/data-object.md.
const HAS_OFFSETS: u16 = 0x0002;
/// Object id, body length, topic count.
const LEAST_FOOTER_BYTES: usize = ObjectId::LENGTH + 8 + 1;
const TOPIC_ID_BYTES: usize = 16;
/// Five numbers of at least one byte, the difference of timestamps and the checksum.
const LEAST_SECTION_BYTES: usize = 6 + 4;

/// Where the batches of one partition lie within an object, and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionPlacement {
    /// Whose batches.
    pub partition: TopicPartition,
    /// The first byte, from the object's start.
    pub position: u64,
    /// Bytes.
    pub length: u64,
    /// How many batches.
    pub batch_count: u32,
    /// How many records they hold.
    pub record_count: u64,
    /// The smallest base timestamp of the batches.
    pub min_timestamp: TimestampMs,
    /// The largest max timestamp of the batches.
    pub max_timestamp: TimestampMs,
    /// CRC-32C over the first 21 bytes of each batch (see [`SectionChecksum`](super::SectionChecksum)).
    pub checksum: u32,
}

impl SectionPlacement {
    /// The byte behind the last one.
    pub fn end(&self) -> u64 {
        self.position + self.length
    }
}

/// What an object says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// The object's own id: one that lies under another key was copied or renamed.
    pub id: ObjectId,
    /// Its sections, ascending by partition, from position 0 without gaps.
    pub sections: Vec<SectionPlacement>,
    /// Whether the batches carry their offsets and leader epochs: those that merges write do.
    pub has_offsets: bool,
}

/// Why there is no footer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    /// The end that was read doesn't hold all of the footer: read this much of the object's end.
    #[error("the footer takes the last {tail_bytes} bytes of the object")]
    Incomplete {
        /// Bytes of footer and trailer.
        tail_bytes: u64,
    },
    /// It doesn't end as an object does.
    #[error("not a data object")]
    NotAnObject,
    /// Written by a later version of Penstock.
    #[error("data object of version {version} with flags {flags:#06x}")]
    Unsupported {
        /// The version.
        version: u16,
        /// The flags.
        flags: u16,
    },
    /// The footer is damaged.
    #[error("the footer's checksum is {stored:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// What the trailer says.
        stored: u32,
        /// What it should say.
        computed: u32,
    },
    /// The checksum is right but what it covers is no footer, or none of an object of this length.
    #[error("malformed footer: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
}

impl Footer {
    /// Reads the footer from `tail`, the last bytes of an object of `object_length` bytes.
    pub fn parse(tail: &[u8], object_length: u64) -> Result<Self, FooterError> {
        if tail.len() as u64 > object_length {
            return Err(malformed("more bytes than the object has"));
        }
        let Some((before, trailer)) = tail.split_last_chunk::<TRAILER_BYTES>() else {
            return match object_length {
                length if length < TRAILER_BYTES as u64 => Err(FooterError::NotAnObject),
                _ => Err(FooterError::Incomplete { tail_bytes: TRAILER_BYTES as u64 }),
            };
        };
        if trailer[12..] != MAGIC {
            return Err(FooterError::NotAnObject);
        }
        let [c0, c1, c2, c3, v0, v1, f0, f1, l0, l1, l2, l3, ..] = *trailer;
        let (version, flags) = (u16::from_be_bytes([v0, v1]), u16::from_be_bytes([f0, f1]));
        if version != VERSION || flags & !HAS_OFFSETS != 0 {
            return Err(FooterError::Unsupported { version, flags });
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let tail_bytes = u64::from(length) + TRAILER_BYTES as u64;
        if length > MAX_FOOTER_BYTES || tail_bytes > object_length {
            return Err(malformed("its length is out of range"));
        }
        let Some(start) = before.len().checked_sub(length as usize) else {
            return Err(FooterError::Incomplete { tail_bytes });
        };
        let stored = u32::from_be_bytes([c0, c1, c2, c3]);
        let computed = crc32c::crc32c_append(crc32c::crc32c(&before[start..]), &trailer[4..12]);
        if stored != computed {
            return Err(FooterError::Checksum { stored, computed });
        }
        let footer = parse_sections(&before[start..], object_length - tail_bytes)?;
        Ok(Self { has_offsets: flags & HAS_OFFSETS != 0, ..footer })
    }

    /// Bytes of all sections together.
    pub fn body_length(&self) -> u64 {
        self.sections.last().map_or(0, SectionPlacement::end)
    }

    /// The section of a partition.
    pub fn section(&self, partition: TopicPartition) -> Option<&SectionPlacement> {
        let place = self.sections.binary_search_by_key(&partition, |section| section.partition).ok()?;
        self.sections.get(place)
    }

    /// Footer and trailer, as they stand behind the sections.
    ///
    /// # Panics
    /// If the sections don't ascend from position 0 without gaps, or are more than a footer can hold: only the
    /// builder makes them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.sections.len() * 28);
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.body_length().to_be_bytes());
        let topics: Vec<_> = self.sections.chunk_by(|a, b| a.partition.topic == b.partition.topic).collect();
        put_number(&mut bytes, topics.len() as u64);
        let mut position = 0;
        for sections in topics {
            bytes.extend_from_slice(sections[0].partition.topic.as_bytes());
            put_number(&mut bytes, sections.len() as u64);
            for section in sections {
                assert_eq!(section.position, position, "sections lie one behind the other");
                position = section.end();
                put_section(&mut bytes, section);
            }
        }
        assert!(
            self.sections.is_sorted_by(|a, b| a.partition < b.partition),
            "a partition has one section, and sections ascend"
        );
        assert!(bytes.len() <= MAX_FOOTER_BYTES as usize, "a footer of {} bytes", bytes.len());
        let mut trailer = [0; 8];
        trailer[..2].copy_from_slice(&VERSION.to_be_bytes());
        let flags = if self.has_offsets { HAS_OFFSETS } else { 0 };
        trailer[2..4].copy_from_slice(&flags.to_be_bytes());
        trailer[4..].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &trailer);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        bytes.extend_from_slice(&trailer);
        bytes.extend_from_slice(&MAGIC);
        bytes
    }
}

fn put_section(bytes: &mut Vec<u8>, section: &SectionPlacement) {
    put_number(bytes, u64::from(section.partition.partition.get().cast_unsigned()));
    put_number(bytes, section.length);
    put_number(bytes, u64::from(section.batch_count));
    put_number(bytes, section.record_count);
    put_number(bytes, zigzag(section.min_timestamp));
    put_number(bytes, zigzag(section.max_timestamp.wrapping_sub(section.min_timestamp)));
    bytes.extend_from_slice(&section.checksum.to_be_bytes());
}

fn parse_sections(payload: &[u8], body_length: u64) -> Result<Footer, FooterError> {
    if payload.len() < LEAST_FOOTER_BYTES {
        return Err(malformed("it ends early"));
    }
    let mut reader = Reader(payload);
    let id = ObjectId::from_bytes(reader.array()?);
    if u64::from_be_bytes(reader.array()?) != body_length {
        return Err(malformed("it is of a body of another length"));
    }
    let topic_count = reader.count(TOPIC_ID_BYTES + 1 + LEAST_SECTION_BYTES)?;
    let mut sections = Vec::new();
    let mut position = 0u64;
    let mut last_topic = None;
    for _ in 0..topic_count {
        let topic = TopicId::from_bytes(reader.array()?);
        if last_topic.replace(topic).is_some_and(|last| last >= topic) {
            return Err(malformed("its topics don't ascend"));
        }
        let section_count = reader.count(LEAST_SECTION_BYTES)?;
        if section_count == 0 {
            return Err(malformed("a topic without sections"));
        }
        sections.reserve(section_count);
        let first = sections.len();
        for _ in 0..section_count {
            let section = reader.section(topic, position)?;
            position = section.end();
            if sections[first..]
                .last()
                .is_some_and(|last: &SectionPlacement| last.partition >= section.partition)
            {
                return Err(malformed("its partitions don't ascend"));
            }
            if position > body_length {
                return Err(malformed("its sections are longer than the body"));
            }
            sections.push(section);
        }
    }
    if position != body_length {
        return Err(malformed("its sections are shorter than the body"));
    }
    if !reader.0.is_empty() {
        return Err(malformed("bytes behind the last section"));
    }
    Ok(Footer { id, sections, has_offsets: false })
}

fn malformed(reason: &'static str) -> FooterError {
    FooterError::Malformed { reason }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FooterError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(malformed("it ends early"))?;
        self.0 = rest;
        Ok(*array)
    }

    /// LEB128 of at most 64 bits, in its shortest form.
    fn number(&mut self) -> Result<u64, FooterError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7F);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a number is out of range"))
    }

    /// A count of things that take at least `least_bytes` each: never more than could be there.
    fn count(&mut self, least_bytes: usize) -> Result<usize, FooterError> {
        let count = self.number()?;
        if count > (self.0.len() / least_bytes) as u64 {
            return Err(malformed("a count is out of range"));
        }
        Ok(count as usize)
    }

    fn section(&mut self, topic: TopicId, position: u64) -> Result<SectionPlacement, FooterError> {
        let partition =
            i32::try_from(self.number()?).map_err(|_| malformed("a partition is out of range"))?;
        let length = self.number()?;
        let batch_count = u32::try_from(self.number()?).map_err(|_| malformed("a count is out of range"))?;
        let record_count = self.number()?;
        let min_timestamp = unzigzag(self.number()?);
        let max_timestamp = min_timestamp.wrapping_add(unzigzag(self.number()?));
        let checksum = u32::from_be_bytes(self.array()?);
        if batch_count == 0 || length / u64::from(batch_count) < HEADER_BYTES as u64 {
            return Err(malformed("a section is too short for its batches"));
        }
        if position.checked_add(length).is_none() {
            return Err(malformed("a section is too long"));
        }
        let partition = TopicPartition { topic, partition: PartitionIndex::new(partition) };
        Ok(SectionPlacement {
            partition,
            position,
            length,
            batch_count,
            record_count,
            min_timestamp,
            max_timestamp,
            checksum,
        })
    }
}

fn put_number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}
