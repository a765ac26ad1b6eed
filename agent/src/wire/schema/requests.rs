//! Written by `agent/schema/generate.py` from Apache Kafka's message descriptions; not to be edited.

use super::Kind::{Array, Binary, Fixed, Struct, Text};
use super::{Field, NEVER, Request, field, from, within};

/// Every request of Kafka 4.1, by key.
pub(super) static REQUESTS: &[Request] = &[
    Request {
        key: 0,
        name: "Produce",
        valid: within(3, 13),
        flexible: from(9),
        fields: PRODUCE_REQUEST,
        decoded: 88,
    },
    Request {
        key: 1,
        name: "Fetch",
        valid: within(4, 18),
        flexible: from(12),
        fields: FETCH_REQUEST,
        decoded: 208,
    },
    Request {
        key: 2,
        name: "ListOffsets",
        valid: within(1, 10),
        flexible: from(6),
        fields: LIST_OFFSETS_REQUEST,
        decoded: 64,
    },
    Request {
        key: 3,
        name: "Metadata",
        valid: within(0, 13),
        flexible: from(9),
        fields: METADATA_REQUEST,
        decoded: 56,
    },
    Request {
        key: 8,
        name: "OffsetCommit",
        valid: within(2, 10),
        flexible: from(8),
        fields: OFFSET_COMMIT_REQUEST,
        decoded: 160,
    },
    Request {
        key: 9,
        name: "OffsetFetch",
        valid: within(1, 10),
        flexible: from(6),
        fields: OFFSET_FETCH_REQUEST,
        decoded: 112,
    },
    Request {
        key: 10,
        name: "FindCoordinator",
        valid: within(0, 6),
        flexible: from(3),
        fields: FIND_COORDINATOR_REQUEST,
        decoded: 88,
    },
    Request {
        key: 11,
        name: "JoinGroup",
        valid: within(0, 9),
        flexible: from(6),
        fields: JOIN_GROUP_REQUEST,
        decoded: 216,
    },
    Request {
        key: 12,
        name: "Heartbeat",
        valid: within(0, 4),
        flexible: from(4),
        fields: HEARTBEAT_REQUEST,
        decoded: 128,
    },
    Request {
        key: 13,
        name: "LeaveGroup",
        valid: within(0, 5),
        flexible: from(4),
        fields: LEAVE_GROUP_REQUEST,
        decoded: 112,
    },
    Request {
        key: 14,
        name: "SyncGroup",
        valid: within(0, 5),
        flexible: from(4),
        fields: SYNC_GROUP_REQUEST,
        decoded: 216,
    },
    Request {
        key: 15,
        name: "DescribeGroups",
        valid: within(0, 6),
        flexible: from(5),
        fields: DESCRIBE_GROUPS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 16,
        name: "ListGroups",
        valid: within(0, 5),
        flexible: from(3),
        fields: LIST_GROUPS_REQUEST,
        decoded: 72,
    },
    Request {
        key: 17,
        name: "SaslHandshake",
        valid: within(0, 1),
        flexible: NEVER,
        fields: SASL_HANDSHAKE_REQUEST,
        decoded: 56,
    },
    Request {
        key: 18,
        name: "ApiVersions",
        valid: within(0, 4),
        flexible: from(3),
        fields: API_VERSIONS_REQUEST,
        decoded: 88,
    },
    Request {
        key: 19,
        name: "CreateTopics",
        valid: within(2, 7),
        flexible: from(5),
        fields: CREATE_TOPICS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 20,
        name: "DeleteTopics",
        valid: within(1, 6),
        flexible: from(4),
        fields: DELETE_TOPICS_REQUEST,
        decoded: 80,
    },
    Request {
        key: 21,
        name: "DeleteRecords",
        valid: within(0, 2),
        flexible: from(2),
        fields: DELETE_RECORDS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 22,
        name: "InitProducerId",
        valid: within(0, 6),
        flexible: from(2),
        fields: INIT_PRODUCER_ID_REQUEST,
        decoded: 72,
    },
    Request {
        key: 23,
        name: "OffsetForLeaderEpoch",
        valid: within(2, 4),
        flexible: from(4),
        fields: OFFSET_FOR_LEADER_EPOCH_REQUEST,
        decoded: 56,
    },
    Request {
        key: 24,
        name: "AddPartitionsToTxn",
        valid: within(0, 5),
        flexible: from(3),
        fields: ADD_PARTITIONS_TO_TXN_REQUEST,
        decoded: 120,
    },
    Request {
        key: 25,
        name: "AddOffsetsToTxn",
        valid: within(0, 4),
        flexible: from(3),
        fields: ADD_OFFSETS_TO_TXN_REQUEST,
        decoded: 104,
    },
    Request {
        key: 26,
        name: "EndTxn",
        valid: within(0, 5),
        flexible: from(3),
        fields: END_TXN_REQUEST,
        decoded: 72,
    },
    Request {
        key: 27,
        name: "WriteTxnMarkers",
        valid: within(1, 1),
        flexible: from(1),
        fields: WRITE_TXN_MARKERS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 28,
        name: "TxnOffsetCommit",
        valid: within(0, 5),
        flexible: from(3),
        fields: TXN_OFFSET_COMMIT_REQUEST,
        decoded: 192,
    },
    Request {
        key: 29,
        name: "DescribeAcls",
        valid: within(1, 3),
        flexible: from(2),
        fields: DESCRIBE_ACLS_REQUEST,
        decoded: 128,
    },
    Request {
        key: 30,
        name: "CreateAcls",
        valid: within(1, 3),
        flexible: from(2),
        fields: CREATE_ACLS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 31,
        name: "DeleteAcls",
        valid: within(1, 3),
        flexible: from(2),
        fields: DELETE_ACLS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 32,
        name: "DescribeConfigs",
        valid: within(1, 4),
        flexible: from(4),
        fields: DESCRIBE_CONFIGS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 33,
        name: "AlterConfigs",
        valid: within(0, 2),
        flexible: from(2),
        fields: ALTER_CONFIGS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 34,
        name: "AlterReplicaLogDirs",
        valid: within(1, 2),
        flexible: from(2),
        fields: ALTER_REPLICA_LOG_DIRS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 35,
        name: "DescribeLogDirs",
        valid: within(1, 4),
        flexible: from(2),
        fields: DESCRIBE_LOG_DIRS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 36,
        name: "SaslAuthenticate",
        valid: within(0, 2),
        flexible: from(2),
        fields: SASL_AUTHENTICATE_REQUEST,
        decoded: 56,
    },
    Request {
        key: 37,
        name: "CreatePartitions",
        valid: within(0, 3),
        flexible: from(2),
        fields: CREATE_PARTITIONS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 38,
        name: "CreateDelegationToken",
        valid: within(1, 3),
        flexible: from(2),
        fields: CREATE_DELEGATION_TOKEN_REQUEST,
        decoded: 120,
    },
    Request {
        key: 39,
        name: "RenewDelegationToken",
        valid: within(1, 2),
        flexible: from(2),
        fields: RENEW_DELEGATION_TOKEN_REQUEST,
        decoded: 64,
    },
    Request {
        key: 40,
        name: "ExpireDelegationToken",
        valid: within(1, 2),
        flexible: from(2),
        fields: EXPIRE_DELEGATION_TOKEN_REQUEST,
        decoded: 64,
    },
    Request {
        key: 41,
        name: "DescribeDelegationToken",
        valid: within(1, 3),
        flexible: from(2),
        fields: DESCRIBE_DELEGATION_TOKEN_REQUEST,
        decoded: 48,
    },
    Request {
        key: 42,
        name: "DeleteGroups",
        valid: within(0, 2),
        flexible: from(2),
        fields: DELETE_GROUPS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 43,
        name: "ElectLeaders",
        valid: within(0, 2),
        flexible: from(2),
        fields: ELECT_LEADERS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 44,
        name: "IncrementalAlterConfigs",
        valid: within(0, 1),
        flexible: from(1),
        fields: INCREMENTAL_ALTER_CONFIGS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 45,
        name: "AlterPartitionReassignments",
        valid: within(0, 1),
        flexible: from(0),
        fields: ALTER_PARTITION_REASSIGNMENTS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 46,
        name: "ListPartitionReassignments",
        valid: within(0, 0),
        flexible: from(0),
        fields: LIST_PARTITION_REASSIGNMENTS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 47,
        name: "OffsetDelete",
        valid: within(0, 0),
        flexible: NEVER,
        fields: OFFSET_DELETE_REQUEST,
        decoded: 80,
    },
    Request {
        key: 48,
        name: "DescribeClientQuotas",
        valid: within(0, 1),
        flexible: from(1),
        fields: DESCRIBE_CLIENT_QUOTAS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 49,
        name: "AlterClientQuotas",
        valid: within(0, 1),
        flexible: from(1),
        fields: ALTER_CLIENT_QUOTAS_REQUEST,
        decoded: 56,
    },
    Request {
        key: 50,
        name: "DescribeUserScramCredentials",
        valid: within(0, 0),
        flexible: from(0),
        fields: DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 51,
        name: "AlterUserScramCredentials",
        valid: within(0, 0),
        flexible: from(0),
        fields: ALTER_USER_SCRAM_CREDENTIALS_REQUEST,
        decoded: 72,
    },
    Request {
        key: 52,
        name: "Vote",
        valid: within(0, 2),
        flexible: from(0),
        fields: VOTE_REQUEST,
        decoded: 88,
    },
    Request {
        key: 53,
        name: "BeginQuorumEpoch",
        valid: within(0, 1),
        flexible: from(1),
        fields: BEGIN_QUORUM_EPOCH_REQUEST,
        decoded: 112,
    },
    Request {
        key: 54,
        name: "EndQuorumEpoch",
        valid: within(0, 1),
        flexible: from(1),
        fields: END_QUORUM_EPOCH_REQUEST,
        decoded: 104,
    },
    Request {
        key: 55,
        name: "DescribeQuorum",
        valid: within(0, 2),
        flexible: from(0),
        fields: DESCRIBE_QUORUM_REQUEST,
        decoded: 48,
    },
    Request {
        key: 56,
        name: "AlterPartition",
        valid: within(2, 3),
        flexible: from(0),
        fields: ALTER_PARTITION_REQUEST,
        decoded: 64,
    },
    Request {
        key: 57,
        name: "UpdateFeatures",
        valid: within(0, 2),
        flexible: from(0),
        fields: UPDATE_FEATURES_REQUEST,
        decoded: 56,
    },
    Request {
        key: 58,
        name: "Envelope",
        valid: within(0, 0),
        flexible: from(0),
        fields: ENVELOPE_REQUEST,
        decoded: 120,
    },
    Request {
        key: 59,
        name: "FetchSnapshot",
        valid: within(0, 1),
        flexible: from(0),
        fields: FETCH_SNAPSHOT_REQUEST,
        decoded: 88,
    },
    Request {
        key: 60,
        name: "DescribeCluster",
        valid: within(0, 2),
        flexible: from(0),
        fields: DESCRIBE_CLUSTER_REQUEST,
        decoded: 32,
    },
    Request {
        key: 61,
        name: "DescribeProducers",
        valid: within(0, 0),
        flexible: from(0),
        fields: DESCRIBE_PRODUCERS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 62,
        name: "BrokerRegistration",
        valid: within(0, 4),
        flexible: from(0),
        fields: BROKER_REGISTRATION_REQUEST,
        decoded: 192,
    },
    Request {
        key: 63,
        name: "BrokerHeartbeat",
        valid: within(0, 1),
        flexible: from(0),
        fields: BROKER_HEARTBEAT_REQUEST,
        decoded: 72,
    },
    Request {
        key: 64,
        name: "UnregisterBroker",
        valid: within(0, 0),
        flexible: from(0),
        fields: UNREGISTER_BROKER_REQUEST,
        decoded: 32,
    },
    Request {
        key: 65,
        name: "DescribeTransactions",
        valid: within(0, 0),
        flexible: from(0),
        fields: DESCRIBE_TRANSACTIONS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 66,
        name: "ListTransactions",
        valid: within(0, 2),
        flexible: from(0),
        fields: LIST_TRANSACTIONS_REQUEST,
        decoded: 112,
    },
    Request {
        key: 67,
        name: "AllocateProducerIds",
        valid: within(0, 0),
        flexible: from(0),
        fields: ALLOCATE_PRODUCER_IDS_REQUEST,
        decoded: 40,
    },
    Request {
        key: 68,
        name: "ConsumerGroupHeartbeat",
        valid: within(0, 1),
        flexible: from(0),
        fields: CONSUMER_GROUP_HEARTBEAT_REQUEST,
        decoded: 272,
    },
    Request {
        key: 69,
        name: "ConsumerGroupDescribe",
        valid: within(0, 1),
        flexible: from(0),
        fields: CONSUMER_GROUP_DESCRIBE_REQUEST,
        decoded: 56,
    },
    Request {
        key: 70,
        name: "ControllerRegistration",
        valid: within(0, 0),
        flexible: from(0),
        fields: CONTROLLER_REGISTRATION_REQUEST,
        decoded: 96,
    },
    Request {
        key: 71,
        name: "GetTelemetrySubscriptions",
        valid: within(0, 0),
        flexible: from(0),
        fields: GET_TELEMETRY_SUBSCRIPTIONS_REQUEST,
        decoded: 40,
    },
    Request {
        key: 72,
        name: "PushTelemetry",
        valid: within(0, 0),
        flexible: from(0),
        fields: PUSH_TELEMETRY_REQUEST,
        decoded: 80,
    },
    Request {
        key: 73,
        name: "AssignReplicasToDirs",
        valid: within(0, 0),
        flexible: from(0),
        fields: ASSIGN_REPLICAS_TO_DIRS_REQUEST,
        decoded: 64,
    },
    Request {
        key: 74,
        name: "ListConfigResources",
        valid: within(0, 1),
        flexible: from(0),
        fields: LIST_CONFIG_RESOURCES_REQUEST,
        decoded: 48,
    },
    Request {
        key: 75,
        name: "DescribeTopicPartitions",
        valid: within(0, 0),
        flexible: from(0),
        fields: DESCRIBE_TOPIC_PARTITIONS_REQUEST,
        decoded: 120,
    },
    Request {
        key: 76,
        name: "ShareGroupHeartbeat",
        valid: within(1, 1),
        flexible: from(0),
        fields: SHARE_GROUP_HEARTBEAT_REQUEST,
        decoded: 152,
    },
    Request {
        key: 77,
        name: "ShareGroupDescribe",
        valid: within(1, 1),
        flexible: from(0),
        fields: SHARE_GROUP_DESCRIBE_REQUEST,
        decoded: 56,
    },
    Request {
        key: 78,
        name: "ShareFetch",
        valid: within(1, 1),
        flexible: from(0),
        fields: SHARE_FETCH_REQUEST,
        decoded: 160,
    },
    Request {
        key: 79,
        name: "ShareAcknowledge",
        valid: within(1, 1),
        flexible: from(0),
        fields: SHARE_ACKNOWLEDGE_REQUEST,
        decoded: 120,
    },
    Request {
        key: 80,
        name: "AddRaftVoter",
        valid: within(0, 0),
        flexible: from(0),
        fields: ADD_RAFT_VOTER_REQUEST,
        decoded: 104,
    },
    Request {
        key: 81,
        name: "RemoveRaftVoter",
        valid: within(0, 0),
        flexible: from(0),
        fields: REMOVE_RAFT_VOTER_REQUEST,
        decoded: 80,
    },
    Request {
        key: 82,
        name: "UpdateRaftVoter",
        valid: within(0, 0),
        flexible: from(0),
        fields: UPDATE_RAFT_VOTER_REQUEST,
        decoded: 136,
    },
    Request {
        key: 83,
        name: "InitializeShareGroupState",
        valid: within(0, 0),
        flexible: from(0),
        fields: INITIALIZE_SHARE_GROUP_STATE_REQUEST,
        decoded: 80,
    },
    Request {
        key: 84,
        name: "ReadShareGroupState",
        valid: within(0, 0),
        flexible: from(0),
        fields: READ_SHARE_GROUP_STATE_REQUEST,
        decoded: 80,
    },
    Request {
        key: 85,
        name: "WriteShareGroupState",
        valid: within(0, 0),
        flexible: from(0),
        fields: WRITE_SHARE_GROUP_STATE_REQUEST,
        decoded: 80,
    },
    Request {
        key: 86,
        name: "DeleteShareGroupState",
        valid: within(0, 0),
        flexible: from(0),
        fields: DELETE_SHARE_GROUP_STATE_REQUEST,
        decoded: 80,
    },
    Request {
        key: 87,
        name: "ReadShareGroupStateSummary",
        valid: within(0, 0),
        flexible: from(0),
        fields: READ_SHARE_GROUP_STATE_SUMMARY_REQUEST,
        decoded: 80,
    },
    Request {
        key: 88,
        name: "StreamsGroupHeartbeat",
        valid: within(0, 0),
        flexible: from(0),
        fields: STREAMS_GROUP_HEARTBEAT_REQUEST,
        decoded: 464,
    },
    Request {
        key: 89,
        name: "StreamsGroupDescribe",
        valid: within(0, 0),
        flexible: from(0),
        fields: STREAMS_GROUP_DESCRIBE_REQUEST,
        decoded: 56,
    },
    Request {
        key: 90,
        name: "DescribeShareGroupOffsets",
        valid: within(0, 0),
        flexible: from(0),
        fields: DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST,
        decoded: 48,
    },
    Request {
        key: 91,
        name: "AlterShareGroupOffsets",
        valid: within(0, 0),
        flexible: from(0),
        fields: ALTER_SHARE_GROUP_OFFSETS_REQUEST,
        decoded: 80,
    },
    Request {
        key: 92,
        name: "DeleteShareGroupOffsets",
        valid: within(0, 0),
        flexible: from(0),
        fields: DELETE_SHARE_GROUP_OFFSETS_REQUEST,
        decoded: 80,
    },
];

