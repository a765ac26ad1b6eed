//! Produce (key 0): record batches to be appended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use penstock_config::topic::{self, TopicConfig};
use penstock_metadata::kv::StoreError;
use penstock_metadata::topics::{self, Topic};
use penstock_storage::batch::{
    Attributes, BatchError, Codec, MAGIC, Refusal, TimestampType, TopicCompression, ValidatedBatch,
    ValidationRules, validate,
};
use penstock_types::{PartitionIndex, TimestampMs, TopicId, TopicPartition};
use tokio::time::Instant;

use super::context::RequestContext;
use crate::broker::Broker;
use crate::produce::{AdmitError, AppendError, BatchResult, IncomingBatch, Receipt};
use crate::server::{Answer, PendingAnswer};

/// From this version of Produce on there is zstd (KIP-110).
const ZSTD_ALLOWED: i16 = 7;

/// A change of a topic's options by another agent is followed after that long, or with the next commit.
pub(super) const CATALOG_AGE: Duration = Duration::from_secs(1);

/// A partition of the answer before the append: where its result will come from.
struct Slot {
    index: i32,
    outcome: Outcome,
    topic: Option<Arc<Topic>>,
}

enum Outcome {
    /// Known already.
    Failed {
        code: i16,
        message: Option<String>,
        records: Vec<(i32, String)>,
        /// Whether Kafka would have come as far as its log; then its answer says where that starts.
        reached_log: bool,
    },
    /// The result of the admitted batch of that number.
    Admitted { batch: usize, log_append_time: TimestampMs },
}

impl Outcome {
    fn error(error: ResponseError) -> Self {
        Self::Failed { code: error.code(), message: None, records: Vec::new(), reached_log: false }
    }
}

/// Admits a request; the answer comes when its batches are durable and ordered.
pub(crate) async fn admit(
    broker: &Arc<Broker>,
    request: ProduceRequest,
    context: &RequestContext,
) -> PendingAnswer {
    broker.traffic.touch();
    let started = Instant::now();
    let (acks, timeout_ms) = (request.acks, request.timeout_ms);
    if let Err(error) = know_topics(broker, &request, context.api_version).await {
        tracing::warn!(%error, "topics can't be read; a produce request goes by what is known");
    }
    let (mut response, mut slots, batches) = look_through(broker, request, context);
    let held: usize = batches.iter().map(|batch| batch.batch.bytes.len()).sum();
    let receipt = match batches.len() {
        0 => None,
        _ => match broker.produce.admit(batches, held).await {
            Ok(receipt) => Some(receipt),
            Err(error) => {
                let error = match error {
                    AdmitError::Stopping => ResponseError::NotLeaderOrFollower,
                    AdmitError::Store(_) => ResponseError::NotEnoughReplicas,
                };
                for slot in slots.iter_mut().flatten() {
                    if let Outcome::Admitted { .. } = slot.outcome {
                        slot.outcome = Outcome::error(error);
                    }
                }
                None
            }
        },
    };
    let context = context.clone();
    let broker = Arc::clone(broker);
    // Only acks=all waits with a limit; with acks=1 Kafka doesn't look at it either.
    let deadline = (acks == -1).then(|| started + Duration::from_millis(timeout_ms.max(0) as u64));
    let answer = async move {
        let results = settle(receipt, deadline).await;
        fill(&broker, &mut response, slots, results.as_deref());
        answer_for(acks, &context, &response)
    };
    PendingAnswer::Later(Box::pin(answer))
}

/// Has the catalog at hand. That a topic still exists is the commit's to say, in its own transaction; so what was read
/// a moment ago will do, unless a topic or partition isn't in it.
async fn know_topics(broker: &Broker, request: &ProduceRequest, version: i16) -> Result<(), StoreError> {
    let is_known = |data: &TopicProduceData| {
        let topic = find_topic(broker, &data.name, TopicId::new(data.topic_id), version);
        topic.is_ok_and(|topic| {
            data.partition_data.iter().all(|each| topic.has_partition(PartitionIndex::new(each.index)))
        })
    };
    broker.topics.refresh_unless(CATALOG_AGE, || request.topic_data.iter().all(is_known)).await
}

