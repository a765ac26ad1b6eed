//! The framing of fetch answers: fields by hand, record batches as slices, so that nothing is copied
//! (<https://kafka.apache.org/protocol#The_Messages_Fetch>).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use penstock_types::NodeId;
use tokio::sync::OwnedSemaphorePermit;

use super::context::RequestContext;
use crate::fetch::session::{PartitionKey, TopicKey};
use crate::fetch::{FetchedPartition, IsolationLevel};
use crate::wire::{EncodeError, Frame};

/// From this version on lengths are varints and tags follow each struct.
const FLEXIBLE: i16 = 12;
/// From this version on topics are named by id.
const TOPIC_IDS: i16 = 13;

/// A partition of the answer.
pub(super) struct AnsweredPartition<'a> {
    pub(super) key: &'a PartitionKey,
    pub(super) answer: &'a Result<FetchedPartition, ResponseError>,
}

/// Bytes that hold their part of the memory budget until they are sent.
struct Held {
    bytes: Bytes,
    _memory: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

struct Body {
    version: i16,
    buffer: BytesMut,
    chunks: Vec<Bytes>,
}

impl Body {
    fn new(version: i16) -> Self {
        Self { version, buffer: BytesMut::with_capacity(256), chunks: Vec::new() }
    }

    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8((value as u8) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// The length of an array or of bytes.
    fn length(&mut self, length: usize) {
        let length = length as u32;
        if self.flexible() { self.varint(length + 1) } else { self.buffer.put_i32(length as i32) }
    }

    fn null(&mut self) {
        if self.flexible() { self.buffer.put_u8(0) } else { self.buffer.put_i32(-1) }
    }

    fn no_tags(&mut self) {
        if self.flexible() {
            self.buffer.put_u8(0);
        }
    }

    fn topic(&mut self, topic: &TopicKey) {
        match topic {
            TopicKey::Id(id) => self.buffer.put_slice(id.as_bytes()),
            TopicKey::Name(name) if self.flexible() => {
                self.varint(name.len() as u32 + 1);
                self.buffer.put_slice(name.as_bytes());
            }
            TopicKey::Name(name) => {
                self.buffer.put_i16(name.len() as i16);
                self.buffer.put_slice(name.as_bytes());
            }
        }
    }

    fn partition(&mut self, answered: &AnsweredPartition<'_>, isolation: IsolationLevel) {
        let version = self.version;
        let (error, fetched) = match answered.answer {
            Ok(fetched) => (0, Some(fetched)),
            Err(error) => (error.code(), None),
        };
        let offset = |offset: fn(&FetchedPartition) -> i64| fetched.map_or(-1, offset);
        self.buffer.put_i32(answered.key.partition);
        self.buffer.put_i16(error);
        self.buffer.put_i64(offset(|fetched| fetched.high_watermark.get()));
        self.buffer.put_i64(offset(|fetched| fetched.last_stable_offset.get()));
        if version >= 5 {
            self.buffer.put_i64(offset(|fetched| fetched.log_start.get()));
        }
        match (fetched, isolation) {
            (Some(fetched), IsolationLevel::ReadCommitted) => {
                self.length(fetched.aborted.len());
                for aborted in &fetched.aborted {
                    self.buffer.put_i64(aborted.producer.get());
                    self.buffer.put_i64(aborted.first_offset.get());
                    self.no_tags();
                }
            }
            // Kafka's answer is empty rather than null where it never came to read the log.
            (None, _) if is_unknown(answered.answer) => self.length(0),
            _ => self.null(),
        }
        if version >= 11 {
            let preferred = fetched.and_then(|fetched| fetched.preferred);
            self.buffer.put_i32(preferred.map_or(-1, NodeId::get));
        }
        self.length(fetched.map_or(0, |fetched| fetched.bytes as usize));
        for records in fetched.iter().flat_map(|fetched| &fetched.records) {
            self.chunks.push(self.buffer.split().freeze());
            self.chunks.push(records.clone());
        }
        self.no_tags();
    }

    fn finish(
        mut self,
        context: &RequestContext,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<Frame, EncodeError> {
        self.chunks.push(self.buffer.freeze());
        if let Some(memory) = memory
            && let Some(last) = self.chunks.iter_mut().rev().find(|chunk| !chunk.is_empty())
        {
            let bytes = std::mem::take(last);
            *last = Bytes::from_owner(Held { bytes, _memory: memory });
        }
        let header_version = if self.version >= FLEXIBLE { 1 } else { 0 };
        Frame::from_body(context, header_version, self.chunks)
    }

    /// What stands before the topics.
    fn head(&mut self, error: i16, session: i32) {
        self.buffer.put_i32(0);
        if self.version >= 7 {
            self.buffer.put_i16(error);
            self.buffer.put_i32(session);
        }
    }
}

fn is_unknown(answer: &Result<FetchedPartition, ResponseError>) -> bool {
    matches!(answer, Err(ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId))
}

/// An answer that only says why the session can't go on.
pub(super) fn refusal(context: &RequestContext, error: ResponseError) -> Result<Frame, EncodeError> {
    let mut body = Body::new(context.api_version);
    body.head(error.code(), 0);
    body.length(0);
    body.no_tags();
    body.finish(context, None)
}

/// The answer; partitions of the same topic that follow each other share its entry. `memory` is given back when it
/// has been sent.
pub(super) fn answer<'a>(
    context: &RequestContext,
    session: i32,
    isolation: IsolationLevel,
    answered: impl Iterator<Item = AnsweredPartition<'a>>,
    memory: Option<OwnedSemaphorePermit>,
) -> Result<Frame, EncodeError> {
    let mut topics: Vec<(&TopicKey, Vec<AnsweredPartition<'a>>)> = Vec::new();
    for partition in answered {
        match topics.last_mut() {
            Some((topic, partitions)) if **topic == partition.key.topic => partitions.push(partition),
            _ => topics.push((&partition.key.topic, vec![partition])),
        }
    }
    let mut body = Body::new(context.api_version);
    debug_assert!(
        topics
            .iter()
            .all(|(topic, _)| matches!(topic, TopicKey::Id(_)) == (context.api_version >= TOPIC_IDS)),
        "a session names topics as its requests do"
    );
    body.head(0, session);
    body.length(topics.len());
    for (topic, partitions) in topics {
        body.topic(topic);
        body.length(partitions.len());
        for partition in &partitions {
            body.partition(partition, isolation);
        }
        body.no_tags();
    }
    body.no_tags();
    body.finish(context, memory)
}