static PRODUCE_REQUEST_PARTITION_PRODUCE_DATA: &[Field] =
    &[field("Index", from(0), Fixed(4)), field("Records", from(0), Binary).nullable(from(0))];

static PRODUCE_REQUEST_TOPIC_PRODUCE_DATA: &[Field] = &[
    field("Name", within(0, 12), Text),
    field("TopicId", from(13), Fixed(16)),
    field("PartitionData", from(0), Array(&Struct(PRODUCE_REQUEST_PARTITION_PRODUCE_DATA, 64))),
];

static PRODUCE_REQUEST: &[Field] = &[
    field("TransactionalId", from(3), Text).nullable(from(3)),
    field("Acks", from(0), Fixed(2)),
    field("TimeoutMs", from(0), Fixed(4)),
    field("TopicData", from(0), Array(&Struct(PRODUCE_REQUEST_TOPIC_PRODUCE_DATA, 96))),
];

static FETCH_REQUEST_REPLICA_STATE: &[Field] =
    &[field("ReplicaId", from(15), Fixed(4)), field("ReplicaEpoch", from(15), Fixed(8))];

static FETCH_REQUEST_FETCH_PARTITION: &[Field] = &[
    field("Partition", from(0), Fixed(4)),
    field("CurrentLeaderEpoch", from(9), Fixed(4)),
    field("FetchOffset", from(0), Fixed(8)),
    field("LastFetchedEpoch", from(12), Fixed(4)),
    field("LogStartOffset", from(5), Fixed(8)),
    field("PartitionMaxBytes", from(0), Fixed(4)),
    field("ReplicaDirectoryId", from(17), Fixed(16)).tagged(0, from(17)),
    field("HighWatermark", from(18), Fixed(8)).tagged(1, from(18)),
];

static FETCH_REQUEST_FETCH_TOPIC: &[Field] = &[
    field("Topic", within(0, 12), Text),
    field("TopicId", from(13), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(FETCH_REQUEST_FETCH_PARTITION, 80))),
];

static FETCH_REQUEST_FORGOTTEN_TOPIC: &[Field] = &[
    field("Topic", within(7, 12), Text),
    field("TopicId", from(13), Fixed(16)),
    field("Partitions", from(7), Array(&Fixed(4))),
];

