//! Tries everything on the bucket that an agent will want from it, under keys of the doctor's own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use penstock_config::AgentConfig;
use penstock_storage::bucket::{Bucket, BucketError, BucketOptions, ErrorClass, UploadChecksum};
use penstock_types::{OsRandomness, Randomness};
use tokio::time::Instant;

use super::{Check, STEP, STEP_WITHOUT_CREDENTIALS, State};
use crate::start::{bucket_options, without_credentials};

/// How long the upload with changed bytes is tried.
const STEP_CHANGED_BYTES: Duration = Duration::from_secs(2);
const CONTENT: &[u8] = b"0123456789 penstock doctor";

/// All checks of the objects in the bucket, in the order in which they depend on one another; and whether it is there and
/// lets one write.
pub(super) async fn check(config: &AgentConfig) -> (Vec<Check>, bool) {
    let url = config.object_store().to_string();
    let warning = without_credentials(&config.object_store(), |name| std::env::var(name).ok());
    let mut checks: Vec<Check> =
        warning.into_iter().map(|warning| Check::warning("bucket: credentials", warning)).collect();
    let randomness: Arc<dyn Randomness> = Arc::new(OsRandomness::default());
    let folder = format!("doctor/{}", randomness.uuid());
    let bucket = match Bucket::open(&url, &bucket_options(&config.upload), randomness) {
        Ok(bucket) => bucket,
        Err(error) => {
            checks.push(Check::new("bucket", Err::<(), _>(error)));
            return (checks, false);
        }
    };
    checks.push(Check::new("bucket", Ok::<_, BucketError>(())).with(bucket.url().to_owned()));
    let key = format!("{folder}/object");
    let patience = if warning.is_some() { STEP_WITHOUT_CREDENTIALS } else { STEP };
    let put = bucket.put(&key, vec![Bytes::from_static(CONTENT)], Instant::now() + patience).await;
    let is_put = put.is_ok();
    checks.push(Check::new("bucket: put", put));
    if !is_put {
        return (checks, false);
    }
    checks.extend(reads(&bucket, &folder, &key).await);
    checks.extend(conditions(&bucket, &folder).await);
    checks.push(delete(&bucket, &key).await);
    if url.starts_with("s3://") {
        checks.push(changed_bytes(&url, &bucket_options(&config.upload), &format!("{folder}/changed")).await);
    }
    checks.push(claim(&bucket).await);
    (checks, true)
}

async fn reads(bucket: &Bucket, folder: &str, key: &str) -> Vec<Check> {
    let range = bucket.get_range(key, 3..7).await.map_err(|error| error.to_string());
    let range = range.and_then(|bytes| same(&bytes, &CONTENT[3..7]));
    let suffix = bucket.get_suffix(key, 6).await.map_err(|error| error.to_string());
    let suffix = suffix.and_then(|(bytes, _)| same(&bytes, &CONTENT[CONTENT.len() - 6..]));
    let mut listing = bucket.list(folder);
    let mut found = Err("the object just put is not listed".to_owned());
    while let Some(listed) = listing.next().await {
        match listed {
            Ok(listed) if listed.key == key => found = Ok(()),
            Ok(_) => {}
            Err(error) => found = Err(error.to_string()),
        }
    }
    vec![
        Check::new("bucket: get a range", range),
        Check::new("bucket: get the end", suffix),
        Check::new("bucket: list", found),
    ]
}

fn same(got: &[u8], expected: &[u8]) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("got {} other bytes than were put", got.len())) }
}

/// Conditional puts must work and must be refused when they should be: a store that ignores the condition would let
/// two clusters claim one prefix.
async fn conditions(bucket: &Bucket, folder: &str) -> Vec<Check> {
    const IF_ABSENT: &str = "bucket: put if absent";
    const IF_MATCHES: &str = "bucket: put if unchanged";
    let key = format!("{folder}/conditional");
    let etag = match bucket.put_if_absent(&key, Bytes::from_static(b"first")).await {
        Ok(etag) => etag,
        Err(error) => return vec![Check::new(IF_ABSENT, Err::<(), _>(error))],
    };
    let again = bucket.put_if_absent(&key, Bytes::from_static(b"second")).await;
    let mut checks = vec![Check::new(IF_ABSENT, refused(again))];
    let replaced = match etag {
        None => Err("the store gives no tags".to_owned()),
        Some(etag) => {
            let replaced = bucket.put_if_matches(&key, Bytes::from_static(b"third"), &etag).await;
            match replaced {
                Err(error) => Err(error.to_string()),
                Ok(_) => refused(bucket.put_if_matches(&key, Bytes::from_static(b"fourth"), &etag).await),
            }
        }
    };
    checks.push(Check::new(IF_MATCHES, replaced));
    let removed = delete(bucket, &key).await;
    if removed.state != State::Ok {
        checks.push(removed);
    }
    checks
}

fn refused<T>(outcome: Result<T, BucketError>) -> Result<(), String> {
    match outcome {
        Ok(_) => Err("the store ignores the condition: two clusters could claim this prefix".to_owned()),
        Err(error) if error.class == ErrorClass::Precondition => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

async fn delete(bucket: &Bucket, key: &str) -> Check {
    let outcome = match bucket.delete(key).await {
        Err(error) => Err(error.to_string()),
        Ok(()) => match bucket.head(key).await {
            Ok(_) => Err("the object is still there".to_owned()),
            Err(error) if error.class == ErrorClass::NotFound => Ok(()),
            Err(error) => Err(error.to_string()),
        },
    };
    Check::new("bucket: delete", outcome)
}

/// An upload whose bytes were changed on their way has to be refused. Sent so on purpose; a store that doesn't tell
/// works, but what a bad network changes is noticed at the earliest when it is read.
async fn changed_bytes(url: &str, options: &BucketOptions, key: &str) -> Check {
    const NAME: &str = "bucket: changed bytes";
    let options = BucketOptions { change_uploads: true, ..options.clone() };
    let randomness: Arc<dyn Randomness> = Arc::new(OsRandomness::default());
    let bucket = match Bucket::open(url, &options, randomness) {
        Ok(bucket) => bucket,
        Err(error) => return Check::new(NAME, Err::<(), _>(error)),
    };
    // Tried again until then, since bytes that a network changed are sent again.
    let deadline = Instant::now() + STEP_CHANGED_BYTES;
    match bucket.put(key, vec![Bytes::from_static(CONTENT)], deadline).await {
        Err(error) if error.class == ErrorClass::Corrupted => {
            Check::new(NAME, Ok::<_, BucketError>(())).with("are told")
        }
        Err(error) => Check::new(NAME, Err::<(), _>(error)),
        Ok(_) => {
            let removed = delete(&bucket, key).await;
            let advice = match options.checksum {
                UploadChecksum::Off => {
                    "the store doesn't compare an upload with its signature: leave upload checksums switched on"
                }
                UploadChecksum::Crc64Nvme | UploadChecksum::Sha256 => {
                    "the store doesn't verify this checksum of uploads: try the other kind, or use TLS"
                }
            };
            if removed.state == State::Ok { Check::warning(NAME, advice) } else { removed }
        }
    }
}

async fn claim(bucket: &Bucket) -> Check {
    const NAME: &str = "bucket: claim";
    match bucket.read_claim().await {
        Ok(Some(claim)) => {
            Check::new(NAME, Ok::<_, BucketError>(())).with(format!("of cluster {}", claim.cluster_id))
        }
        Ok(None) => Check::new(NAME, Ok::<_, BucketError>(())).with("free"),
        Err(error) => Check::new(NAME, Err::<(), _>(error)),
    }
}
