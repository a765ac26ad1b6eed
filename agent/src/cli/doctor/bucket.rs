//! Tries everything on the bucket that an agent will want from it, under keys of the doctor's own.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use penstock_config::AgentConfig;
use penstock_storage::bucket::{Bucket, BucketError, ErrorClass};
use penstock_types::{OsRandomness, Randomness};
use tokio::time::Instant;

use super::{Check, STEP, State};
use crate::start::bucket_options;

const CONTENT: &[u8] = b"0123456789 penstock doctor";

/// All checks of the bucket, in the order in which they depend on one another.
pub(super) async fn check(config: &AgentConfig) -> Vec<Check> {
    let url = config.object_store().to_string();
    let randomness: Arc<dyn Randomness> = Arc::new(OsRandomness::default());
    let folder = format!("doctor/{}", randomness.uuid());
    let bucket = match Bucket::open(&url, &bucket_options(&config.upload), randomness) {
        Ok(bucket) => bucket,
        Err(error) => return vec![Check::new("bucket", Err::<(), _>(error))],
    };
    let mut checks = vec![Check::new("bucket", Ok::<_, BucketError>(())).with(bucket.url().to_owned())];
    let key = format!("{folder}/object");
    let put = bucket.put(&key, vec![Bytes::from_static(CONTENT)], Instant::now() + STEP).await;
    let is_put = put.is_ok();
    checks.push(Check::new("bucket: put", put));
    if !is_put {
        return checks;
    }
    checks.extend(reads(&bucket, &folder, &key).await);
    checks.extend(conditions(&bucket, &folder).await);
    checks.push(delete(&bucket, &key).await);
    checks.push(claim(&bucket).await);
    checks
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