static FETCH_REQUEST: &[Field] = &[
    field("ClusterId", from(12), Text).nullable(from(12)).tagged(0, from(12)),
    field("ReplicaId", within(0, 14), Fixed(4)),
    field("ReplicaState", from(15), Struct(FETCH_REQUEST_REPLICA_STATE, 40)).tagged(1, from(15)),
    field("MaxWaitMs", from(0), Fixed(4)),
    field("MinBytes", from(0), Fixed(4)),
    field("MaxBytes", from(3), Fixed(4)),
    field("IsolationLevel", from(4), Fixed(1)),
    field("SessionId", from(7), Fixed(4)),
    field("SessionEpoch", from(7), Fixed(4)),
    field("Topics", from(0), Array(&Struct(FETCH_REQUEST_FETCH_TOPIC, 96))),
    field("ForgottenTopicsData", from(7), Array(&Struct(FETCH_REQUEST_FORGOTTEN_TOPIC, 96))),
    field("RackId", from(11), Text),
];

static LIST_OFFSETS_REQUEST_LIST_OFFSETS_PARTITION: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("CurrentLeaderEpoch", from(4), Fixed(4)),
    field("Timestamp", from(0), Fixed(8)),
];

static LIST_OFFSETS_REQUEST_LIST_OFFSETS_TOPIC: &[Field] = &[
    field("Name", from(0), Text),
    field("Partitions", from(0), Array(&Struct(LIST_OFFSETS_REQUEST_LIST_OFFSETS_PARTITION, 40))),
];

static LIST_OFFSETS_REQUEST: &[Field] = &[
    field("ReplicaId", from(0), Fixed(4)),
    field("IsolationLevel", from(2), Fixed(1)),
    field("Topics", from(0), Array(&Struct(LIST_OFFSETS_REQUEST_LIST_OFFSETS_TOPIC, 80))),
    field("TimeoutMs", from(10), Fixed(4)),
];

static METADATA_REQUEST_METADATA_REQUEST_TOPIC: &[Field] =
    &[field("TopicId", from(10), Fixed(16)), field("Name", from(0), Text).nullable(from(10))];

static METADATA_REQUEST: &[Field] = &[
    field("Topics", from(0), Array(&Struct(METADATA_REQUEST_METADATA_REQUEST_TOPIC, 72))).nullable(from(1)),
    field("AllowAutoTopicCreation", from(4), Fixed(1)),
    field("IncludeClusterAuthorizedOperations", within(8, 10), Fixed(1)),
    field("IncludeTopicAuthorizedOperations", from(8), Fixed(1)),
];

static OFFSET_COMMIT_REQUEST_OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("CommittedOffset", from(0), Fixed(8)),
    field("CommittedLeaderEpoch", from(6), Fixed(4)),
    field("CommittedMetadata", from(0), Text).nullable(from(0)),
];

static OFFSET_COMMIT_REQUEST_OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("Name", within(0, 9), Text),
    field("TopicId", from(10), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(OFFSET_COMMIT_REQUEST_OFFSET_COMMIT_REQUEST_PARTITION, 72))),
];

static OFFSET_COMMIT_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("GenerationIdOrMemberEpoch", from(1), Fixed(4)),
    field("MemberId", from(1), Text),
    field("GroupInstanceId", from(7), Text).nullable(from(7)),
    field("RetentionTimeMs", within(2, 4), Fixed(8)),
    field("Topics", from(0), Array(&Struct(OFFSET_COMMIT_REQUEST_OFFSET_COMMIT_REQUEST_TOPIC, 96))),
];

static OFFSET_FETCH_REQUEST_OFFSET_FETCH_REQUEST_TOPIC: &[Field] =
    &[field("Name", within(0, 7), Text), field("PartitionIndexes", within(0, 7), Array(&Fixed(4)))];

static OFFSET_FETCH_REQUEST_OFFSET_FETCH_REQUEST_TOPICS: &[Field] = &[
    field("Name", within(8, 9), Text),
    field("TopicId", from(10), Fixed(16)),
    field("PartitionIndexes", from(8), Array(&Fixed(4))),
];

static OFFSET_FETCH_REQUEST_OFFSET_FETCH_REQUEST_GROUP: &[Field] = &[
    field("GroupId", from(8), Text),
    field("MemberId", from(9), Text).nullable(from(9)),
    field("MemberEpoch", from(9), Fixed(4)),
    field("Topics", from(8), Array(&Struct(OFFSET_FETCH_REQUEST_OFFSET_FETCH_REQUEST_TOPICS, 96)))
        .nullable(from(8)),
];

static OFFSET_FETCH_REQUEST: &[Field] = &[
    field("GroupId", within(0, 7), Text),
    field("Topics", within(0, 7), Array(&Struct(OFFSET_FETCH_REQUEST_OFFSET_FETCH_REQUEST_TOPIC, 80)))
        .nullable(within(2, 7)),
    field("Groups", from(8), Array(&Struct(OFFSET_FETCH_REQUEST_OFFSET_FETCH_REQUEST_GROUP, 120))),
    field("RequireStable", from(7), Fixed(1)),
];

static FIND_COORDINATOR_REQUEST: &[Field] = &[
    field("Key", within(0, 3), Text),
    field("KeyType", from(1), Fixed(1)),
    field("CoordinatorKeys", from(4), Array(&Text)),
];

static JOIN_GROUP_REQUEST_JOIN_GROUP_REQUEST_PROTOCOL: &[Field] =
    &[field("Name", from(0), Text), field("Metadata", from(0), Binary)];

static JOIN_GROUP_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("SessionTimeoutMs", from(0), Fixed(4)),
    field("RebalanceTimeoutMs", from(1), Fixed(4)),
    field("MemberId", from(0), Text),
    field("GroupInstanceId", from(5), Text).nullable(from(5)),
    field("ProtocolType", from(0), Text),
    field("Protocols", from(0), Array(&Struct(JOIN_GROUP_REQUEST_JOIN_GROUP_REQUEST_PROTOCOL, 88))),
    field("Reason", from(8), Text).nullable(from(8)),
];

static HEARTBEAT_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("GenerationId", from(0), Fixed(4)),
    field("MemberId", from(0), Text),
    field("GroupInstanceId", from(3), Text).nullable(from(3)),
];

static LEAVE_GROUP_REQUEST_MEMBER_IDENTITY: &[Field] = &[
    field("MemberId", from(3), Text),
    field("GroupInstanceId", from(3), Text).nullable(from(3)),
    field("Reason", from(5), Text).nullable(from(5)),
];

static LEAVE_GROUP_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("MemberId", within(0, 2), Text),
    field("Members", from(3), Array(&Struct(LEAVE_GROUP_REQUEST_MEMBER_IDENTITY, 120))),
];

static SYNC_GROUP_REQUEST_SYNC_GROUP_REQUEST_ASSIGNMENT: &[Field] =
    &[field("MemberId", from(0), Text), field("Assignment", from(0), Binary)];

static SYNC_GROUP_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("GenerationId", from(0), Fixed(4)),
    field("MemberId", from(0), Text),
    field("GroupInstanceId", from(3), Text).nullable(from(3)),
    field("ProtocolType", from(5), Text).nullable(from(5)),
    field("ProtocolName", from(5), Text).nullable(from(5)),
    field("Assignments", from(0), Array(&Struct(SYNC_GROUP_REQUEST_SYNC_GROUP_REQUEST_ASSIGNMENT, 88))),
];

static DESCRIBE_GROUPS_REQUEST: &[Field] =
    &[field("Groups", from(0), Array(&Text)), field("IncludeAuthorizedOperations", from(3), Fixed(1))];

static LIST_GROUPS_REQUEST: &[Field] =
    &[field("StatesFilter", from(4), Array(&Text)), field("TypesFilter", from(5), Array(&Text))];

static SASL_HANDSHAKE_REQUEST: &[Field] = &[field("Mechanism", from(0), Text)];

static API_VERSIONS_REQUEST: &[Field] =
    &[field("ClientSoftwareName", from(3), Text), field("ClientSoftwareVersion", from(3), Text)];

static CREATE_TOPICS_REQUEST_CREATABLE_REPLICA_ASSIGNMENT: &[Field] =
    &[field("PartitionIndex", from(0), Fixed(4)), field("BrokerIds", from(0), Array(&Fixed(4)))];

static CREATE_TOPICS_REQUEST_CREATABLE_TOPIC_CONFIG: &[Field] =
    &[field("Name", from(0), Text), field("Value", from(0), Text).nullable(from(0))];

static CREATE_TOPICS_REQUEST_CREATABLE_TOPIC: &[Field] = &[
    field("Name", from(0), Text),
    field("NumPartitions", from(0), Fixed(4)),
    field("ReplicationFactor", from(0), Fixed(2)),
    field("Assignments", from(0), Array(&Struct(CREATE_TOPICS_REQUEST_CREATABLE_REPLICA_ASSIGNMENT, 56))),
    field("Configs", from(0), Array(&Struct(CREATE_TOPICS_REQUEST_CREATABLE_TOPIC_CONFIG, 88))),
];

static CREATE_TOPICS_REQUEST: &[Field] = &[
    field("Topics", from(0), Array(&Struct(CREATE_TOPICS_REQUEST_CREATABLE_TOPIC, 112))),
    field("timeoutMs", from(0), Fixed(4)),
    field("validateOnly", from(1), Fixed(1)),
];

static DELETE_TOPICS_REQUEST_DELETE_TOPIC_STATE: &[Field] =
    &[field("Name", from(6), Text).nullable(from(6)), field("TopicId", from(6), Fixed(16))];

static DELETE_TOPICS_REQUEST: &[Field] = &[
    field("Topics", from(6), Array(&Struct(DELETE_TOPICS_REQUEST_DELETE_TOPIC_STATE, 72))),
    field("TopicNames", within(0, 5), Array(&Text)),
    field("TimeoutMs", from(0), Fixed(4)),
];

static DELETE_RECORDS_REQUEST_DELETE_RECORDS_PARTITION: &[Field] =
    &[field("PartitionIndex", from(0), Fixed(4)), field("Offset", from(0), Fixed(8))];

static DELETE_RECORDS_REQUEST_DELETE_RECORDS_TOPIC: &[Field] = &[
    field("Name", from(0), Text),
    field("Partitions", from(0), Array(&Struct(DELETE_RECORDS_REQUEST_DELETE_RECORDS_PARTITION, 40))),
];

static DELETE_RECORDS_REQUEST: &[Field] = &[
    field("Topics", from(0), Array(&Struct(DELETE_RECORDS_REQUEST_DELETE_RECORDS_TOPIC, 80))),
    field("TimeoutMs", from(0), Fixed(4)),
];

