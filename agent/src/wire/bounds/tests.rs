//! The layouts against the codec, on requests made at random from the layouts; and against bytes that lie.

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use penstock_types::{Randomness, SeededRandomness};

use super::*;
use crate::wire::schema::{request, requests};

/// One request of the codec.
struct Codec {
    key: i16,
    versions: (i16, i16),
    decoded: usize,
    recode: fn(Bytes, i16) -> Result<Vec<u8>, String>,
}

fn recode<M: Decodable + Encodable>(mut body: Bytes, version: i16) -> Result<Vec<u8>, String> {
    let message = M::decode(&mut body, version).map_err(|error| format!("{error:#}"))?;
    let mut encoded = Vec::new();
    message.encode(&mut encoded, version).map_err(|error| format!("{error:#}"))?;
    Ok(encoded)
}

macro_rules! codecs {
    ($($key:ident $request:ident,)*) => {
        fn codecs() -> Vec<Codec> {
            vec![$(Codec {
                key: ApiKey::$key as i16,
                versions: ($request::VERSIONS.min, $request::VERSIONS.max),
                decoded: size_of::<$request>(),
                recode: recode::<$request>,
            },)*]
        }
    };
}

codecs! {
    Produce ProduceRequest,
    Fetch FetchRequest,
    ListOffsets ListOffsetsRequest,
    Metadata MetadataRequest,
    OffsetCommit OffsetCommitRequest,
    OffsetFetch OffsetFetchRequest,
    FindCoordinator FindCoordinatorRequest,
    JoinGroup JoinGroupRequest,
    Heartbeat HeartbeatRequest,
    LeaveGroup LeaveGroupRequest,
    SyncGroup SyncGroupRequest,
    DescribeGroups DescribeGroupsRequest,
    ListGroups ListGroupsRequest,
    SaslHandshake SaslHandshakeRequest,
    ApiVersions ApiVersionsRequest,
    CreateTopics CreateTopicsRequest,
    DeleteTopics DeleteTopicsRequest,
    DeleteRecords DeleteRecordsRequest,
    InitProducerId InitProducerIdRequest,
    OffsetForLeaderEpoch OffsetForLeaderEpochRequest,
    AddPartitionsToTxn AddPartitionsToTxnRequest,
    AddOffsetsToTxn AddOffsetsToTxnRequest,
    EndTxn EndTxnRequest,
    WriteTxnMarkers WriteTxnMarkersRequest,
    TxnOffsetCommit TxnOffsetCommitRequest,
    DescribeAcls DescribeAclsRequest,
    CreateAcls CreateAclsRequest,
    DeleteAcls DeleteAclsRequest,
    DescribeConfigs DescribeConfigsRequest,
    AlterConfigs AlterConfigsRequest,
    AlterReplicaLogDirs AlterReplicaLogDirsRequest,
    DescribeLogDirs DescribeLogDirsRequest,
    SaslAuthenticate SaslAuthenticateRequest,
    CreatePartitions CreatePartitionsRequest,
    CreateDelegationToken CreateDelegationTokenRequest,
    RenewDelegationToken RenewDelegationTokenRequest,
    ExpireDelegationToken ExpireDelegationTokenRequest,
    DescribeDelegationToken DescribeDelegationTokenRequest,
    DeleteGroups DeleteGroupsRequest,
    ElectLeaders ElectLeadersRequest,
    IncrementalAlterConfigs IncrementalAlterConfigsRequest,
    AlterPartitionReassignments AlterPartitionReassignmentsRequest,
    ListPartitionReassignments ListPartitionReassignmentsRequest,
    OffsetDelete OffsetDeleteRequest,
    DescribeClientQuotas DescribeClientQuotasRequest,
    AlterClientQuotas AlterClientQuotasRequest,
    DescribeUserScramCredentials DescribeUserScramCredentialsRequest,
    AlterUserScramCredentials AlterUserScramCredentialsRequest,
    Vote VoteRequest,
    BeginQuorumEpoch BeginQuorumEpochRequest,
    EndQuorumEpoch EndQuorumEpochRequest,
    DescribeQuorum DescribeQuorumRequest,
    AlterPartition AlterPartitionRequest,
    UpdateFeatures UpdateFeaturesRequest,
    Envelope EnvelopeRequest,
    FetchSnapshot FetchSnapshotRequest,
    DescribeCluster DescribeClusterRequest,
    DescribeProducers DescribeProducersRequest,
    BrokerRegistration BrokerRegistrationRequest,
    BrokerHeartbeat BrokerHeartbeatRequest,
    UnregisterBroker UnregisterBrokerRequest,
    DescribeTransactions DescribeTransactionsRequest,
    ListTransactions ListTransactionsRequest,
    AllocateProducerIds AllocateProducerIdsRequest,
    ConsumerGroupHeartbeat ConsumerGroupHeartbeatRequest,
    ConsumerGroupDescribe ConsumerGroupDescribeRequest,
    ControllerRegistration ControllerRegistrationRequest,
    GetTelemetrySubscriptions GetTelemetrySubscriptionsRequest,
    PushTelemetry PushTelemetryRequest,
    AssignReplicasToDirs AssignReplicasToDirsRequest,
    ListConfigResources ListConfigResourcesRequest,
    DescribeTopicPartitions DescribeTopicPartitionsRequest,
    ShareGroupHeartbeat ShareGroupHeartbeatRequest,
    ShareGroupDescribe ShareGroupDescribeRequest,
    ShareFetch ShareFetchRequest,
    ShareAcknowledge ShareAcknowledgeRequest,
    AddRaftVoter AddRaftVoterRequest,
    RemoveRaftVoter RemoveRaftVoterRequest,
    UpdateRaftVoter UpdateRaftVoterRequest,
    InitializeShareGroupState InitializeShareGroupStateRequest,
    ReadShareGroupState ReadShareGroupStateRequest,
    WriteShareGroupState WriteShareGroupStateRequest,
    DeleteShareGroupState DeleteShareGroupStateRequest,
    ReadShareGroupStateSummary ReadShareGroupStateSummaryRequest,
    DescribeShareGroupOffsets DescribeShareGroupOffsetsRequest,
    AlterShareGroupOffsets AlterShareGroupOffsetsRequest,
    DeleteShareGroupOffsets DeleteShareGroupOffsetsRequest,
}