/// Waits for the batches; `None` once the deadline is over.
async fn settle(receipt: Option<Receipt>, deadline: Option<Instant>) -> Option<Vec<BatchResult>> {
    let Some(receipt) = receipt else { return Some(Vec::new()) };
    let results = match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, receipt).await.ok()?,
        None => receipt.await,
    };
    Some(results.unwrap_or_default())
}

fn answer_for(acks: i16, context: &RequestContext, response: &ProduceResponse) -> Answer {
    if acks != 0 || penstock_types::planted!("unasked-answer") {
        return Answer::message(context, response);
    }
    let failed = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    if failed.clone().any(|partition| partition.error_code != 0) {
        tracing::debug!(peer = %context.peer, "a produce request with acks=0 failed; closing the connection");
        return Answer::Close;
    }
    Answer::Nothing
}

type LookedThrough = (ProduceResponse, Vec<Vec<Slot>>, Vec<IncomingBatch>);

/// Validates every partition's records: what can be appended, and the errors of what can't.
fn look_through(broker: &Broker, request: ProduceRequest, context: &RequestContext) -> LookedThrough {
    let mut response = ProduceResponse::default();
    let mut slots = Vec::with_capacity(request.topic_data.len());
    let mut batches = Vec::new();
    let is_refused = claims_transaction(&request);
    let acks_error = (!(-1..=1).contains(&request.acks)).then_some(ResponseError::InvalidRequiredAcks);
    // Nobody hears that without an answer: what comes with acks=0 is taken until the connection ends.
    let sends_away = request.acks != 0 && broker.cluster.sends_away();
    let mut seen = BTreeSet::new();
    for data in request.topic_data {
        let topic = find_topic(broker, &data.name, TopicId::new(data.topic_id), context.api_version);
        let mut answer = TopicProduceResponse::default();
        answer.name = data.name;
        answer.topic_id = data.topic_id;
        let mut of_topic = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let outcome = match &topic {
                _ if is_refused => Outcome::error(ResponseError::TransactionalIdAuthorizationFailed),
                Err(error) => Outcome::error(*error),
                Ok(_) if sends_away => Outcome::error(ResponseError::NotLeaderOrFollower),
                Ok(topic) => {
                    check_partition(broker, topic, partition, &mut seen, &mut batches, context, acks_error)
                }
            };
            of_topic.push(Slot { index, outcome, topic: topic.as_ref().ok().cloned() });
        }
        response.responses.push(answer);
        slots.push(of_topic);
    }
    (response, slots, batches)
}

/// Whether a batch says that it belongs to a transaction, though the request names none: Kafka refuses the whole
/// request, before anything else is validated.
fn claims_transaction(request: &ProduceRequest) -> bool {
    const MAGIC_AT: usize = 16;
    const ATTRIBUTES_AT: usize = 21;
    let claims = |records: &Bytes| {
        let Some(attributes) = records.get(ATTRIBUTES_AT..ATTRIBUTES_AT + 2) else { return false };
        let attributes = Attributes::from_bits(u16::from_be_bytes([attributes[0], attributes[1]]));
        records[MAGIC_AT] == MAGIC && attributes.is_transactional()
    };
    let mut partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    request.transactional_id.is_none() && partitions.any(|data| data.records.as_ref().is_some_and(claims))
}

fn find_topic(broker: &Broker, name: &str, id: TopicId, version: i16) -> Result<Arc<Topic>, ResponseError> {
    if version >= 13 {
        return broker.topics.by_id(id).ok_or(ResponseError::UnknownTopicId);
    }
    if topics::validate_name(name).is_err() {
        return Err(ResponseError::InvalidTopicException);
    }
    broker.topics.by_name(name).ok_or(ResponseError::UnknownTopicOrPartition)
}