static INIT_PRODUCER_ID_REQUEST: &[Field] = &[
    field("TransactionalId", from(0), Text).nullable(from(0)),
    field("TransactionTimeoutMs", from(0), Fixed(4)),
    field("ProducerId", from(3), Fixed(8)),
    field("ProducerEpoch", from(3), Fixed(2)),
    field("Enable2Pc", from(6), Fixed(1)),
    field("KeepPreparedTxn", from(6), Fixed(1)),
];

static OFFSET_FOR_LEADER_EPOCH_REQUEST_OFFSET_FOR_LEADER_PARTITION: &[Field] = &[
    field("Partition", from(0), Fixed(4)),
    field("CurrentLeaderEpoch", from(2), Fixed(4)),
    field("LeaderEpoch", from(0), Fixed(4)),
];

static OFFSET_FOR_LEADER_EPOCH_REQUEST_OFFSET_FOR_LEADER_TOPIC: &[Field] = &[
    field("Topic", from(0), Text),
    field(
        "Partitions",
        from(0),
        Array(&Struct(OFFSET_FOR_LEADER_EPOCH_REQUEST_OFFSET_FOR_LEADER_PARTITION, 40)),
    ),
];

static OFFSET_FOR_LEADER_EPOCH_REQUEST: &[Field] = &[
    field("ReplicaId", from(3), Fixed(4)),
    field("Topics", from(0), Array(&Struct(OFFSET_FOR_LEADER_EPOCH_REQUEST_OFFSET_FOR_LEADER_TOPIC, 80))),
];

static ADD_PARTITIONS_TO_TXN_REQUEST_ADD_PARTITIONS_TO_TXN_TOPIC: &[Field] =
    &[field("Name", from(0), Text), field("Partitions", from(0), Array(&Fixed(4)))];

static ADD_PARTITIONS_TO_TXN_REQUEST_ADD_PARTITIONS_TO_TXN_TRANSACTION: &[Field] = &[
    field("TransactionalId", from(4), Text),
    field("ProducerId", from(4), Fixed(8)),
    field("ProducerEpoch", from(4), Fixed(2)),
    field("VerifyOnly", from(4), Fixed(1)),
    field("Topics", from(4), Array(&Struct(ADD_PARTITIONS_TO_TXN_REQUEST_ADD_PARTITIONS_TO_TXN_TOPIC, 80))),
];

static ADD_PARTITIONS_TO_TXN_REQUEST: &[Field] = &[
    field(
        "Transactions",
        from(4),
        Array(&Struct(ADD_PARTITIONS_TO_TXN_REQUEST_ADD_PARTITIONS_TO_TXN_TRANSACTION, 96)),
    ),
    field("V3AndBelowTransactionalId", within(0, 3), Text),
    field("V3AndBelowProducerId", within(0, 3), Fixed(8)),
    field("V3AndBelowProducerEpoch", within(0, 3), Fixed(2)),
    field(
        "V3AndBelowTopics",
        within(0, 3),
        Array(&Struct(ADD_PARTITIONS_TO_TXN_REQUEST_ADD_PARTITIONS_TO_TXN_TOPIC, 80)),
    ),
];

static ADD_OFFSETS_TO_TXN_REQUEST: &[Field] = &[
    field("TransactionalId", from(0), Text),
    field("ProducerId", from(0), Fixed(8)),
    field("ProducerEpoch", from(0), Fixed(2)),
    field("GroupId", from(0), Text),
];

static END_TXN_REQUEST: &[Field] = &[
    field("TransactionalId", from(0), Text),
    field("ProducerId", from(0), Fixed(8)),
    field("ProducerEpoch", from(0), Fixed(2)),
    field("Committed", from(0), Fixed(1)),
];

static WRITE_TXN_MARKERS_REQUEST_WRITABLE_TXN_MARKER_TOPIC: &[Field] =
    &[field("Name", from(0), Text), field("PartitionIndexes", from(0), Array(&Fixed(4)))];

static WRITE_TXN_MARKERS_REQUEST_WRITABLE_TXN_MARKER: &[Field] = &[
    field("ProducerId", from(0), Fixed(8)),
    field("ProducerEpoch", from(0), Fixed(2)),
    field("TransactionResult", from(0), Fixed(1)),
    field("Topics", from(0), Array(&Struct(WRITE_TXN_MARKERS_REQUEST_WRITABLE_TXN_MARKER_TOPIC, 80))),
    field("CoordinatorEpoch", from(0), Fixed(4)),
];

static WRITE_TXN_MARKERS_REQUEST: &[Field] =
    &[field("Markers", from(0), Array(&Struct(WRITE_TXN_MARKERS_REQUEST_WRITABLE_TXN_MARKER, 64)))];

static TXN_OFFSET_COMMIT_REQUEST_TXN_OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("CommittedOffset", from(0), Fixed(8)),
    field("CommittedLeaderEpoch", from(2), Fixed(4)),
    field("CommittedMetadata", from(0), Text).nullable(from(0)),
];

static TXN_OFFSET_COMMIT_REQUEST_TXN_OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("Name", from(0), Text),
    field(
        "Partitions",
        from(0),
        Array(&Struct(TXN_OFFSET_COMMIT_REQUEST_TXN_OFFSET_COMMIT_REQUEST_PARTITION, 72)),
    ),
];

static TXN_OFFSET_COMMIT_REQUEST: &[Field] = &[
    field("TransactionalId", from(0), Text),
    field("GroupId", from(0), Text),
    field("ProducerId", from(0), Fixed(8)),
    field("ProducerEpoch", from(0), Fixed(2)),
    field("GenerationId", from(3), Fixed(4)),
    field("MemberId", from(3), Text),
    field("GroupInstanceId", from(3), Text).nullable(from(3)),
    field("Topics", from(0), Array(&Struct(TXN_OFFSET_COMMIT_REQUEST_TXN_OFFSET_COMMIT_REQUEST_TOPIC, 80))),
];

static DESCRIBE_ACLS_REQUEST: &[Field] = &[
    field("ResourceTypeFilter", from(0), Fixed(1)),
    field("ResourceNameFilter", from(0), Text).nullable(from(0)),
    field("PatternTypeFilter", from(1), Fixed(1)),
    field("PrincipalFilter", from(0), Text).nullable(from(0)),
    field("HostFilter", from(0), Text).nullable(from(0)),
    field("Operation", from(0), Fixed(1)),
    field("PermissionType", from(0), Fixed(1)),
];

static CREATE_ACLS_REQUEST_ACL_CREATION: &[Field] = &[
    field("ResourceType", from(0), Fixed(1)),
    field("ResourceName", from(0), Text),
    field("ResourcePatternType", from(1), Fixed(1)),
    field("Principal", from(0), Text),
    field("Host", from(0), Text),
    field("Operation", from(0), Fixed(1)),
    field("PermissionType", from(0), Fixed(1)),
];

static CREATE_ACLS_REQUEST: &[Field] =
    &[field("Creations", from(0), Array(&Struct(CREATE_ACLS_REQUEST_ACL_CREATION, 128)))];

static DELETE_ACLS_REQUEST_DELETE_ACLS_FILTER: &[Field] = &[
    field("ResourceTypeFilter", from(0), Fixed(1)),
    field("ResourceNameFilter", from(0), Text).nullable(from(0)),
    field("PatternTypeFilter", from(1), Fixed(1)),
    field("PrincipalFilter", from(0), Text).nullable(from(0)),
    field("HostFilter", from(0), Text).nullable(from(0)),
    field("Operation", from(0), Fixed(1)),
    field("PermissionType", from(0), Fixed(1)),
];

static DELETE_ACLS_REQUEST: &[Field] =
    &[field("Filters", from(0), Array(&Struct(DELETE_ACLS_REQUEST_DELETE_ACLS_FILTER, 128)))];

static DESCRIBE_CONFIGS_REQUEST_DESCRIBE_CONFIGS_RESOURCE: &[Field] = &[
    field("ResourceType", from(0), Fixed(1)),
    field("ResourceName", from(0), Text),
    field("ConfigurationKeys", from(0), Array(&Text)).nullable(from(0)),
];

static DESCRIBE_CONFIGS_REQUEST: &[Field] = &[
    field("Resources", from(0), Array(&Struct(DESCRIBE_CONFIGS_REQUEST_DESCRIBE_CONFIGS_RESOURCE, 88))),
    field("IncludeSynonyms", from(1), Fixed(1)),
    field("IncludeDocumentation", from(3), Fixed(1)),
];

static ALTER_CONFIGS_REQUEST_ALTERABLE_CONFIG: &[Field] =
    &[field("Name", from(0), Text), field("Value", from(0), Text).nullable(from(0))];

static ALTER_CONFIGS_REQUEST_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("ResourceType", from(0), Fixed(1)),
    field("ResourceName", from(0), Text),
    field("Configs", from(0), Array(&Struct(ALTER_CONFIGS_REQUEST_ALTERABLE_CONFIG, 88))),
];

static ALTER_CONFIGS_REQUEST: &[Field] = &[
    field("Resources", from(0), Array(&Struct(ALTER_CONFIGS_REQUEST_ALTER_CONFIGS_RESOURCE, 88))),
    field("ValidateOnly", from(0), Fixed(1)),
];

static ALTER_REPLICA_LOG_DIRS_REQUEST_ALTER_REPLICA_LOG_DIR_TOPIC: &[Field] =
    &[field("Name", from(0), Text), field("Partitions", from(0), Array(&Fixed(4)))];

static ALTER_REPLICA_LOG_DIRS_REQUEST_ALTER_REPLICA_LOG_DIR: &[Field] = &[
    field("Path", from(0), Text),
    field("Topics", from(0), Array(&Struct(ALTER_REPLICA_LOG_DIRS_REQUEST_ALTER_REPLICA_LOG_DIR_TOPIC, 80))),
];

static ALTER_REPLICA_LOG_DIRS_REQUEST: &[Field] =
    &[field("Dirs", from(0), Array(&Struct(ALTER_REPLICA_LOG_DIRS_REQUEST_ALTER_REPLICA_LOG_DIR, 80)))];

static DESCRIBE_LOG_DIRS_REQUEST_DESCRIBABLE_LOG_DIR_TOPIC: &[Field] =
    &[field("Topic", from(0), Text), field("Partitions", from(0), Array(&Fixed(4)))];

