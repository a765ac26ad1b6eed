//! How a bucket is used. The agent fills these from its configuration.

use std::collections::BTreeMap;
use std::time::Duration;

/// The checksum that goes with an upload and that the store verifies before it answers (`s3://` only).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UploadChecksum {
    /// CRC-64/NVME in `x-amz-checksum-crc64nvme`: costs next to nothing.
    #[default]
    Crc64Nvme,
    /// SHA-256 in `x-amz-checksum-sha256`, for stores that don't know CRC-64/NVME: 0.6 CPU-seconds a GiB, about.
    Sha256,
    /// None. Over plain HTTP the payload is signed instead, which is SHA-256 too.
    Off,
}

/// When a second copy of a slow upload is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct HedgeOptions {
    /// Off: an upload is only sent again after it failed or timed out.
    pub enabled: bool,
    /// The delay is this quantile of the latencies seen for the upload's size class (0 to 1).
    pub quantile: f64,
    /// The delay is never shorter.
    pub shortest_delay: Duration,
    /// The delay of a size class with fewer than `minimum_samples` latencies.
    pub initial_delay: Duration,
    /// Latencies that a size class needs before its own quantile counts.
    pub minimum_samples: u32,
    /// Hedges per hundred uploads in the long run.
    pub budget_percent: f64,
    /// Hedges that may be saved up.
    pub budget_burst: u32,
}

impl Default for HedgeOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            quantile: 0.99,
            shortest_delay: Duration::from_millis(25),
            initial_delay: Duration::from_secs(1),
            minimum_samples: 30,
            budget_percent: 5.0,
            budget_burst: 10,
        }
    }
}

/// How a bucket is used.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketOptions {
    /// What the store verifies of an upload.
    pub checksum: UploadChecksum,
    /// One request is given up after this long, plus the time of `slowest_bytes_per_second` for its bytes: a
    /// connection that hangs doesn't hold the whole operation.
    pub attempt_timeout: Duration,
    /// See `attempt_timeout`.
    pub slowest_bytes_per_second: u64,
    /// The deadline of operations that aren't given one: all attempts and pauses together.
    pub operation_deadline: Duration,
    /// The pause before the second attempt; it doubles with each further one. Each pause is drawn between half of
    /// it and all of it.
    pub first_backoff: Duration,
    /// The longest pause.
    pub longest_backoff: Duration,
    /// Hedged uploads.
    pub hedge: HedgeOptions,
    /// Settings of the `s3://` client by the names of the environment variables in lower case (`aws_endpoint`,
    /// `aws_region`, …); they win over the environment.
    pub s3_settings: BTreeMap<String, String>,
    /// Other bytes than were given are sent with each upload (`s3://` only), as a bad network would: whoever wants to
    /// know tries whether the store tells.
    pub change_uploads: bool,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self {
            checksum: UploadChecksum::default(),
            attempt_timeout: Duration::from_secs(8),
            slowest_bytes_per_second: 2 * 1024 * 1024,
            operation_deadline: Duration::from_secs(30),
            first_backoff: Duration::from_millis(20),
            longest_backoff: Duration::from_secs(2),
            hedge: HedgeOptions::default(),
            s3_settings: BTreeMap::new(),
            change_uploads: false,
        }
    }
}

impl BucketOptions {
    /// How long one request that moves `bytes` may take.
    pub(super) fn attempt_timeout(&self, bytes: u64) -> Duration {
        let moving = bytes as f64 / self.slowest_bytes_per_second.max(1) as f64;
        self.attempt_timeout + Duration::from_secs_f64(moving.min(3600.0))
    }
}