fn check_partition(
    broker: &Broker,
    topic: &Arc<Topic>,
    data: PartitionProduceData,
    seen: &mut BTreeSet<TopicPartition>,
    batches: &mut Vec<IncomingBatch>,
    context: &RequestContext,
    acks_error: Option<ResponseError>,
) -> Outcome {
    let partition = TopicPartition { topic: topic.id, partition: PartitionIndex::new(data.index) };
    if !topic.has_partition(partition.partition) {
        return Outcome::error(ResponseError::UnknownTopicOrPartition);
    }
    // A partition named twice has several batches in one request, which Kafka refuses (KIP-98).
    if !seen.insert(partition) {
        return Outcome::error(ResponseError::InvalidRecord);
    }
    // Null is no batch, as no bytes are. (Kafka 4.1 fails on null, fails again on logging that, and then neither answers
    // nor reads the connection any more.)
    let records = data.records.unwrap_or_default();
    let rules = rules(&topic.config, broker.clock.now_ms(), context.api_version);
    let validated = validate(&records, &rules);
    // Kafka looks at the acks where it would append, behind what it can tell from the request.
    if let (Some(error), false) = (acks_error, validated.as_ref().is_err_and(is_seen_first)) {
        return Outcome::error(error);
    }
    match validated {
        Ok(batch) if batch.header.attributes.is_transactional() => {
            // No transaction can have been begun: InitProducerId refuses transactional ids.
            Outcome::error(ResponseError::InvalidTxnState)
        }
        Ok(batch) => {
            let log_append_time = appended_at(&rules, &batch);
            batches.push(IncomingBatch::new(partition, batch));
            Outcome::Admitted { batch: batches.len() - 1, log_append_time }
        }
        Err(error) => refused(&error, &format!("{}-{}", topic.name, data.index), context.api_version),
    }
}

fn appended_at(rules: &ValidationRules, batch: &ValidatedBatch) -> TimestampMs {
    match rules.timestamp_type {
        TimestampType::CreateTime => -1,
        TimestampType::LogAppendTime => batch.header.max_timestamp,
    }
}

fn refused(error: &BatchError, topic_partition: &str, version: i16) -> Outcome {
    let code = match error.refusal() {
        Refusal::CorruptMessage => ResponseError::CorruptMessage,
        Refusal::MessageTooLarge => ResponseError::MessageTooLarge,
        Refusal::InvalidTimestamp => ResponseError::InvalidTimestamp,
        Refusal::UnsupportedCompressionType => ResponseError::UnsupportedCompressionType,
        Refusal::InvalidRecord => ResponseError::InvalidRecord,
        Refusal::UnknownServerError => ResponseError::UnknownServerError,
    };
    tracing::debug!(%error, topic_partition, "a record batch is refused");
    Outcome::Failed {
        code: code.code(),
        message: error.message(topic_partition),
        records: error.record_errors(topic_partition),
        reached_log: reached_log(error, version),
    }
}

/// What Kafka's `ProduceRequest.validateRecords` finds.
fn is_seen_first(error: &BatchError) -> bool {
    matches!(
        error,
        BatchError::NoBatch
            | BatchError::SeveralBatches
            | BatchError::UnsupportedMagic { .. }
            | BatchError::ZstdNotAllowed
    )
}

/// Kafka refuses some batches before it looks for the log, and others in a way that forgets it.
fn reached_log(error: &BatchError, version: i16) -> bool {
    match error {
        BatchError::NoBatch
        | BatchError::SeveralBatches
        | BatchError::UnsupportedMagic { .. }
        | BatchError::ZstdNotAllowed
        | BatchError::NoProducerId { .. }
        | BatchError::Corrupt(_)
        | BatchError::TooLarge { .. } => false,
        // Where zstd isn't allowed, the codec is looked at before the log is.
        BatchError::UnknownCodec { .. } => version >= ZSTD_ALLOWED,
        BatchError::Invalid(_)
        | BatchError::MalformedRecord { .. }
        | BatchError::MalformedRecordLength { .. }
        | BatchError::Undecodable { .. }
        | BatchError::DecompressionBomb { .. }
        | BatchError::OffsetsNotConsecutive
        | BatchError::NegativeTimestamp { .. }
        | BatchError::Records(_) => true,
    }
}

