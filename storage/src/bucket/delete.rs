//! Deleting many objects, with as few requests as the store can do with (a thousand to one on S3).

use futures::StreamExt;
use object_store::path::Path;

use super::retry::Again;
use super::stats::BucketStats;
use super::{Bucket, BucketError, ErrorClass, Failure, Operation};

/// Objects of one request.
const AT_ONCE: usize = 1_000;

impl Bucket {
    /// Removes the objects. That some aren't there is no error. Gives those that the store refuses to remove, by their
    /// place in `keys`, with its reason: the others are gone.
    ///
    /// # Errors
    /// Where the store can't be reached or asks for less; some of them may be gone. It may be called again.
    pub async fn delete_many(&self, keys: &[String]) -> Result<Vec<(usize, BucketError)>, BucketError> {
        let mut refused = Vec::new();
        for (chunk, keys) in keys.chunks(AT_ONCE).enumerate() {
            let Some(first) = keys.first() else { break };
            let locations = keys.iter().map(|key| self.location(Operation::Delete, key));
            let locations = locations.collect::<Result<Vec<_>, _>>()?;
            let delete = || self.delete_once(locations.clone());
            let operation = (Operation::Delete, first.as_str());
            match self.retrying(operation, Again::Whatever, 0, self.default_deadline(), delete).await {
                Ok(()) => BucketStats::add(&self.stats.deletes, keys.len() as u64),
                Err(error) if error.class.is_retriable() => return Err(error),
                // Which of them it is that can't be removed, only each alone tells.
                Err(_) => {
                    for (index, key) in keys.iter().enumerate() {
                        match self.delete(key).await {
                            Err(error) if error.class.is_retriable() => return Err(error),
                            Err(error) => refused.push((chunk * AT_ONCE + index, error)),
                            Ok(()) => {}
                        }
                    }
                }
            }
        }
        Ok(refused)
    }

    async fn delete_once(&self, locations: Vec<Path>) -> Result<(), Failure> {
        let mut deleted = self.store.delete_stream(futures::stream::iter(locations).map(Ok).boxed());
        while let Some(one) = deleted.next().await {
            if let Err(error) = one {
                let failure = Failure::from(error);
                if failure.class != ErrorClass::NotFound {
                    return Err(failure);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures::TryStreamExt;
    use penstock_types::SeededRandomness;
    use tokio::time::Instant;

    use crate::bucket::{Bucket, BucketOptions, Listed};

    #[tokio::test]
    async fn what_is_there_goes_and_what_is_not_is_no_error() {
        let home = tempfile::tempdir().expect("a directory");
        let options = BucketOptions::default();
        let memory = Bucket::open("memory:///", &options, Arc::new(SeededRandomness::new(1)));
        let directory = Bucket::open_directory(home.path(), &options, Arc::new(SeededRandomness::new(1)));
        for bucket in [memory.expect("a bucket"), directory.expect("a bucket")] {
            let keys: Vec<String> = (0..1_500).map(|number| format!("objects/aa/{number}")).collect();
            let deadline = Instant::now() + Duration::from_secs(60);
            for key in keys.iter().step_by(3) {
                bucket.put(key, vec![Bytes::from_static(b"x")], deadline).await.expect("an upload");
            }
            bucket.put("objects/aa/kept", vec![Bytes::from_static(b"x")], deadline).await.expect("an upload");
            assert!(bucket.delete_many(&keys).await.expect("deleted").is_empty());
            let listed: Vec<Listed> = bucket.list("objects").try_collect().await.expect("a listing");
            let left: Vec<&str> = listed.iter().map(|listed| listed.key.as_str()).collect();
            assert_eq!(left, ["objects/aa/kept"]);
            bucket.delete_many(&keys).await.expect("deleted again");
        }
    }
}
