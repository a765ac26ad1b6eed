//! The bucket: one prefix of an object store, on S3 and its kin, on a local disk, or in memory.
//!
//! Owns everything that goes over the wire to the store: addresses, retries under the caller's deadline, the second
//! copy of a slow upload, the upload's checksum, the classes of errors, the counters, and the claim that a cluster
//! lays on its prefix. The client library is imported in this module only.
//!
//! # Invariants
//! - An upload that returned is durable: the store has answered (with its checksum verified, unless switched off),
//!   on a local disk the file and its directory are synced.
//! - Objects are written whole and never changed: the same key always gets the same bytes, so an upload may be
//!   sent twice. What isn't so (the claim) goes through the conditional puts, which are never repeated blindly.
//! - Every operation ends by its deadline, every request by its own time-out.
//! - An error says whether the operation may have happened.
//!
//! # Deliberately absent
//! What the keys mean (see `object`), caching (see `cache`), multipart uploads (an object is one request), the
//! creation of buckets.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use penstock_types::Randomness;
use tokio::time::Instant;

mod claim;
mod conditional;
mod delete;
mod error;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
mod get;
mod hedge;
mod histogram;
mod http;
mod leftovers;
mod list;
mod open;
mod options;
mod put;
mod retry;
mod settings;
mod stats;
#[cfg(test)]
mod tests;

pub use claim::{CLAIM_KEY, Claim, ClaimError};
pub use error::{BucketError, ErrorClass, OpenError, Operation, Outcome};
pub use get::{LoadedBlocks, ObjectHead, WholeObject};
pub use histogram::{LATENCY_BOUNDS_MICROSECONDS, LatencyHistogram, LatencySnapshot};
pub use http::HttpStatus;
pub use list::{Listed, Listing};
pub use object_store::ObjectStore;
pub use object_store::memory::InMemory;
pub use options::{BucketOptions, HedgeOptions, UploadChecksum};
pub use put::PutOutcome;
pub use settings::{
    BucketRules, BucketSettings, Lifecycle, NewRule, RULE_ID_CHARS_MAX, Rule, SettingsError, Versioning,
};
pub use stats::{BucketStats, BucketStatsSnapshot};

use error::Failure;
use hedge::Hedging;

/// One prefix of an object store. Shared as `Arc<Bucket>`; every method takes `&self`.
///
/// Keys are relative to the prefix: path segments of `A-Z a-z 0-9 . _ -`, joined by `/`.
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Without slashes at its ends; may be empty.
    prefix: String,
    url: String,
    /// Of `file://`.
    directory: Option<PathBuf>,
    options: BucketOptions,
    randomness: Arc<dyn Randomness>,
    hedging: Hedging,
    stats: BucketStats,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Bucket {
    /// Opens what `url` names; connects only with the first request.
    ///
    /// - `file:///path`: a directory, created if need be; every upload is synced.
    /// - `s3://bucket/prefix`: with the `AWS_…` variables of the environment (`AWS_ACCESS_KEY_ID`,
    ///   `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, …) and
    ///   [`BucketOptions::s3_settings`].
    /// - `memory:///`: gone with the process.
    pub fn open(
        url: &str,
        options: &BucketOptions,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Arc<Self>, OpenError> {
        open::open(url, options, randomness)
    }

    /// A bucket in a local directory, as `file://` is.
    pub fn open_directory(
        directory: &std::path::Path,
        options: &BucketOptions,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Arc<Self>, OpenError> {
        open::open_directory(directory, options, randomness)
    }

    /// A bucket over a given store, for tests that put faults underneath.
    pub fn with_store(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        options: &BucketOptions,
        randomness: Arc<dyn Randomness>,
    ) -> Arc<Self> {
        let url = format!("{store}");
        Arc::new(Self::assemble(store, prefix, url, None, options, randomness))
    }

    fn assemble(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        url: String,
        directory: Option<PathBuf>,
        options: &BucketOptions,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        Self {
            store,
            prefix: prefix.trim_matches('/').to_owned(),
            url,
            directory,
            options: options.clone(),
            randomness,
            hedging: Hedging::new(options.hedge.clone()),
            stats: BucketStats::default(),
        }
    }

    /// What was opened, for messages. Holds no secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the bucket is gone with the process.
    pub fn is_volatile(&self) -> bool {
        self.url.starts_with("memory:")
    }

    /// The counters.
    pub fn stats(&self) -> &BucketStats {
        &self.stats
    }

    /// The deadline of an operation that begins now and wasn't given one.
    fn default_deadline(&self) -> Instant {
        Instant::now() + self.options.operation_deadline
    }

    /// How long a request that moves `bytes` may take, at most until `deadline`.
    fn time_for_attempt(&self, bytes: u64, deadline: Instant) -> Duration {
        self.options.attempt_timeout(bytes).min(deadline.saturating_duration_since(Instant::now()))
    }

    /// The key's place in the store.
    fn location(&self, operation: Operation, key: &str) -> Result<Path, BucketError> {
        self.path(key).map_err(|reason| {
            Failure::new(ErrorClass::Other, Outcome::DidNotHappen, reason).into_error(operation, key, 0)
        })
    }

    fn path(&self, key: &str) -> Result<Path, String> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        if key.is_empty() || !key.bytes().all(valid) {
            return Err("a key has segments of letters, digits, '.', '_' and '-'".to_owned());
        }
        let path = if self.prefix.is_empty() {
            Path::parse(key)
        } else {
            Path::parse(format!("{}/{key}", self.prefix))
        };
        path.map_err(|error| error.to_string())
    }
}