/// What the topic asks of a batch.
fn rules(config: &TopicConfig, now_ms: TimestampMs, version: i16) -> ValidationRules {
    let codec = |codec, level| TopicCompression::Codec { codec, level };
    ValidationRules {
        max_message_bytes: config.max_message_bytes,
        timestamp_type: match config.message_timestamp_type {
            topic::TimestampType::CreateTime => TimestampType::CreateTime,
            topic::TimestampType::LogAppendTime => TimestampType::LogAppendTime,
        },
        now_ms,
        before_max_ms: config.message_timestamp_before_max_ms,
        after_max_ms: config.message_timestamp_after_max_ms,
        compacted: config.cleanup_policy.compact,
        compression: match config.compression {
            topic::Compression::Producer => TopicCompression::Producer,
            topic::Compression::Uncompressed => codec(Codec::None, None),
            topic::Compression::Gzip(level) => codec(Codec::Gzip, Some(level)),
            topic::Compression::Snappy => codec(Codec::Snappy, None),
            topic::Compression::Lz4(level) => codec(Codec::Lz4, Some(level)),
            topic::Compression::Zstd(level) => codec(Codec::Zstd, Some(level)),
        },
        allow_zstd: version >= ZSTD_ALLOWED,
    }
}

/// Puts the results into the answer.
fn fill(
    broker: &Broker,
    response: &mut ProduceResponse,
    slots: Vec<Vec<Slot>>,
    results: Option<&[BatchResult]>,
) {
    for (topic, slots) in response.responses.iter_mut().zip(slots) {
        topic.partition_responses.extend(slots.into_iter().map(|slot| fill_partition(broker, slot, results)));
    }
}

fn fill_partition(broker: &Broker, slot: Slot, results: Option<&[BatchResult]>) -> PartitionProduceResponse {
    let mut partition = PartitionProduceResponse::default();
    partition.index = slot.index;
    partition.base_offset = -1;
    partition.log_append_time_ms = -1;
    let mut reached_log = false;
    match slot.outcome {
        Outcome::Failed { code, message, records, reached_log: reached } => {
            partition.error_code = code;
            partition.error_message = message.map(StrBytes::from_string);
            partition.record_errors = records.into_iter().map(record_error).collect();
            reached_log = reached;
        }
        Outcome::Admitted { batch, log_append_time } => {
            match results.map(|results| results.get(batch).cloned()) {
                Some(Some(Ok(offset))) => {
                    partition.base_offset = offset.map_or(-1, penstock_types::Offset::get);
                    partition.log_append_time_ms = log_append_time;
                    reached_log = true;
                }
                Some(Some(Err(error))) => {
                    partition.error_code = append_error(error).code();
                    reached_log = is_sequence_error(error);
                }
                Some(None) => partition.error_code = ResponseError::UnknownServerError.code(),
                None => partition.error_code = ResponseError::RequestTimedOut.code(),
            }
        }
    }
    let topic = slot.topic.filter(|_| reached_log);
    partition.log_start_offset = topic.map_or(-1, |topic| log_start(broker, &topic, slot.index));
    partition
}

fn log_start(broker: &Broker, topic: &Topic, index: i32) -> i64 {
    let partition = TopicPartition { topic: topic.id, partition: PartitionIndex::new(index) };
    broker.views.get(partition).read(|tail| tail.log_start.get())
}

fn is_sequence_error(error: AppendError) -> bool {
    match error {
        AppendError::OutOfOrderSequence
        | AppendError::InvalidProducerEpoch
        | AppendError::DuplicateSequence => true,
        AppendError::UnknownTopic | AppendError::NotStored | AppendError::Failed | AppendError::Stopping => {
            false
        }
    }
}

fn record_error((index, message): (i32, String)) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default()
        .with_batch_index(index)
        .with_batch_index_error_message(Some(StrBytes::from_string(message)))
}

fn append_error(error: AppendError) -> ResponseError {
    match error {
        AppendError::UnknownTopic => ResponseError::UnknownTopicOrPartition,
        AppendError::OutOfOrderSequence => ResponseError::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch => ResponseError::InvalidProducerEpoch,
        AppendError::DuplicateSequence => ResponseError::DuplicateSequenceNumber,
        // Certainly not appended, and retriable: the producer sends it again.
        AppendError::NotStored => ResponseError::NotEnoughReplicas,
        AppendError::Failed => ResponseError::UnknownServerError,
        AppendError::Stopping => ResponseError::NotLeaderOrFollower,
    }
}
