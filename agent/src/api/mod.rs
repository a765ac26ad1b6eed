//! Kafka's APIs, one file each, and the one table that says which of them are served.
//!
//! The table drives ApiVersions, the check of a request's bounds, decoding, routing and the reference page
//! (`docs/protocol.md`, whose drift fails a test). An API without a row isn't advertised, and a request for it
//! closes the connection, as in Kafka.
//!
//! # Adding an API
//!
//! 1. Write `api/<name>.rs` with its handler:
//!    - `InOrder`: `pub(crate) async fn handle(broker: &Arc<Broker>, request: XRequest, context: &RequestContext)
//!      -> XResponse`. The next request of the connection is read when it has returned.
//!    - `Admitted`: `pub(crate) async fn admit(..) -> PendingAnswer`. What it does before it returns happens in the
//!      order of arrival, and while it waits the socket isn't read; the answer comes later.
//!    - `Concurrent`: `pub(crate) async fn handle(..) -> Result<Frame, EncodeError>`. Runs beside the requests that
//!      follow it, does its own framing, and is dropped when the client goes away.
//! 2. Add `mod <name>;` and a row, in the order of the keys:
//!    `Mode Key, RequestType => module::function, min..=max;` with the versions that Apache Kafka 4.1 reports
//!    (a test compares; a narrower range needs its reason as a comment on the row).
//! 3. Run `cargo test -p penstock-agent api::` with `UPDATE_DOCS=1` once to renew `docs/protocol.md`.

mod alter_configs;
mod alter_resources;
pub mod api_versions;
mod config_entries;
mod config_resource;
pub mod context;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_quorum;
mod describe_topic_partitions;
mod describe_user_scram_credentials;
mod elect_leaders;
mod fetch;
mod fetch_encode;
mod find_coordinator;
mod group_error;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod live;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod table;
mod topic_error;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{self, ApiKey};

use crate::broker::Broker;
use crate::server::Answer;
use context::RequestContext;
use table::{Route, apis};

pub use table::{ApiRow, DecodeError, Mode, Routed};

apis! {
    Admitted Produce, ProduceRequest => produce::admit, 3..=13, reported from 0;
    Concurrent Fetch, FetchRequest => fetch::handle, 4..=18;
    InOrder ListOffsets, ListOffsetsRequest => list_offsets::handle, 1..=10;
    InOrder Metadata, MetadataRequest => metadata::handle, 0..=13;
    InOrder OffsetCommit, OffsetCommitRequest => offset_commit::handle, 2..=9;
    InOrder OffsetFetch, OffsetFetchRequest => offset_fetch::handle, 1..=9;
    InOrder FindCoordinator, FindCoordinatorRequest => find_coordinator::handle, 0..=6;
    InOrder JoinGroup, JoinGroupRequest => join_group::handle, 0..=9;
    InOrder Heartbeat, HeartbeatRequest => heartbeat::handle, 0..=4;
    InOrder LeaveGroup, LeaveGroupRequest => leave_group::handle, 0..=5;
    InOrder SyncGroup, SyncGroupRequest => sync_group::handle, 0..=5;
    InOrder DescribeGroups, DescribeGroupsRequest => describe_groups::handle, 0..=6;
    InOrder ListGroups, ListGroupsRequest => list_groups::handle, 0..=5;
    InOrder ApiVersions, ApiVersionsRequest => api_versions::handle, 0..=4;
    InOrder CreateTopics, CreateTopicsRequest => create_topics::handle, 2..=7;
    InOrder DeleteTopics, DeleteTopicsRequest => delete_topics::handle, 1..=6;
    InOrder DeleteRecords, DeleteRecordsRequest => delete_records::handle, 0..=2;
    InOrder InitProducerId, InitProducerIdRequest => init_producer_id::handle, 0..=5;
    InOrder OffsetForLeaderEpoch, OffsetForLeaderEpochRequest => offset_for_leader_epoch::handle, 2..=4;
    InOrder DescribeAcls, DescribeAclsRequest => describe_acls::handle, 1..=3;
    InOrder CreateAcls, CreateAclsRequest => create_acls::handle, 1..=3;
    InOrder DeleteAcls, DeleteAclsRequest => delete_acls::handle, 1..=3;
    InOrder DescribeConfigs, DescribeConfigsRequest => describe_configs::handle, 1..=4;
    InOrder AlterConfigs, AlterConfigsRequest => alter_configs::handle, 0..=2;
    InOrder DescribeLogDirs, DescribeLogDirsRequest => describe_log_dirs::handle, 1..=4;
    InOrder CreatePartitions, CreatePartitionsRequest => create_partitions::handle, 0..=3;
    InOrder DeleteGroups, DeleteGroupsRequest => delete_groups::handle, 0..=2;
    InOrder ElectLeaders, ElectLeadersRequest => elect_leaders::handle, 0..=2;
    InOrder IncrementalAlterConfigs, IncrementalAlterConfigsRequest => incremental_alter_configs::handle, 0..=1;
    InOrder ListPartitionReassignments, ListPartitionReassignmentsRequest => list_partition_reassignments::handle, 0..=0;
    InOrder OffsetDelete, OffsetDeleteRequest => offset_delete::handle, 0..=0;
    InOrder DescribeClientQuotas, DescribeClientQuotasRequest => describe_client_quotas::handle, 0..=1;
    InOrder DescribeUserScramCredentials, DescribeUserScramCredentialsRequest => describe_user_scram_credentials::handle, 0..=0;
    InOrder DescribeQuorum, DescribeQuorumRequest => describe_quorum::handle, 0..=2;
    InOrder DescribeCluster, DescribeClusterRequest => describe_cluster::handle, 0..=2;
    InOrder ListConfigResources, ListConfigResourcesRequest => list_config_resources::handle, 0..=1;
    InOrder DescribeTopicPartitions, DescribeTopicPartitionsRequest => describe_topic_partitions::handle, 0..=0;
}

/// The row of an API; `None` for one that isn't served.
pub fn row(key: ApiKey) -> Option<&'static ApiRow> {
    ROWS.iter().find(|row| row.key == key)
}

/// Decodes the body of a request (already found within bounds) and starts its handler.
///
/// `None` if the API isn't served; the caller has checked the version against the row.
pub fn route(
    broker: &Arc<Broker>,
    key: ApiKey,
    context: RequestContext,
    body: Bytes,
) -> Option<Result<Routed, DecodeError>> {
    route_of(key).map(|route| route(broker, context, body))
}
