//! Puts that depend on what is there. They are sent again only after failures that surely did not happen; after any
//! other the caller has to look.

use std::fs::{File, TryLockError};
use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion};
use penstock_types::pause;

use super::retry::Again;
use super::stats::BucketStats;
use super::{Bucket, BucketError, ErrorClass, Failure, Operation, Outcome};

/// How often a lock that another process holds is tried.
const LOCK_RETRY: Duration = Duration::from_millis(10);

impl Bucket {
    /// Writes the object only if there is none under `key`; answers its tag.
    ///
    /// # Errors
    /// [`ErrorClass::Precondition`] if there is one.
    pub async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<Option<String>, BucketError> {
        let location = self.location(Operation::ConditionalPut, key)?;
        self.conditionally(key, data.len(), || self.put_mode(&location, data.clone(), PutMode::Create)).await
    }

    /// Replaces the object only if it is still the version with the tag `etag`; answers its new tag.
    ///
    /// # Errors
    /// [`ErrorClass::Precondition`] if it is another one or isn't there.
    pub async fn put_if_matches(
        &self,
        key: &str,
        data: Bytes,
        etag: &str,
    ) -> Result<Option<String>, BucketError> {
        let location = self.location(Operation::ConditionalPut, key)?;
        let version = UpdateVersion { e_tag: Some(etag.to_owned()), version: None };
        self.conditionally(key, data.len(), || async {
            match &self.directory {
                Some(directory) => self.replace_file(directory, &location, data.clone(), etag).await,
                None => self.put_mode(&location, data.clone(), PutMode::Update(version.clone())).await,
            }
        })
        .await
    }

    async fn conditionally<F>(
        &self,
        key: &str,
        bytes: usize,
        mut attempt: impl FnMut() -> F,
    ) -> Result<Option<String>, BucketError>
    where
        F: Future<Output = Result<Option<String>, Failure>>,
    {
        let deadline = self.default_deadline();
        let attempt = || {
            BucketStats::add(&self.stats.put_requests, 1);
            attempt()
        };
        let what = (Operation::ConditionalPut, key);
        let etag = self.retrying(what, Again::IfItDidNotHappen, bytes as u64, deadline, attempt).await?;
        BucketStats::add(&self.stats.puts, 1);
        BucketStats::add(&self.stats.put_bytes, bytes as u64);
        Ok(etag)
    }

    async fn put_mode(&self, location: &Path, data: Bytes, mode: PutMode) -> Result<Option<String>, Failure> {
        let options = PutOptions { mode, ..PutOptions::default() };
        Ok(self.store.put_opts(location, PutPayload::from_bytes(data), options).await?.e_tag)
    }

    /// A file system has no compare-and-set: whoever replaces a file this way holds the lock of the bucket's
    /// directory meanwhile.
    async fn replace_file(
        &self,
        directory: &FilePath,
        location: &Path,
        data: Bytes,
        etag: &str,
    ) -> Result<Option<String>, Failure> {
        let _lock = lock(directory).await?;
        let differs =
            || Failure::new(ErrorClass::Precondition, Outcome::DidNotHappen, "another version is there");
        match self.store.head(location).await {
            Ok(meta) if meta.e_tag.as_deref() == Some(etag) => {}
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Err(differs()),
            Err(error) => return Err(error.into()),
        }
        self.put_mode(location, data, PutMode::Overwrite).await
    }
}

/// Held until it is dropped, or its process ends.
async fn lock(directory: &FilePath) -> Result<File, Failure> {
    let refuse =
        |error| Failure::from(object_store::Error::Generic { store: "file", source: Box::new(error) });
    let file = File::open(directory).map_err(refuse)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => pause(LOCK_RETRY).await,
            Err(TryLockError::Error(error)) => return Err(refuse(error)),
        }
    }
}