static DESCRIBE_LOG_DIRS_REQUEST: &[Field] =
    &[field("Topics", from(0), Array(&Struct(DESCRIBE_LOG_DIRS_REQUEST_DESCRIBABLE_LOG_DIR_TOPIC, 80)))
        .nullable(from(0))];

static SASL_AUTHENTICATE_REQUEST: &[Field] = &[field("AuthBytes", from(0), Binary)];

static CREATE_PARTITIONS_REQUEST_CREATE_PARTITIONS_ASSIGNMENT: &[Field] =
    &[field("BrokerIds", from(0), Array(&Fixed(4)))];

static CREATE_PARTITIONS_REQUEST_CREATE_PARTITIONS_TOPIC: &[Field] = &[
    field("Name", from(0), Text),
    field("Count", from(0), Fixed(4)),
    field("Assignments", from(0), Array(&Struct(CREATE_PARTITIONS_REQUEST_CREATE_PARTITIONS_ASSIGNMENT, 48)))
        .nullable(from(0)),
];

static CREATE_PARTITIONS_REQUEST: &[Field] = &[
    field("Topics", from(0), Array(&Struct(CREATE_PARTITIONS_REQUEST_CREATE_PARTITIONS_TOPIC, 88))),
    field("TimeoutMs", from(0), Fixed(4)),
    field("ValidateOnly", from(0), Fixed(1)),
];

static CREATE_DELEGATION_TOKEN_REQUEST_CREATABLE_RENEWERS: &[Field] =
    &[field("PrincipalType", from(0), Text), field("PrincipalName", from(0), Text)];

static CREATE_DELEGATION_TOKEN_REQUEST: &[Field] = &[
    field("OwnerPrincipalType", from(3), Text).nullable(from(3)),
    field("OwnerPrincipalName", from(3), Text).nullable(from(3)),
    field("Renewers", from(0), Array(&Struct(CREATE_DELEGATION_TOKEN_REQUEST_CREATABLE_RENEWERS, 88))),
    field("MaxLifetimeMs", from(0), Fixed(8)),
];

static RENEW_DELEGATION_TOKEN_REQUEST: &[Field] =
    &[field("Hmac", from(0), Binary), field("RenewPeriodMs", from(0), Fixed(8))];

static EXPIRE_DELEGATION_TOKEN_REQUEST: &[Field] =
    &[field("Hmac", from(0), Binary), field("ExpiryTimePeriodMs", from(0), Fixed(8))];

static DESCRIBE_DELEGATION_TOKEN_REQUEST_DESCRIBE_DELEGATION_TOKEN_OWNER: &[Field] =
    &[field("PrincipalType", from(0), Text), field("PrincipalName", from(0), Text)];

static DESCRIBE_DELEGATION_TOKEN_REQUEST: &[Field] = &[field(
    "Owners",
    from(0),
    Array(&Struct(DESCRIBE_DELEGATION_TOKEN_REQUEST_DESCRIBE_DELEGATION_TOKEN_OWNER, 88)),
)
.nullable(from(0))];

static DELETE_GROUPS_REQUEST: &[Field] = &[field("GroupsNames", from(0), Array(&Text))];

static ELECT_LEADERS_REQUEST_TOPIC_PARTITIONS: &[Field] =
    &[field("Topic", from(0), Text), field("Partitions", from(0), Array(&Fixed(4)))];

static ELECT_LEADERS_REQUEST: &[Field] = &[
    field("ElectionType", from(1), Fixed(1)),
    field("TopicPartitions", from(0), Array(&Struct(ELECT_LEADERS_REQUEST_TOPIC_PARTITIONS, 80)))
        .nullable(from(0)),
    field("TimeoutMs", from(0), Fixed(4)),
];

static INCREMENTAL_ALTER_CONFIGS_REQUEST_ALTERABLE_CONFIG: &[Field] = &[
    field("Name", from(0), Text),
    field("ConfigOperation", from(0), Fixed(1)),
    field("Value", from(0), Text).nullable(from(0)),
];

static INCREMENTAL_ALTER_CONFIGS_REQUEST_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("ResourceType", from(0), Fixed(1)),
    field("ResourceName", from(0), Text),
    field("Configs", from(0), Array(&Struct(INCREMENTAL_ALTER_CONFIGS_REQUEST_ALTERABLE_CONFIG, 96))),
];

static INCREMENTAL_ALTER_CONFIGS_REQUEST: &[Field] = &[
    field("Resources", from(0), Array(&Struct(INCREMENTAL_ALTER_CONFIGS_REQUEST_ALTER_CONFIGS_RESOURCE, 88))),
    field("ValidateOnly", from(0), Fixed(1)),
];

static ALTER_PARTITION_REASSIGNMENTS_REQUEST_REASSIGNABLE_PARTITION: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("Replicas", from(0), Array(&Fixed(4))).nullable(from(0)),
];

static ALTER_PARTITION_REASSIGNMENTS_REQUEST_REASSIGNABLE_TOPIC: &[Field] = &[
    field("Name", from(0), Text),
    field(
        "Partitions",
        from(0),
        Array(&Struct(ALTER_PARTITION_REASSIGNMENTS_REQUEST_REASSIGNABLE_PARTITION, 56)),
    ),
];

static ALTER_PARTITION_REASSIGNMENTS_REQUEST: &[Field] = &[
    field("TimeoutMs", from(0), Fixed(4)),
    field("AllowReplicationFactorChange", from(1), Fixed(1)),
    field("Topics", from(0), Array(&Struct(ALTER_PARTITION_REASSIGNMENTS_REQUEST_REASSIGNABLE_TOPIC, 80))),
];

static LIST_PARTITION_REASSIGNMENTS_REQUEST_LIST_PARTITION_REASSIGNMENTS_TOPICS: &[Field] =
    &[field("Name", from(0), Text), field("PartitionIndexes", from(0), Array(&Fixed(4)))];

static LIST_PARTITION_REASSIGNMENTS_REQUEST: &[Field] = &[
    field("TimeoutMs", from(0), Fixed(4)),
    field(
        "Topics",
        from(0),
        Array(&Struct(LIST_PARTITION_REASSIGNMENTS_REQUEST_LIST_PARTITION_REASSIGNMENTS_TOPICS, 80)),
    )
    .nullable(from(0)),
];

static OFFSET_DELETE_REQUEST_OFFSET_DELETE_REQUEST_PARTITION: &[Field] =
    &[field("PartitionIndex", from(0), Fixed(4))];

static OFFSET_DELETE_REQUEST_OFFSET_DELETE_REQUEST_TOPIC: &[Field] = &[
    field("Name", from(0), Text),
    field("Partitions", from(0), Array(&Struct(OFFSET_DELETE_REQUEST_OFFSET_DELETE_REQUEST_PARTITION, 32))),
];

static OFFSET_DELETE_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("Topics", from(0), Array(&Struct(OFFSET_DELETE_REQUEST_OFFSET_DELETE_REQUEST_TOPIC, 80))),
];

static DESCRIBE_CLIENT_QUOTAS_REQUEST_COMPONENT_DATA: &[Field] = &[
    field("EntityType", from(0), Text),
    field("MatchType", from(0), Fixed(1)),
    field("Match", from(0), Text).nullable(from(0)),
];

static DESCRIBE_CLIENT_QUOTAS_REQUEST: &[Field] = &[
    field("Components", from(0), Array(&Struct(DESCRIBE_CLIENT_QUOTAS_REQUEST_COMPONENT_DATA, 96))),
    field("Strict", from(0), Fixed(1)),
];

static ALTER_CLIENT_QUOTAS_REQUEST_ENTITY_DATA: &[Field] =
    &[field("EntityType", from(0), Text), field("EntityName", from(0), Text).nullable(from(0))];

static ALTER_CLIENT_QUOTAS_REQUEST_OP_DATA: &[Field] =
    &[field("Key", from(0), Text), field("Value", from(0), Fixed(8)), field("Remove", from(0), Fixed(1))];

static ALTER_CLIENT_QUOTAS_REQUEST_ENTRY_DATA: &[Field] = &[
    field("Entity", from(0), Array(&Struct(ALTER_CLIENT_QUOTAS_REQUEST_ENTITY_DATA, 88))),
    field("Ops", from(0), Array(&Struct(ALTER_CLIENT_QUOTAS_REQUEST_OP_DATA, 72))),
];

static ALTER_CLIENT_QUOTAS_REQUEST: &[Field] = &[
    field("Entries", from(0), Array(&Struct(ALTER_CLIENT_QUOTAS_REQUEST_ENTRY_DATA, 72))),
    field("ValidateOnly", from(0), Fixed(1)),
];

static DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST_USER_NAME: &[Field] = &[field("Name", from(0), Text)];

static DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST: &[Field] =
    &[field("Users", from(0), Array(&Struct(DESCRIBE_USER_SCRAM_CREDENTIALS_REQUEST_USER_NAME, 56)))
        .nullable(from(0))];

static ALTER_USER_SCRAM_CREDENTIALS_REQUEST_SCRAM_CREDENTIAL_DELETION: &[Field] =
    &[field("Name", from(0), Text), field("Mechanism", from(0), Fixed(1))];

static ALTER_USER_SCRAM_CREDENTIALS_REQUEST_SCRAM_CREDENTIAL_UPSERTION: &[Field] = &[
    field("Name", from(0), Text),
    field("Mechanism", from(0), Fixed(1)),
    field("Iterations", from(0), Fixed(4)),
    field("Salt", from(0), Binary),
    field("SaltedPassword", from(0), Binary),
];

static ALTER_USER_SCRAM_CREDENTIALS_REQUEST: &[Field] = &[
    field(
        "Deletions",
        from(0),
        Array(&Struct(ALTER_USER_SCRAM_CREDENTIALS_REQUEST_SCRAM_CREDENTIAL_DELETION, 64)),
    ),
    field(
        "Upsertions",
        from(0),
        Array(&Struct(ALTER_USER_SCRAM_CREDENTIALS_REQUEST_SCRAM_CREDENTIAL_UPSERTION, 128)),
    ),
];

