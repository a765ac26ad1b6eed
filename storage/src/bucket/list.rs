//! Listings that carry on where a failed page left off.

use futures::stream::{BoxStream, StreamExt, try_unfold};
use object_store::ObjectMeta;
use object_store::path::Path;
use penstock_types::pause;
use tokio::time::{Instant, timeout};

use super::retry::Backoff;
use super::stats::BucketStats;
use super::{Bucket, BucketError, Failure, Operation};

/// A listed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, without the bucket's prefix.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A running listing.
pub type Listing<'a> = BoxStream<'a, Result<Listed, BucketError>>;

struct State<'a> {
    bucket: &'a Bucket,
    under: Option<Path>,
    pages: BoxStream<'static, object_store::Result<ObjectMeta>>,
    /// What was answered last.
    last: Option<Path>,
}

impl Bucket {
    /// Everything under `prefix` (whole path segments; all of the bucket if empty), by key on S3 and in memory, in
    /// no order on a local disk. Objects written or removed meanwhile may or may not be seen. Ends after an error.
    pub fn list(&self, prefix: &str) -> Listing<'_> {
        let prefix = prefix.trim_matches('/');
        let under = if prefix.is_empty() {
            Ok((!self.prefix.is_empty()).then(|| Path::from(self.prefix.as_str())))
        } else {
            self.location(Operation::List, prefix).map(Some)
        };
        let under = match under {
            Ok(under) => under,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        BucketStats::add(&self.stats.lists, 1);
        let pages = self.store.list(under.as_ref());
        try_unfold(State { bucket: self, under, pages, last: None }, State::step).boxed()
    }

    fn listed(&self, meta: ObjectMeta) -> Listed {
        let path = meta.location.as_ref();
        let key = path.strip_prefix(self.prefix.as_str()).unwrap_or(path).trim_start_matches('/');
        Listed { key: key.to_owned(), bytes: meta.size }
    }
}

impl<'a> State<'a> {
    async fn step(mut self) -> Result<Option<(Listed, State<'a>)>, BucketError> {
        let bucket = self.bucket;
        let deadline = bucket.default_deadline();
        let mut backoff = Backoff::new(&bucket.options);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let limit = bucket.time_for_attempt(0, deadline);
            let failure = match timeout(limit, self.pages.next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(meta))) => {
                    self.last = Some(meta.location.clone());
                    let listed = bucket.listed(meta);
                    return Ok(Some((listed, self)));
                }
                Ok(Some(Err(error))) => Failure::from(error),
                Err(_) => Failure::timeout(limit),
            };
            bucket.stats.failed(&failure);
            let wait = backoff.next(&*bucket.randomness);
            // A local listing has no order to carry on in, and its errors don't pass.
            let resumable = bucket.directory.is_none() && failure.class.is_retriable();
            if !resumable || Instant::now() + wait >= deadline {
                let under = self.under.as_ref().map(ToString::to_string).unwrap_or_default();
                return Err(failure.into_error(Operation::List, &under, attempts));
            }
            BucketStats::add(&bucket.stats.retries, 1);
            pause(wait).await;
            self.pages = match &self.last {
                Some(last) => bucket.store.list_with_offset(self.under.as_ref(), last),
                None => bucket.store.list(self.under.as_ref()),
            };
        }
    }
}