/// Requests of Kafka 4.1 that the codec doesn't know (KIP-1071, streams groups).
const UNKNOWN_TO_THE_CODEC: [i16; 2] = [88, 89];

/// Writes a random request of a layout.
struct Scribe<'a> {
    out: Vec<u8>,
    random: &'a SeededRandomness,
    version: i16,
    flexible: bool,
}

impl Scribe<'_> {
    fn request(layout: &'static Request, version: i16, random: &SeededRandomness) -> Vec<u8> {
        let flexible = layout.flexible.contains(version);
        let mut scribe = Scribe { out: Vec::new(), random, version, flexible };
        scribe.fields(layout.fields);
        scribe.out
    }

    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let here = || fields.iter().filter(|field| field.versions.contains(version));
        for field in here().filter(|field| !field.tagged.contains(version)) {
            let nullable = field.nullable.contains(version);
            self.value(&field.kind, nullable);
        }
        if !self.flexible {
            return;
        }
        let mut known: Vec<_> = here().filter(|field| field.tagged.contains(version)).collect();
        known.sort_by_key(|field| field.tag);
        known.retain(|_| self.random.below(2) == 0);
        let unknown = self.random.below(3).saturating_sub(1) as u32;
        self.varint(known.len() as u32 + unknown);
        for field in known {
            let mut inner = Scribe { out: Vec::new(), ..*self };
            inner.set(&field.kind);
            self.tagged(field.tag, &inner.out);
        }
        for tag in 0..unknown {
            self.tagged(1000 + tag, b"unknown");
        }
    }

    fn tagged(&mut self, tag: u32, content: &[u8]) {
        self.varint(tag);
        self.varint(content.len() as u32);
        self.out.extend_from_slice(content);
    }

    /// A value other than the default, which would be left out among the tagged fields.
    fn set(&mut self, kind: &'static Kind) {
        match kind {
            Kind::Fixed(size) => self.out.extend((0..*size).map(|_| 1)),
            Kind::Struct(fields, _) => {
                let version = self.version;
                let here = fields.iter().filter(|field| field.versions.contains(version));
                here.for_each(|field| self.set(&field.kind));
                self.varint(0);
            }
            Kind::Text | Kind::Binary | Kind::Array(_) => self.value(kind, false),
        }
    }

    fn value(&mut self, kind: &'static Kind, nullable: bool) {
        let null = nullable && self.random.below(3) == 0;
        match kind {
            // Booleans are told from other bytes by nothing: 0 and 1 survive as either.
            Kind::Fixed(1) => self.out.push(self.random.below(2) as u8),
            Kind::Fixed(size) => {
                self.out.extend_from_slice(&self.random.next_u64().to_be_bytes().repeat(2)[..*size]);
            }
            Kind::Text => self.content(null, 2),
            Kind::Binary => self.content(null, 4),
            Kind::Array(element) => {
                let count = 1 + self.random.below(3) as usize;
                self.length(null, count, 4);
                if !null {
                    (0..count).for_each(|_| self.value(element, false));
                }
            }
            Kind::Struct(fields, _) => {
                if nullable {
                    self.out.push(if null { 0xFF } else { 1 });
                }
                if !null {
                    self.fields(fields);
                }
            }
        }
    }

    fn content(&mut self, null: bool, width: usize) {
        let text = &"any text will do, whatever it says"[..1 + self.random.below(33) as usize];
        self.length(null, text.len(), width);
        if !null {
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    fn length(&mut self, null: bool, length: usize, width: usize) {
        if self.flexible {
            return self.varint(if null { 0 } else { length as u32 + 1 });
        }
        let length = if null { -1 } else { length as i64 };
        self.out.extend_from_slice(&length.to_be_bytes()[8 - width..]);
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

/// Runs `check` on random requests of every API and version that the codec knows.
fn for_each_request(seeds: u64, mut examine: impl FnMut(&Codec, i16, Vec<u8>, &str)) {
    for codec in codecs() {
        let layout = request(codec.key).expect("Kafka knows it");
        for version in codec.versions.0..=codec.versions.1 {
            for seed in 0..seeds {
                let random = SeededRandomness::new(seed);
                let name = format!("{} version {version} seed {seed}", layout.name);
                examine(&codec, version, Scribe::request(layout, version, &random), &name);
            }
        }
    }
}

#[test]
fn every_request_of_the_codec_has_a_layout_with_its_versions() {
    let codecs = codecs();
    for layout in requests() {
        match codecs.iter().find(|codec| codec.key == layout.key) {
            Some(codec) => {
                let (low, high) = layout.valid.bounds();
                assert!(low <= codec.versions.0 && codec.versions.1 <= high, "{}", layout.name);
                assert!(codec.decoded <= layout.decoded, "{} takes {} bytes", layout.name, codec.decoded);
            }
            None => assert!(UNKNOWN_TO_THE_CODEC.contains(&layout.key), "{}", layout.name),
        }
    }
    assert!(codecs.iter().all(|codec| request(codec.key).is_some()));
}

#[test]
fn structs_take_no_more_memory_than_the_layouts_say() {
    fn inner(key: ApiKey, name: &str) -> usize {
        fn find(fields: &'static [Field], name: &str) -> Option<usize> {
            fields.iter().find_map(|field| match &field.kind {
                Kind::Array(Kind::Struct(fields, size)) | Kind::Struct(fields, size) => {
                    if field.name == name { Some(*size) } else { find(fields, name) }
                }
                _ => None,
            })
        }
        find(request(key as i16).expect("known").fields, name).expect("a struct of that name")
    }
    for (actual, said) in [
        (size_of::<produce_request::TopicProduceData>(), inner(ApiKey::Produce, "TopicData")),
        (size_of::<produce_request::PartitionProduceData>(), inner(ApiKey::Produce, "PartitionData")),
        (size_of::<fetch_request::FetchTopic>(), inner(ApiKey::Fetch, "Topics")),
        (size_of::<fetch_request::FetchPartition>(), inner(ApiKey::Fetch, "Partitions")),
        (size_of::<fetch_request::ReplicaState>(), inner(ApiKey::Fetch, "ReplicaState")),
        (size_of::<metadata_request::MetadataRequestTopic>(), inner(ApiKey::Metadata, "Topics")),
        (
            size_of::<offset_commit_request::OffsetCommitRequestPartition>(),
            inner(ApiKey::OffsetCommit, "Partitions"),
        ),
        (size_of::<offset_fetch_request::OffsetFetchRequestGroup>(), inner(ApiKey::OffsetFetch, "Groups")),
        (size_of::<create_topics_request::CreatableTopic>(), inner(ApiKey::CreateTopics, "Topics")),
        (size_of::<join_group_request::JoinGroupRequestProtocol>(), inner(ApiKey::JoinGroup, "Protocols")),
        (size_of::<create_acls_request::AclCreation>(), inner(ApiKey::CreateAcls, "Creations")),
    ] {
        assert!(actual <= said && said <= actual + 16, "{actual} bytes, said to be {said}");
    }
}

#[test]
fn each_element_of_an_array_takes_a_byte_at_least() {
    fn smallest(kind: &'static Kind, version: i16, flexible: bool) -> usize {
        match kind {
            Kind::Fixed(size) => *size,
            Kind::Text => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Binary | Kind::Array(_) => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(fields, _) => {
                let here = fields.iter().filter(|field| field.versions.contains(version));
                here.map(|field| smallest(&field.kind, version, flexible)).sum::<usize>()
                    + usize::from(flexible)
            }
        }
    }
    fn look(fields: &'static [Field], version: i16, flexible: bool) {
        for field in fields.iter().filter(|field| field.versions.contains(version)) {
            if let Kind::Array(element) = field.kind {
                assert!(smallest(element, version, flexible) > 0, "{} in version {version}", field.name);
            }
            if let Kind::Struct(fields, _) | Kind::Array(Kind::Struct(fields, _)) = &field.kind {
                look(fields, version, flexible);
            }
        }
    }
    for layout in requests() {
        let (low, high) = layout.valid.bounds();
        (low..=high).for_each(|version| look(layout.fields, version, layout.flexible.contains(version)));
    }
}

#[test]
fn what_follows_the_layout_passes_and_is_what_the_codec_reads() {
    for_each_request(12, |codec, version, body, name| {
        let walked = check(codec.key, version, &body, Limit::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(walked.left_over, 0, "{name}");
        let again = (codec.recode)(Bytes::from(body.clone()), version)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again, body, "{name}");
    });
}

#[test]
fn bytes_behind_a_request_are_left_alone() {
    for_each_request(1, |codec, version, mut body, name| {
        body.extend_from_slice(&[0xFF; 5]);
        let walked = check(codec.key, version, &body, Limit::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(walked.left_over, 5, "{name}");
    });
}

#[test]
fn no_request_ends_early() {
    for_each_request(2, |codec, version, body, name| {
        for length in 0..body.len() {
            let found = check(codec.key, version, &body[..length], Limit::default());
            assert!(found.is_err(), "{name} cut off after {length} of {} bytes", body.len());
        }
    });
}

/// A request that passes after random damage is decoded: a length that lies would abort the process here.
#[test]
fn damage_is_refused_or_harmless() {
    let mut passed = 0;
    for_each_request(6, |codec, version, body, name| {
        let random = SeededRandomness::new(body.len() as u64);
        for _ in 0..24 {
            let mut damaged = body.clone();
            for _ in 0..=random.below(3) {
                let Some(last) = damaged.len().checked_sub(1) else { continue };
                let at = random.below(last as u64 + 1) as usize;
                match random.below(4) {
                    0 => damaged[at] = random.next_u64() as u8,
                    1 => damaged[at..].iter_mut().take(4).for_each(|byte| *byte = 0xFF),
                    2 => damaged.truncate(at),
                    _ => damaged[at..]
                        .iter_mut()
                        .take(4)
                        .zip([0x7F, 0xFF, 0xFF, 0xFF])
                        .for_each(|(to, from)| *to = from),
                }
            }
            if let Ok(walked) = check(codec.key, version, &damaged, Limit::default()) {
                assert!(walked.decoded_bytes <= Limit::default().for_body(damaged.len()), "{name}");
                passed += usize::from((codec.recode)(Bytes::from(damaged), version).is_ok());
            }
        }
    });
    assert!(passed > 1000, "only {passed} damaged requests were still requests");
}

#[test]
fn lengths_that_lie_are_found_before_memory_is_taken() {
    let refused =
        |key: ApiKey, version, body: &[u8]| check(key as i16, version, body, Limit::default()).unwrap_err();
    // Metadata 0: 2^31 - 1 topics in no bytes.
    let error = refused(ApiKey::Metadata, 0, &[0x7F, 0xFF, 0xFF, 0xFF]);
    let reason = Malformed::Length { length: i64::from(i32::MAX), remaining: 0 };
    assert!(
        matches!(error, BoundsError::Malformed { reason: found, field: "Topics", .. } if found == reason)
    );
    // Metadata 12: 2^32 - 2 topics.
    let error = refused(ApiKey::Metadata, 12, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0]);
    assert!(matches!(error, BoundsError::Malformed { reason: Malformed::Length { .. }, .. }));
    // A variable-length number of six bytes, and one of 33 bits.
    let error = refused(ApiKey::Metadata, 12, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    assert!(matches!(error, BoundsError::Malformed { reason: Malformed::Varint, .. }));
    let error = refused(ApiKey::Metadata, 12, &[0x80, 0x80, 0x80, 0x80, 0x10]);
    assert!(matches!(error, BoundsError::Malformed { reason: Malformed::Varint, .. }));
    // ApiVersions 3: a null name, then a name of -2 bytes (Heartbeat 0).
    let error = refused(ApiKey::ApiVersions, 3, &[0, 0, 0]);
    assert!(matches!(error, BoundsError::Malformed { reason: Malformed::Null, offset: 1, .. }));
    let error = refused(ApiKey::Heartbeat, 0, &[0xFF, 0xFE]);
    assert!(matches!(error, BoundsError::Malformed { reason: Malformed::Length { length: -2, .. }, .. }));
    // ApiVersions 3: an unknown tagged field that is longer than what remains.
    let error = refused(ApiKey::ApiVersions, 3, &[2, b'a', 2, b'1', 1, 9, 0xFF, 0x7F]);
    assert!(matches!(error, BoundsError::Malformed { reason: Malformed::Length { .. }, .. }));
    assert_eq!(check(9999, 0, &[], Limit::default()), Err(BoundsError::Unknown { key: 9999, version: 0 }));
    assert_eq!(
        check(ApiKey::Metadata as i16, 99, &[], Limit::default()),
        Err(BoundsError::Unknown { key: 3, version: 99 })
    );
}

#[test]
fn a_known_tagged_field_is_as_long_as_it_says() {
    let layout = request(ApiKey::Fetch as i16).expect("known");
    let body = (0..).find_map(|seed| {
        let body = Scribe::request(layout, 12, &SeededRandomness::new(seed));
        let tail = [1, 0, 3, 3, b'i', b'd'];
        body.ends_with(&[0]).then(|| [&body[..body.len() - 1], &tail].concat())
    });
    let mut body = body.expect("some request has no tagged field of its own");
    let walk = |body: &[u8]| check(ApiKey::Fetch as i16, 12, body, Limit::default());
    assert_eq!(walk(&body).map(|walked| walked.left_over), Ok(0));
    let length_at = body.len() - 4;
    body[length_at] = 4;
    body.push(0);
    let reason = Malformed::TaggedLength { declared: 4, actual: 3 };
    assert!(matches!(walk(&body), Err(BoundsError::Malformed { reason: found, .. }) if found == reason));
    body[length_at] = 2;
    assert!(matches!(walk(&body), Err(BoundsError::Malformed { .. })));
}

#[test]
fn memory_is_bounded_whatever_the_bytes_are() {
    let limit = Limit { base_bytes: 64 << 10, per_body_byte: 2 };
    let too_much = |key: ApiKey, version, body: &[u8]| {
        matches!(check(key as i16, version, body, limit), Err(BoundsError::TooMuchMemory { .. }))
    };
    // 100,000 topics without a name: two bytes each, 72 when decoded.
    let mut topics = 100_000_i32.to_be_bytes().to_vec();
    topics.resize(4 + 200_000, 0);
    assert!(too_much(ApiKey::Metadata, 0, &topics));
    assert!(check(ApiKey::Metadata as i16, 0, &topics, Limit::default()).is_ok());
    // 30,000 unknown tagged fields without content.
    let mut tags = vec![2, b'a', 2, b'1', 0xB0, 0xEA, 0x01];
    (0..30_000_u32).for_each(|tag| tags.extend_from_slice(&[(tag as u8) | 0x80, (tag >> 7) as u8 & 0x7F, 0]));
    assert!(too_much(ApiKey::ApiVersions, 3, &tags));
    assert!(check(ApiKey::ApiVersions as i16, 3, &tags, Limit::default()).is_ok());
}