static VOTE_REQUEST_PARTITION_DATA: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("ReplicaEpoch", from(0), Fixed(4)),
    field("ReplicaId", from(0), Fixed(4)),
    field("ReplicaDirectoryId", from(1), Fixed(16)),
    field("VoterDirectoryId", from(1), Fixed(16)),
    field("LastOffsetEpoch", from(0), Fixed(4)),
    field("LastOffset", from(0), Fixed(8)),
    field("PreVote", from(2), Fixed(1)),
];

static VOTE_REQUEST_TOPIC_DATA: &[Field] = &[
    field("TopicName", from(0), Text),
    field("Partitions", from(0), Array(&Struct(VOTE_REQUEST_PARTITION_DATA, 88))),
];

static VOTE_REQUEST: &[Field] = &[
    field("ClusterId", from(0), Text).nullable(from(0)),
    field("VoterId", from(1), Fixed(4)),
    field("Topics", from(0), Array(&Struct(VOTE_REQUEST_TOPIC_DATA, 80))),
];

static BEGIN_QUORUM_EPOCH_REQUEST_PARTITION_DATA: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("VoterDirectoryId", from(1), Fixed(16)),
    field("LeaderId", from(0), Fixed(4)),
    field("LeaderEpoch", from(0), Fixed(4)),
];

static BEGIN_QUORUM_EPOCH_REQUEST_TOPIC_DATA: &[Field] = &[
    field("TopicName", from(0), Text),
    field("Partitions", from(0), Array(&Struct(BEGIN_QUORUM_EPOCH_REQUEST_PARTITION_DATA, 56))),
];

static BEGIN_QUORUM_EPOCH_REQUEST_LEADER_ENDPOINT: &[Field] =
    &[field("Name", from(1), Text), field("Host", from(1), Text), field("Port", from(1), Fixed(2))];

static BEGIN_QUORUM_EPOCH_REQUEST: &[Field] = &[
    field("ClusterId", from(0), Text).nullable(from(0)),
    field("VoterId", from(1), Fixed(4)),
    field("Topics", from(0), Array(&Struct(BEGIN_QUORUM_EPOCH_REQUEST_TOPIC_DATA, 80))),
    field("LeaderEndpoints", from(1), Array(&Struct(BEGIN_QUORUM_EPOCH_REQUEST_LEADER_ENDPOINT, 96))),
];

static END_QUORUM_EPOCH_REQUEST_REPLICA_INFO: &[Field] =
    &[field("CandidateId", from(1), Fixed(4)), field("CandidateDirectoryId", from(1), Fixed(16))];

static END_QUORUM_EPOCH_REQUEST_PARTITION_DATA: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("LeaderId", from(0), Fixed(4)),
    field("LeaderEpoch", from(0), Fixed(4)),
    field("PreferredSuccessors", within(0, 0), Array(&Fixed(4))),
    field("PreferredCandidates", from(1), Array(&Struct(END_QUORUM_EPOCH_REQUEST_REPLICA_INFO, 48))),
];

static END_QUORUM_EPOCH_REQUEST_TOPIC_DATA: &[Field] = &[
    field("TopicName", from(0), Text),
    field("Partitions", from(0), Array(&Struct(END_QUORUM_EPOCH_REQUEST_PARTITION_DATA, 88))),
];

static END_QUORUM_EPOCH_REQUEST_LEADER_ENDPOINT: &[Field] =
    &[field("Name", from(1), Text), field("Host", from(1), Text), field("Port", from(1), Fixed(2))];

static END_QUORUM_EPOCH_REQUEST: &[Field] = &[
    field("ClusterId", from(0), Text).nullable(from(0)),
    field("Topics", from(0), Array(&Struct(END_QUORUM_EPOCH_REQUEST_TOPIC_DATA, 80))),
    field("LeaderEndpoints", from(1), Array(&Struct(END_QUORUM_EPOCH_REQUEST_LEADER_ENDPOINT, 96))),
];

static DESCRIBE_QUORUM_REQUEST_PARTITION_DATA: &[Field] = &[field("PartitionIndex", from(0), Fixed(4))];

static DESCRIBE_QUORUM_REQUEST_TOPIC_DATA: &[Field] = &[
    field("TopicName", from(0), Text),
    field("Partitions", from(0), Array(&Struct(DESCRIBE_QUORUM_REQUEST_PARTITION_DATA, 32))),
];

static DESCRIBE_QUORUM_REQUEST: &[Field] =
    &[field("Topics", from(0), Array(&Struct(DESCRIBE_QUORUM_REQUEST_TOPIC_DATA, 80)))];

static ALTER_PARTITION_REQUEST_BROKER_STATE: &[Field] =
    &[field("BrokerId", from(3), Fixed(4)), field("BrokerEpoch", from(3), Fixed(8))];

static ALTER_PARTITION_REQUEST_PARTITION_DATA: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("LeaderEpoch", from(0), Fixed(4)),
    field("NewIsr", within(0, 2), Array(&Fixed(4))),
    field("NewIsrWithEpochs", from(3), Array(&Struct(ALTER_PARTITION_REQUEST_BROKER_STATE, 40))),
    field("LeaderRecoveryState", from(1), Fixed(1)),
    field("PartitionEpoch", from(0), Fixed(4)),
];

static ALTER_PARTITION_REQUEST_TOPIC_DATA: &[Field] = &[
    field("TopicId", from(2), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(ALTER_PARTITION_REQUEST_PARTITION_DATA, 88))),
];

static ALTER_PARTITION_REQUEST: &[Field] = &[
    field("BrokerId", from(0), Fixed(4)),
    field("BrokerEpoch", from(0), Fixed(8)),
    field("Topics", from(0), Array(&Struct(ALTER_PARTITION_REQUEST_TOPIC_DATA, 64))),
];

static UPDATE_FEATURES_REQUEST_FEATURE_UPDATE_KEY: &[Field] = &[
    field("Feature", from(0), Text),
    field("MaxVersionLevel", from(0), Fixed(2)),
    field("AllowDowngrade", within(0, 0), Fixed(1)),
    field("UpgradeType", from(1), Fixed(1)),
];

static UPDATE_FEATURES_REQUEST: &[Field] = &[
    field("timeoutMs", from(0), Fixed(4)),
    field("FeatureUpdates", from(0), Array(&Struct(UPDATE_FEATURES_REQUEST_FEATURE_UPDATE_KEY, 64))),
    field("ValidateOnly", from(1), Fixed(1)),
];

static ENVELOPE_REQUEST: &[Field] = &[
    field("RequestData", from(0), Binary),
    field("RequestPrincipal", from(0), Binary).nullable(from(0)),
    field("ClientHostAddress", from(0), Binary),
];

static FETCH_SNAPSHOT_REQUEST_SNAPSHOT_ID: &[Field] =
    &[field("EndOffset", from(0), Fixed(8)), field("Epoch", from(0), Fixed(4))];

static FETCH_SNAPSHOT_REQUEST_PARTITION_SNAPSHOT: &[Field] = &[
    field("Partition", from(0), Fixed(4)),
    field("CurrentLeaderEpoch", from(0), Fixed(4)),
    field("SnapshotId", from(0), Struct(FETCH_SNAPSHOT_REQUEST_SNAPSHOT_ID, 40)),
    field("Position", from(0), Fixed(8)),
    field("ReplicaDirectoryId", from(1), Fixed(16)).tagged(0, from(1)),
];

static FETCH_SNAPSHOT_REQUEST_TOPIC_SNAPSHOT: &[Field] = &[
    field("Name", from(0), Text),
    field("Partitions", from(0), Array(&Struct(FETCH_SNAPSHOT_REQUEST_PARTITION_SNAPSHOT, 96))),
];

static FETCH_SNAPSHOT_REQUEST: &[Field] = &[
    field("ClusterId", from(0), Text).nullable(from(0)).tagged(0, from(0)),
    field("ReplicaId", from(0), Fixed(4)),
    field("MaxBytes", from(0), Fixed(4)),
    field("Topics", from(0), Array(&Struct(FETCH_SNAPSHOT_REQUEST_TOPIC_SNAPSHOT, 80))),
];

static DESCRIBE_CLUSTER_REQUEST: &[Field] = &[
    field("IncludeClusterAuthorizedOperations", from(0), Fixed(1)),
    field("EndpointType", from(1), Fixed(1)),
    field("IncludeFencedBrokers", from(2), Fixed(1)),
];

static DESCRIBE_PRODUCERS_REQUEST_TOPIC_REQUEST: &[Field] =
    &[field("Name", from(0), Text), field("PartitionIndexes", from(0), Array(&Fixed(4)))];

static DESCRIBE_PRODUCERS_REQUEST: &[Field] =
    &[field("Topics", from(0), Array(&Struct(DESCRIBE_PRODUCERS_REQUEST_TOPIC_REQUEST, 80)))];

static BROKER_REGISTRATION_REQUEST_LISTENER: &[Field] = &[
    field("Name", from(0), Text),
    field("Host", from(0), Text),
    field("Port", from(0), Fixed(2)),
    field("SecurityProtocol", from(0), Fixed(2)),
];

static BROKER_REGISTRATION_REQUEST_FEATURE: &[Field] = &[
    field("Name", from(0), Text),
    field("MinSupportedVersion", from(0), Fixed(2)),
    field("MaxSupportedVersion", from(0), Fixed(2)),
];

static BROKER_REGISTRATION_REQUEST: &[Field] = &[
    field("BrokerId", from(0), Fixed(4)),
    field("ClusterId", from(0), Text),
    field("IncarnationId", from(0), Fixed(16)),
    field("Listeners", from(0), Array(&Struct(BROKER_REGISTRATION_REQUEST_LISTENER, 96))),
    field("Features", from(0), Array(&Struct(BROKER_REGISTRATION_REQUEST_FEATURE, 64))),
    field("Rack", from(0), Text).nullable(from(0)),
    field("IsMigratingZkBroker", from(1), Fixed(1)),
    field("LogDirs", from(2), Array(&Fixed(16))),
    field("PreviousBrokerEpoch", from(3), Fixed(8)),
];

static BROKER_HEARTBEAT_REQUEST: &[Field] = &[
    field("BrokerId", from(0), Fixed(4)),
    field("BrokerEpoch", from(0), Fixed(8)),
    field("CurrentMetadataOffset", from(0), Fixed(8)),
    field("WantFence", from(0), Fixed(1)),
    field("WantShutDown", from(0), Fixed(1)),
    field("OfflineLogDirs", from(1), Array(&Fixed(16))).tagged(0, from(1)),
];

