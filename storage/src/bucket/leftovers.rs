//! What a process that was killed leaves behind in a local directory: uploads are written beside their place under
//! `<name>#<number>` and renamed, and a listing doesn't show them.

use std::io;
use std::path::Path;

use super::Bucket;

impl Bucket {
    /// Removes the uploads that an earlier process didn't finish; answers how many. Only of a `file://` bucket, and
    /// only for the one process that uses the directory, before its first upload: a running upload looks the same.
    pub async fn remove_unfinished_uploads(&self) -> io::Result<u64> {
        let Some(directory) = self.directory.clone() else { return Ok(0) };
        let removing = tokio::task::spawn_blocking(move || remove_under(&directory));
        removing.await.map_err(io::Error::other)?
    }
}

fn remove_under(directory: &Path) -> io::Result<u64> {
    let mut removed = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            removed += remove_under(&entry.path())?;
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_unfinished) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn is_unfinished(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
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
    async fn only_what_was_left_behind_goes() {
        let home = tempfile::tempdir().expect("a directory");
        let randomness = Arc::new(SeededRandomness::new(1));
        let bucket = Bucket::open_directory(home.path(), &BucketOptions::default(), randomness)
            .expect("the bucket opens");
        let deadline = Instant::now() + Duration::from_secs(10);
        bucket.put("objects/aa/one", vec![Bytes::from_static(b"x")], deadline).await.expect("an upload");
        for name in ["objects/aa/two#1", "objects/aa/one#12", "objects/aa/kept#x", "objects/aa/kept#"] {
            std::fs::write(home.path().join(name), b"half").expect("writes");
        }
        assert_eq!(bucket.remove_unfinished_uploads().await.expect("readable"), 2);
        assert_eq!(bucket.remove_unfinished_uploads().await.expect("readable"), 0);
        assert!(
            home.path().join("objects/aa/kept#x").exists() && home.path().join("objects/aa/kept#").exists()
        );
        assert_eq!(bucket.head("objects/aa/one").await.expect("there").bytes, 1);
        let listed: Vec<Listed> = bucket.list("objects").try_collect().await.expect("a listing");
        assert!(listed.iter().any(|object| object.key == "objects/aa/one"));
    }
}
