//! ApiVersions: what this agent serves, from the table of APIs.
//!
//! Answers are Kafka 4.1's: an unsupported version gets version 0's answer with UNSUPPORTED_VERSION and the range of
//! ApiVersions alone (KIP-511); a software name or version that breaks the rule of KIP-511 gets INVALID_REQUEST.
//! Features stand for what the agent does, not for what Kafka would do: each is reported once the API that it
//! promises has a row. Deliberately absent: `kraft.version` and `eligible.leader.replicas.version`, since there is
//! neither a quorum nor a replica here.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::{ApiRow, ROWS};
use crate::broker::Broker;
use crate::wire::{EncodeError, Frame};

/// The epoch of the finalized features. Kafka's grows with its metadata log; here features are constants of the
/// version that runs, so it never changes.
const FINALIZED_FEATURES_EPOCH: i64 = 0;

/// A feature as KIP-584 describes it, with the API that must be served for it to be more than a name.
struct Feature {
    name: &'static str,
    min: i16,
    max: i16,
    finalized: i16,
    promised_by: ApiKey,
}

/// Sorted by name, as Kafka reports the supported ones. Levels are those of a fresh Kafka 4.1 cluster.
static FEATURES: &[Feature] = &[
    // KIP-848: the new consumer group protocol.
    Feature {
        name: "group.version",
        min: 0,
        max: 1,
        finalized: 1,
        promised_by: ApiKey::ConsumerGroupHeartbeat,
    },
    // 27 is 4.1-IV1, the level of Kafka 4.1; admin tools read the cluster's version from it.
    Feature { name: "metadata.version", min: 7, max: 27, finalized: 27, promised_by: ApiKey::ApiVersions },
    // KIP-890 part 2: an epoch bump with each transaction.
    Feature { name: "transaction.version", min: 0, max: 2, finalized: 2, promised_by: ApiKey::EndTxn },
];

/// Answers ApiVersions.
pub(crate) async fn handle(
    _broker: &Arc<Broker>,
    request: ApiVersionsRequest,
    context: &RequestContext,
) -> ApiVersionsResponse {
    answer(ROWS, &request, context.api_version)
}

/// The answer to an ApiVersions request whose version isn't served: version 0's, which every client can read.
pub(crate) fn unsupported_version(correlation_id: i32) -> Result<Frame, EncodeError> {
    let own = ROWS.iter().filter(|row| row.key == ApiKey::ApiVersions).map(reported).collect();
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(own);
    Frame::encode_as(correlation_id, 0, &response)
}

fn answer(rows: &[ApiRow], request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let named = |name: &str| version < 3 || is_software_name(name);
    if !named(&request.client_software_name) || !named(&request.client_software_version) {
        return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    let response = ApiVersionsResponse::default().with_api_keys(rows.iter().map(reported).collect());
    if version < 3 {
        return response;
    }
    let features = || FEATURES.iter().filter(|feature| rows.iter().any(|row| row.key == feature.promised_by));
    // Below version 4 a minimum of 0 can't be said (KAFKA-17011): such features are left out.
    let supported = features().filter(|feature| version >= 4 || feature.min > 0);
    response
        .with_supported_features(supported.map(Feature::supported).collect())
        .with_finalized_features_epoch(FINALIZED_FEATURES_EPOCH)
        .with_finalized_features(features().map(Feature::finalized).collect())
}

impl Feature {
    fn supported(&self) -> SupportedFeatureKey {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(self.name))
            .with_min_version(self.min)
            .with_max_version(self.max)
    }

    fn finalized(&self) -> FinalizedFeatureKey {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(self.name))
            .with_max_version_level(self.finalized)
            .with_min_version_level(self.finalized)
    }
}

fn reported(row: &ApiRow) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(row.key as i16)
        .with_min_version(row.reported_min)
        .with_max_version(*row.versions.end())
}

/// KIP-511: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests;