static UNREGISTER_BROKER_REQUEST: &[Field] = &[field("BrokerId", from(0), Fixed(4))];

static DESCRIBE_TRANSACTIONS_REQUEST: &[Field] = &[field("TransactionalIds", from(0), Array(&Text))];

static LIST_TRANSACTIONS_REQUEST: &[Field] = &[
    field("StateFilters", from(0), Array(&Text)),
    field("ProducerIdFilters", from(0), Array(&Fixed(8))),
    field("DurationFilter", from(1), Fixed(8)),
    field("TransactionalIdPattern", from(2), Text).nullable(from(2)),
];

static ALLOCATE_PRODUCER_IDS_REQUEST: &[Field] =
    &[field("BrokerId", from(0), Fixed(4)), field("BrokerEpoch", from(0), Fixed(8))];

static CONSUMER_GROUP_HEARTBEAT_REQUEST_TOPIC_PARTITIONS: &[Field] =
    &[field("TopicId", from(0), Fixed(16)), field("Partitions", from(0), Array(&Fixed(4)))];

static CONSUMER_GROUP_HEARTBEAT_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("MemberId", from(0), Text),
    field("MemberEpoch", from(0), Fixed(4)),
    field("InstanceId", from(0), Text).nullable(from(0)),
    field("RackId", from(0), Text).nullable(from(0)),
    field("RebalanceTimeoutMs", from(0), Fixed(4)),
    field("SubscribedTopicNames", from(0), Array(&Text)).nullable(from(0)),
    field("SubscribedTopicRegex", from(1), Text).nullable(from(1)),
    field("ServerAssignor", from(0), Text).nullable(from(0)),
    field("TopicPartitions", from(0), Array(&Struct(CONSUMER_GROUP_HEARTBEAT_REQUEST_TOPIC_PARTITIONS, 64)))
        .nullable(from(0)),
];

static CONSUMER_GROUP_DESCRIBE_REQUEST: &[Field] =
    &[field("GroupIds", from(0), Array(&Text)), field("IncludeAuthorizedOperations", from(0), Fixed(1))];

static CONTROLLER_REGISTRATION_REQUEST_LISTENER: &[Field] = &[
    field("Name", from(0), Text),
    field("Host", from(0), Text),
    field("Port", from(0), Fixed(2)),
    field("SecurityProtocol", from(0), Fixed(2)),
];

static CONTROLLER_REGISTRATION_REQUEST_FEATURE: &[Field] = &[
    field("Name", from(0), Text),
    field("MinSupportedVersion", from(0), Fixed(2)),
    field("MaxSupportedVersion", from(0), Fixed(2)),
];

static CONTROLLER_REGISTRATION_REQUEST: &[Field] = &[
    field("ControllerId", from(0), Fixed(4)),
    field("IncarnationId", from(0), Fixed(16)),
    field("ZkMigrationReady", from(0), Fixed(1)),
    field("Listeners", from(0), Array(&Struct(CONTROLLER_REGISTRATION_REQUEST_LISTENER, 96))),
    field("Features", from(0), Array(&Struct(CONTROLLER_REGISTRATION_REQUEST_FEATURE, 64))),
];

static GET_TELEMETRY_SUBSCRIPTIONS_REQUEST: &[Field] = &[field("ClientInstanceId", from(0), Fixed(16))];

static PUSH_TELEMETRY_REQUEST: &[Field] = &[
    field("ClientInstanceId", from(0), Fixed(16)),
    field("SubscriptionId", from(0), Fixed(4)),
    field("Terminating", from(0), Fixed(1)),
    field("CompressionType", from(0), Fixed(1)),
    field("Metrics", from(0), Binary),
];

static ASSIGN_REPLICAS_TO_DIRS_REQUEST_PARTITION_DATA: &[Field] =
    &[field("PartitionIndex", from(0), Fixed(4))];

static ASSIGN_REPLICAS_TO_DIRS_REQUEST_TOPIC_DATA: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(ASSIGN_REPLICAS_TO_DIRS_REQUEST_PARTITION_DATA, 32))),
];

static ASSIGN_REPLICAS_TO_DIRS_REQUEST_DIRECTORY_DATA: &[Field] = &[
    field("Id", from(0), Fixed(16)),
    field("Topics", from(0), Array(&Struct(ASSIGN_REPLICAS_TO_DIRS_REQUEST_TOPIC_DATA, 64))),
];

static ASSIGN_REPLICAS_TO_DIRS_REQUEST: &[Field] = &[
    field("BrokerId", from(0), Fixed(4)),
    field("BrokerEpoch", from(0), Fixed(8)),
    field("Directories", from(0), Array(&Struct(ASSIGN_REPLICAS_TO_DIRS_REQUEST_DIRECTORY_DATA, 64))),
];

static LIST_CONFIG_RESOURCES_REQUEST: &[Field] = &[field("ResourceTypes", from(1), Array(&Fixed(1)))];

static DESCRIBE_TOPIC_PARTITIONS_REQUEST_TOPIC_REQUEST: &[Field] = &[field("Name", from(0), Text)];

static DESCRIBE_TOPIC_PARTITIONS_REQUEST_CURSOR: &[Field] =
    &[field("TopicName", from(0), Text), field("PartitionIndex", from(0), Fixed(4))];

static DESCRIBE_TOPIC_PARTITIONS_REQUEST: &[Field] = &[
    field("Topics", from(0), Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_REQUEST_TOPIC_REQUEST, 56))),
    field("ResponsePartitionLimit", from(0), Fixed(4)),
    field("Cursor", from(0), Struct(DESCRIBE_TOPIC_PARTITIONS_REQUEST_CURSOR, 64)).nullable(from(0)),
];

static SHARE_GROUP_HEARTBEAT_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("MemberId", from(0), Text),
    field("MemberEpoch", from(0), Fixed(4)),
    field("RackId", from(0), Text).nullable(from(0)),
    field("SubscribedTopicNames", from(0), Array(&Text)).nullable(from(0)),
];

static SHARE_GROUP_DESCRIBE_REQUEST: &[Field] =
    &[field("GroupIds", from(0), Array(&Text)), field("IncludeAuthorizedOperations", from(0), Fixed(1))];

static SHARE_FETCH_REQUEST_ACKNOWLEDGEMENT_BATCH: &[Field] = &[
    field("FirstOffset", from(0), Fixed(8)),
    field("LastOffset", from(0), Fixed(8)),
    field("AcknowledgeTypes", from(0), Array(&Fixed(1))),
];

static SHARE_FETCH_REQUEST_FETCH_PARTITION: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field("PartitionMaxBytes", within(0, 0), Fixed(4)),
    field("AcknowledgementBatches", from(0), Array(&Struct(SHARE_FETCH_REQUEST_ACKNOWLEDGEMENT_BATCH, 64))),
];

static SHARE_FETCH_REQUEST_FETCH_TOPIC: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(SHARE_FETCH_REQUEST_FETCH_PARTITION, 56))),
];

static SHARE_FETCH_REQUEST_FORGOTTEN_TOPIC: &[Field] =
    &[field("TopicId", from(0), Fixed(16)), field("Partitions", from(0), Array(&Fixed(4)))];

static SHARE_FETCH_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text).nullable(from(0)),
    field("MemberId", from(0), Text).nullable(from(0)),
    field("ShareSessionEpoch", from(0), Fixed(4)),
    field("MaxWaitMs", from(0), Fixed(4)),
    field("MinBytes", from(0), Fixed(4)),
    field("MaxBytes", from(0), Fixed(4)),
    field("MaxRecords", from(1), Fixed(4)),
    field("BatchSize", from(1), Fixed(4)),
    field("Topics", from(0), Array(&Struct(SHARE_FETCH_REQUEST_FETCH_TOPIC, 64))),
    field("ForgottenTopicsData", from(0), Array(&Struct(SHARE_FETCH_REQUEST_FORGOTTEN_TOPIC, 64))),
];

static SHARE_ACKNOWLEDGE_REQUEST_ACKNOWLEDGEMENT_BATCH: &[Field] = &[
    field("FirstOffset", from(0), Fixed(8)),
    field("LastOffset", from(0), Fixed(8)),
    field("AcknowledgeTypes", from(0), Array(&Fixed(1))),
];

static SHARE_ACKNOWLEDGE_REQUEST_ACKNOWLEDGE_PARTITION: &[Field] = &[
    field("PartitionIndex", from(0), Fixed(4)),
    field(
        "AcknowledgementBatches",
        from(0),
        Array(&Struct(SHARE_ACKNOWLEDGE_REQUEST_ACKNOWLEDGEMENT_BATCH, 64)),
    ),
];

static SHARE_ACKNOWLEDGE_REQUEST_ACKNOWLEDGE_TOPIC: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(SHARE_ACKNOWLEDGE_REQUEST_ACKNOWLEDGE_PARTITION, 56))),
];

static SHARE_ACKNOWLEDGE_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text).nullable(from(0)),
    field("MemberId", from(0), Text).nullable(from(0)),
    field("ShareSessionEpoch", from(0), Fixed(4)),
    field("Topics", from(0), Array(&Struct(SHARE_ACKNOWLEDGE_REQUEST_ACKNOWLEDGE_TOPIC, 64))),
];

static ADD_RAFT_VOTER_REQUEST_LISTENER: &[Field] =
    &[field("Name", from(0), Text), field("Host", from(0), Text), field("Port", from(0), Fixed(2))];

static ADD_RAFT_VOTER_REQUEST: &[Field] = &[
    field("ClusterId", from(0), Text).nullable(from(0)),
    field("TimeoutMs", from(0), Fixed(4)),
    field("VoterId", from(0), Fixed(4)),
    field("VoterDirectoryId", from(0), Fixed(16)),
    field("Listeners", from(0), Array(&Struct(ADD_RAFT_VOTER_REQUEST_LISTENER, 96))),
];

static REMOVE_RAFT_VOTER_REQUEST: &[Field] = &[
    field("ClusterId", from(0), Text).nullable(from(0)),
    field("VoterId", from(0), Fixed(4)),
    field("VoterDirectoryId", from(0), Fixed(16)),
];

static UPDATE_RAFT_VOTER_REQUEST_LISTENER: &[Field] =
    &[field("Name", from(0), Text), field("Host", from(0), Text), field("Port", from(0), Fixed(2))];

static UPDATE_RAFT_VOTER_REQUEST_KRAFT_VERSION_FEATURE: &[Field] =
    &[field("MinSupportedVersion", from(0), Fixed(2)), field("MaxSupportedVersion", from(0), Fixed(2))];

static UPDATE_RAFT_VOTER_REQUEST: &[Field] = &[
    field("ClusterId", from(0), Text).nullable(from(0)),
    field("CurrentLeaderEpoch", from(0), Fixed(4)),
    field("VoterId", from(0), Fixed(4)),
    field("VoterDirectoryId", from(0), Fixed(16)),
    field("Listeners", from(0), Array(&Struct(UPDATE_RAFT_VOTER_REQUEST_LISTENER, 96))),
    field("KRaftVersionFeature", from(0), Struct(UPDATE_RAFT_VOTER_REQUEST_KRAFT_VERSION_FEATURE, 32)),
];

static INITIALIZE_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA: &[Field] = &[
    field("Partition", from(0), Fixed(4)),
    field("StateEpoch", from(0), Fixed(4)),
    field("StartOffset", from(0), Fixed(8)),
];

static INITIALIZE_SHARE_GROUP_STATE_REQUEST_INITIALIZE_STATE_DATA: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(INITIALIZE_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA, 40))),
];

static INITIALIZE_SHARE_GROUP_STATE_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("Topics", from(0), Array(&Struct(INITIALIZE_SHARE_GROUP_STATE_REQUEST_INITIALIZE_STATE_DATA, 64))),
];

static READ_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA: &[Field] =
    &[field("Partition", from(0), Fixed(4)), field("LeaderEpoch", from(0), Fixed(4))];

static READ_SHARE_GROUP_STATE_REQUEST_READ_STATE_DATA: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(READ_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA, 32))),
];

static READ_SHARE_GROUP_STATE_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("Topics", from(0), Array(&Struct(READ_SHARE_GROUP_STATE_REQUEST_READ_STATE_DATA, 64))),
];

static WRITE_SHARE_GROUP_STATE_REQUEST_STATE_BATCH: &[Field] = &[
    field("FirstOffset", from(0), Fixed(8)),
    field("LastOffset", from(0), Fixed(8)),
    field("DeliveryState", from(0), Fixed(1)),
    field("DeliveryCount", from(0), Fixed(2)),
];

static WRITE_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA: &[Field] = &[
    field("Partition", from(0), Fixed(4)),
    field("StateEpoch", from(0), Fixed(4)),
    field("LeaderEpoch", from(0), Fixed(4)),
    field("StartOffset", from(0), Fixed(8)),
    field("StateBatches", from(0), Array(&Struct(WRITE_SHARE_GROUP_STATE_REQUEST_STATE_BATCH, 48))),
];

static WRITE_SHARE_GROUP_STATE_REQUEST_WRITE_STATE_DATA: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(WRITE_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA, 72))),
];

static WRITE_SHARE_GROUP_STATE_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("Topics", from(0), Array(&Struct(WRITE_SHARE_GROUP_STATE_REQUEST_WRITE_STATE_DATA, 64))),
];

static DELETE_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA: &[Field] = &[field("Partition", from(0), Fixed(4))];

static DELETE_SHARE_GROUP_STATE_REQUEST_DELETE_STATE_DATA: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(DELETE_SHARE_GROUP_STATE_REQUEST_PARTITION_DATA, 32))),
];

static DELETE_SHARE_GROUP_STATE_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("Topics", from(0), Array(&Struct(DELETE_SHARE_GROUP_STATE_REQUEST_DELETE_STATE_DATA, 64))),
];

static READ_SHARE_GROUP_STATE_SUMMARY_REQUEST_PARTITION_DATA: &[Field] =
    &[field("Partition", from(0), Fixed(4)), field("LeaderEpoch", from(0), Fixed(4))];

static READ_SHARE_GROUP_STATE_SUMMARY_REQUEST_READ_STATE_SUMMARY_DATA: &[Field] = &[
    field("TopicId", from(0), Fixed(16)),
    field("Partitions", from(0), Array(&Struct(READ_SHARE_GROUP_STATE_SUMMARY_REQUEST_PARTITION_DATA, 32))),
];

static READ_SHARE_GROUP_STATE_SUMMARY_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field(
        "Topics",
        from(0),
        Array(&Struct(READ_SHARE_GROUP_STATE_SUMMARY_REQUEST_READ_STATE_SUMMARY_DATA, 64)),
    ),
];

static STREAMS_GROUP_HEARTBEAT_REQUEST_KEY_VALUE: &[Field] =
    &[field("Key", from(0), Text), field("Value", from(0), Text)];

static STREAMS_GROUP_HEARTBEAT_REQUEST_TOPIC_INFO: &[Field] = &[
    field("Name", from(0), Text),
    field("Partitions", from(0), Fixed(4)),
    field("ReplicationFactor", from(0), Fixed(2)),
    field("TopicConfigs", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_KEY_VALUE, 88))),
];

static STREAMS_GROUP_HEARTBEAT_REQUEST_COPARTITION_GROUP: &[Field] = &[
    field("SourceTopics", from(0), Array(&Fixed(2))),
    field("SourceTopicRegex", from(0), Array(&Fixed(2))),
    field("RepartitionSourceTopics", from(0), Array(&Fixed(2))),
];

static STREAMS_GROUP_HEARTBEAT_REQUEST_SUBTOPOLOGY: &[Field] = &[
    field("SubtopologyId", from(0), Text),
    field("SourceTopics", from(0), Array(&Text)),
    field("SourceTopicRegex", from(0), Array(&Text)),
    field("StateChangelogTopics", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TOPIC_INFO, 88))),
    field("RepartitionSinkTopics", from(0), Array(&Text)),
    field("RepartitionSourceTopics", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TOPIC_INFO, 88))),
    field(
        "CopartitionGroups",
        from(0),
        Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_COPARTITION_GROUP, 96)),
    ),
];

static STREAMS_GROUP_HEARTBEAT_REQUEST_TOPOLOGY: &[Field] = &[
    field("Epoch", from(0), Fixed(4)),
    field("Subtopologies", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_SUBTOPOLOGY, 200))),
];

static STREAMS_GROUP_HEARTBEAT_REQUEST_TASK_IDS: &[Field] =
    &[field("SubtopologyId", from(0), Text), field("Partitions", from(0), Array(&Fixed(4)))];

static STREAMS_GROUP_HEARTBEAT_REQUEST_ENDPOINT: &[Field] =
    &[field("Host", from(0), Text), field("Port", from(0), Fixed(2))];

static STREAMS_GROUP_HEARTBEAT_REQUEST_TASK_OFFSET: &[Field] = &[
    field("SubtopologyId", from(0), Text),
    field("Partition", from(0), Fixed(4)),
    field("Offset", from(0), Fixed(8)),
];

static STREAMS_GROUP_HEARTBEAT_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field("MemberId", from(0), Text),
    field("MemberEpoch", from(0), Fixed(4)),
    field("EndpointInformationEpoch", from(0), Fixed(4)),
    field("InstanceId", from(0), Text).nullable(from(0)),
    field("RackId", from(0), Text).nullable(from(0)),
    field("RebalanceTimeoutMs", from(0), Fixed(4)),
    field("Topology", from(0), Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TOPOLOGY, 56)).nullable(from(0)),
    field("ActiveTasks", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TASK_IDS, 80)))
        .nullable(from(0)),
    field("StandbyTasks", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TASK_IDS, 80)))
        .nullable(from(0)),
    field("WarmupTasks", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TASK_IDS, 80)))
        .nullable(from(0)),
    field("ProcessId", from(0), Text).nullable(from(0)),
    field("UserEndpoint", from(0), Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_ENDPOINT, 64)).nullable(from(0)),
    field("ClientTags", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_KEY_VALUE, 88)))
        .nullable(from(0)),
    field("TaskOffsets", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TASK_OFFSET, 72)))
        .nullable(from(0)),
    field("TaskEndOffsets", from(0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_REQUEST_TASK_OFFSET, 72)))
        .nullable(from(0)),
    field("ShutdownApplication", from(0), Fixed(1)),
];

static STREAMS_GROUP_DESCRIBE_REQUEST: &[Field] =
    &[field("GroupIds", from(0), Array(&Text)), field("IncludeAuthorizedOperations", from(0), Fixed(1))];

static DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] =
    &[field("TopicName", from(0), Text), field("Partitions", from(0), Array(&Fixed(4)))];

static DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_GROUP: &[Field] = &[
    field("GroupId", from(0), Text),
    field(
        "Topics",
        from(0),
        Array(&Struct(DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC, 80)),
    )
    .nullable(from(0)),
];

static DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST: &[Field] = &[field(
    "Groups",
    from(0),
    Array(&Struct(DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_GROUP, 80)),
)];

static ALTER_SHARE_GROUP_OFFSETS_REQUEST_ALTER_SHARE_GROUP_OFFSETS_REQUEST_PARTITION: &[Field] =
    &[field("PartitionIndex", from(0), Fixed(4)), field("StartOffset", from(0), Fixed(8))];

static ALTER_SHARE_GROUP_OFFSETS_REQUEST_ALTER_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] = &[
    field("TopicName", from(0), Text),
    field(
        "Partitions",
        from(0),
        Array(&Struct(ALTER_SHARE_GROUP_OFFSETS_REQUEST_ALTER_SHARE_GROUP_OFFSETS_REQUEST_PARTITION, 40)),
    ),
];

static ALTER_SHARE_GROUP_OFFSETS_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field(
        "Topics",
        from(0),
        Array(&Struct(ALTER_SHARE_GROUP_OFFSETS_REQUEST_ALTER_SHARE_GROUP_OFFSETS_REQUEST_TOPIC, 80)),
    ),
];

static DELETE_SHARE_GROUP_OFFSETS_REQUEST_DELETE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] =
    &[field("TopicName", from(0), Text)];

static DELETE_SHARE_GROUP_OFFSETS_REQUEST: &[Field] = &[
    field("GroupId", from(0), Text),
    field(
        "Topics",
        from(0),
        Array(&Struct(DELETE_SHARE_GROUP_OFFSETS_REQUEST_DELETE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC, 56)),
    ),
];
