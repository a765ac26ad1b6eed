//! What every bucket must do, in memory, on a local disk, and on two S3 servers, MinIO and SeaweedFS.
//!
//! A server's tests run with its endpoint (`http://127.0.0.1:9000`) in `PENSTOCK_TEST_S3_ENDPOINT` (MinIO) and
//! `PENSTOCK_TEST_SEAWEEDFS_ENDPOINT`; without it they say that they are skipped. The bucket must exist
//! (`PENSTOCK_TEST_S3_BUCKET`, default `penstock-test`); `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` are as usual,
//! and the same for both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use penstock_storage::bucket::{
    Bucket, BucketOptions, ClaimError, ErrorClass, HedgeOptions, Listed, Outcome, UploadChecksum,
};
use penstock_types::{Incarnation, OsRandomness, Randomness};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The servers that are tested on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    MinIo,
    SeaweedFs,
}

impl Kind {
    fn variable(self) -> &'static str {
        match self {
            Self::MinIo => "PENSTOCK_TEST_S3_ENDPOINT",
            Self::SeaweedFs => "PENSTOCK_TEST_SEAWEEDFS_ENDPOINT",
        }
    }

    /// What it verifies of an upload. SeaweedFS 4.48 takes the payload's hash from the signed header and doesn't
    /// compare it with the payload, so that without a checksum nobody tells a changed byte; `penstock doctor` says
    /// so.
    fn verifies(self) -> &'static [UploadChecksum] {
        match self {
            Self::MinIo => &[UploadChecksum::Crc64Nvme, UploadChecksum::Sha256, UploadChecksum::Off],
            Self::SeaweedFs => &[UploadChecksum::Crc64Nvme, UploadChecksum::Sha256],
        }
    }
}

/// The server to test on, or why it isn't tested.
struct Server {
    kind: Kind,
    endpoint: String,
    bucket: String,
}

impl Server {
    fn of_environment(kind: Kind) -> Option<Self> {
        let variable = kind.variable();
        let Ok(endpoint) = std::env::var(variable) else {
            eprintln!("skipped: S3 suite on {kind:?}: {variable} isn't set");
            return None;
        };
        let bucket = std::env::var("PENSTOCK_TEST_S3_BUCKET").unwrap_or_else(|_| "penstock-test".to_owned());
        Some(Self { kind, endpoint, bucket })
    }

    /// A bucket under a prefix of its own.
    fn open(&self, options: BucketOptions) -> Arc<Bucket> {
        self.open_at(&self.endpoint, options)
    }

    fn open_at(&self, endpoint: &str, mut options: BucketOptions) -> Arc<Bucket> {
        let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        options.s3_settings = BTreeMap::from([
            ("aws_endpoint_url_s3".to_owned(), endpoint.to_owned()),
            ("aws_allow_http".to_owned(), "true".to_owned()),
            ("aws_region".to_owned(), variable("AWS_REGION", "us-east-1")),
            ("aws_access_key_id".to_owned(), variable("AWS_ACCESS_KEY_ID", "penstock")),
            ("aws_secret_access_key".to_owned(), variable("AWS_SECRET_ACCESS_KEY", "penstock-local")),
        ]);
        let randomness = Arc::new(OsRandomness::default());
        let url = format!("s3://{}/test/{:016x}", self.bucket, randomness.next_u64());
        Bucket::open(&url, &options, randomness).expect("the bucket opens")
    }
}

async fn remove_all(bucket: &Bucket) {
    let listed: Vec<Listed> = bucket.list("").try_collect().await.expect("a listing");
    for object in listed {
        bucket.delete(&object.key).await.expect("a deletion");
    }
}

/// What every bucket does.
async fn suite(bucket: &Bucket) {
    reads(bucket).await;
    overwrites_and_deletions(bucket).await;
    conditions(bucket).await;
    listings(bucket).await;
    claims(bucket).await;
    large_object(bucket).await;
}

async fn reads(bucket: &Bucket) {
    let content: Bytes = (0..300_000_u32).map(|i| (i % 251) as u8).collect::<Vec<u8>>().into();
    let chunks = (0..30).map(|i| content.slice(i * 10_000..(i + 1) * 10_000)).collect();
    bucket.put("reads/a", chunks, soon()).await.expect("an upload");
    for range in [0..1, 0..300_000, 299_999..300_000, 123_456..234_567] {
        let read = bucket.get_range("reads/a", range.clone()).await.expect("a read");
        assert_eq!(read, content.slice(range.start as usize..range.end as usize), "{range:?}");
    }
    assert!(bucket.get_range("reads/a", 7..7).await.expect("nothing").is_empty());
    let ranges = [200_000..200_010, 0..10, 5..15, 290_000..300_000];
    let read = bucket.get_ranges("reads/a", &ranges).await.expect("a read");
    for (range, read) in ranges.iter().zip(read) {
        assert_eq!(read, content.slice(range.start as usize..range.end as usize), "{range:?}");
    }
    let (end, bytes) = bucket.get_suffix("reads/a", 1000).await.expect("a read");
    assert_eq!((end, bytes), (content.slice(299_000..), 300_000));
    let (all, bytes) = bucket.get_suffix("reads/a", 1_000_000).await.expect("a read");
    assert_eq!((all, bytes), (content.clone(), 300_000));
    let blocks = bucket.get_blocks("reads/a", 65_536..1_000_000, 65_536).await.expect("a read");
    assert_eq!((blocks.blocks.concat(), blocks.object_bytes), (content.slice(65_536..).to_vec(), 300_000));
    for range in
        [299_999..300_001, 300_000..300_001, 900_000..900_001, 299_999..u64::MAX, u64::MAX - 1..u64::MAX]
    {
        let error = bucket.get_range("reads/a", range.clone()).await.expect_err("too far");
        assert_eq!(
            (error.class, error.outcome),
            (ErrorClass::OutOfRange, Outcome::DidNotHappen),
            "{range:?} {error}"
        );
    }
    assert_eq!(bucket.head("reads/a").await.expect("a head").bytes, 300_000);
    for error in [
        bucket.get_range("reads/none", 0..1).await.expect_err("nothing"),
        bucket.get_suffix("reads/none", 1).await.map(|_| ()).expect_err("nothing"),
        bucket.get_with_etag("reads/none").await.map(|_| ()).expect_err("nothing"),
        bucket.head("reads/none").await.map(|_| ()).expect_err("nothing"),
    ] {
        assert!(error.is_not_found(), "{error}");
    }
}

async fn overwrites_and_deletions(bucket: &Bucket) {
    bucket.put("over/a", vec![Bytes::from_static(b"first")], soon()).await.expect("an upload");
    bucket.put("over/a", vec![Bytes::from_static(b"second")], soon()).await.expect("an overwrite");
    assert_eq!(bucket.get_with_etag("over/a").await.expect("a read").data, "second");
    bucket.put("over/empty", Vec::new(), soon()).await.expect("an upload");
    assert_eq!(bucket.head("over/empty").await.expect("a head").bytes, 0);
    bucket.delete("over/a").await.expect("a deletion");
    bucket.delete("over/a").await.expect("again");
    assert!(bucket.head("over/a").await.expect_err("gone").is_not_found());
}

async fn conditions(bucket: &Bucket) {
    let first =
        bucket.put_if_absent("if/a", Bytes::from_static(b"1")).await.expect("created").expect("a tag");
    let error = bucket.put_if_absent("if/a", Bytes::from_static(b"2")).await.expect_err("there");
    assert!(error.is_precondition() && error.outcome == Outcome::DidNotHappen, "{error}");
    let second = bucket.put_if_matches("if/a", Bytes::from_static(b"two"), &first).await.expect("replaced");
    let error =
        bucket.put_if_matches("if/a", Bytes::from_static(b"three"), &first).await.expect_err("replaced");
    assert!(error.is_precondition(), "{error}");
    let whole = bucket.get_with_etag("if/a").await.expect("a read");
    assert_eq!((whole.data.as_ref(), whole.etag), (b"two".as_slice(), second));
    let error =
        bucket.put_if_matches("if/none", Bytes::from_static(b"x"), &first).await.expect_err("nothing");
    assert!(error.is_precondition(), "{error}");
    // Of many at once one wins.
    let racing = (0..8).map(|i| bucket.put_if_absent("if/race", Bytes::from(vec![b'0' + i])));
    let won = futures::future::join_all(racing).await.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1);
}

async fn listings(bucket: &Bucket) {
    let mut written: Vec<String> = (0..40).map(|i| format!("list/{:02x}/{i}", i % 5)).collect();
    for key in &written {
        bucket.put(key, vec![Bytes::from_static(b"x")], soon()).await.expect("an upload");
    }
    bucket.put("listed-not", vec![Bytes::from_static(b"x")], soon()).await.expect("an upload");
    let keys = |listed: Vec<Listed>| {
        let mut keys: Vec<String> = listed.into_iter().map(|object| object.key).collect();
        keys.sort();
        keys
    };
    let listed: Vec<Listed> = bucket.list("list").try_collect().await.expect("a listing");
    assert!(listed.iter().all(|object| object.bytes == 1));
    written.sort();
    assert_eq!(keys(listed), written);
    let listed: Vec<Listed> = bucket.list("list/03").try_collect().await.expect("a listing");
    assert_eq!(listed.len(), 8);
    let listed: Vec<Listed> = bucket.list("list/0").try_collect().await.expect("a listing");
    assert!(listed.is_empty(), "whole segments");
    let listed: Vec<Listed> = bucket.list("").try_collect().await.expect("a listing");
    assert!(keys(listed).contains(&"listed-not".to_owned()));
}

async fn claims(bucket: &Bucket) {
    bucket.claim("one", Incarnation::FIRST).await.expect("free");
    bucket.claim("one", Incarnation::FIRST).await.expect("ours");
    let refused = bucket.claim("two", Incarnation::FIRST).await.expect_err("taken");
    assert!(matches!(refused, ClaimError::OtherCluster { .. }), "{refused}");
    bucket.raise_claim("one", Incarnation::new(2)).await.expect("raised");
    let refused = bucket.claim("one", Incarnation::FIRST).await.expect_err("raised");
    assert!(matches!(refused, ClaimError::NewerIncarnation { .. }), "{refused}");
}

async fn large_object(bucket: &Bucket) {
    let content: Bytes = (0..10_u64 << 20)
        .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8)
        .collect::<Vec<u8>>()
        .into();
    let chunks: Vec<Bytes> =
        (0..content.len()).step_by(16 << 10).map(|at| content.slice(at..at + (16 << 10))).collect();
    let put = bucket.put("large", chunks, soon()).await.expect("an upload");
    assert!(put.elapsed > Duration::ZERO);
    let blocks = bucket.get_blocks("large", 0..u64::MAX, 1 << 20).await.expect("a read");
    assert_eq!(blocks.blocks.len(), 10);
    assert!(blocks.blocks.concat() == content, "ten megabytes come back as they were");
}

#[tokio::test]
async fn memory() {
    let bucket = Bucket::open("memory:///", &BucketOptions::default(), Arc::new(OsRandomness::default()))
        .expect("opens");
    assert!(bucket.is_volatile());
    suite(&bucket).await;
}

#[tokio::test]
async fn file() {
    let home = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}/objects", home.path().display());
    let bucket =
        Bucket::open(&url, &BucketOptions::default(), Arc::new(OsRandomness::default())).expect("opens");
    suite(&bucket).await;
    let again =
        Bucket::open(&url, &BucketOptions::default(), Arc::new(OsRandomness::default())).expect("opens");
    assert_eq!(again.head("large").await.expect("kept").bytes, 10 << 20);
}

async fn whole_suite(server: Server) {
    for checksum in [UploadChecksum::Crc64Nvme, UploadChecksum::Sha256, UploadChecksum::Off] {
        let bucket = server.open(BucketOptions { checksum, ..BucketOptions::default() });
        suite(&bucket).await;
        remove_all(&bucket).await;
    }
}

async fn refusals_have_their_class(server: Server) {
    let nowhere =
        Server { bucket: "penstock-not-there".to_owned(), endpoint: server.endpoint.clone(), ..server };
    let bucket = nowhere.open(BucketOptions::default());
    let error = bucket.put("k", vec![Bytes::from_static(b"x")], soon()).await.expect_err("no bucket");
    assert_eq!((error.class, error.outcome), (ErrorClass::NotFound, Outcome::DidNotHappen), "{error}");
    // A port that nobody listens on: refused, so surely not carried out, and tried until the deadline.
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let bucket = server.open_at(&endpoint, BucketOptions::default());
    let deadline = Instant::now() + Duration::from_secs(1);
    let error = bucket.put("k", vec![Bytes::from_static(b"x")], deadline).await.expect_err("nobody there");
    assert_eq!((error.class, error.outcome), (ErrorClass::Unavailable, Outcome::DidNotHappen), "{error}");
    assert!(error.attempts > 1 && Instant::now() < deadline + Duration::from_millis(500));
}

/// What a proxy does to what it carries to the server.
#[derive(Clone, Copy, PartialEq)]
enum Harm {
    /// Changes one byte of the upload's body.
    Flip,
    /// Carries the request over and never brings the answer.
    Swallow,
}

/// Listens, and harms the first `harmed` connections that carry the marker.
async fn proxy(server: &str, harm: Harm, harmed: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
    tokio::spawn(async move {
        let left = Arc::new(std::sync::atomic::AtomicUsize::new(harmed));
        while let Ok((client, _)) = listener.accept().await {
            let (server, left) = (server.clone(), left.clone());
            tokio::spawn(async move { carry(client, &server, harm, &left).await });
        }
    });
    endpoint
}

const MARKER: &[u8] = b"the bytes that a bad network changes";

async fn carry(client: TcpStream, server: &str, harm: Harm, left: &std::sync::atomic::AtomicUsize) {
    use std::sync::atomic::Ordering;
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (swallow, mut swallowed) = tokio::sync::watch::channel(false);
    let up = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let marked = buffer[..read].windows(MARKER.len()).position(|window| window == MARKER);
            let harmed = |left: &std::sync::atomic::AtomicUsize| {
                left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
            };
            if let Some(at) = marked
                && harmed(left)
            {
                match harm {
                    Harm::Flip => buffer[at] ^= 1,
                    Harm::Swallow => drop(swallow.send_replace(true)),
                }
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if *swallowed.borrow_and_update() {
                std::future::pending::<()>().await;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

async fn a_changed_byte_is_told_and_the_upload_sent_again(server: Server) {
    for &checksum in server.kind.verifies() {
        let endpoint = proxy(&server.endpoint, Harm::Flip, 1).await;
        let bucket = server.open_at(&endpoint, BucketOptions { checksum, ..BucketOptions::default() });
        let put = bucket.put("k", vec![Bytes::from_static(MARKER)], soon()).await.expect("an upload");
        assert_eq!(put.attempts, 2, "{checksum:?}");
        assert_eq!(bucket.get_with_etag("k").await.expect("a read").data, MARKER);
        let corrupted = bucket.stats().snapshot().errors[ErrorClass::Corrupted.index()];
        assert_eq!(corrupted, (ErrorClass::Corrupted, 1), "{checksum:?}");
        remove_all(&bucket).await;
    }
}

/// What `penstock doctor` looks at.
async fn other_bytes_than_the_checksum_s_are_refused(server: Server) {
    for checksum in [UploadChecksum::Crc64Nvme, UploadChecksum::Sha256, UploadChecksum::Off] {
        let options = BucketOptions { checksum, change_uploads: true, ..BucketOptions::default() };
        let bucket = server.open(options);
        let deadline = Instant::now() + Duration::from_secs(1);
        let put = bucket.put("k", vec![Bytes::from_static(MARKER)], deadline).await;
        if server.kind.verifies().contains(&checksum) {
            let error = put.expect_err("refused");
            assert_eq!(
                (error.class, error.outcome),
                (ErrorClass::Corrupted, Outcome::DidNotHappen),
                "{checksum:?} {error}"
            );
        } else {
            put.expect("nobody looks");
        }
        remove_all(&bucket).await;
    }
}

async fn lost_answers_are_overtaken_or_timed_out(server: Server) {
    let hedge = HedgeOptions { initial_delay: Duration::from_millis(100), ..HedgeOptions::default() };
    let endpoint = proxy(&server.endpoint, Harm::Swallow, 1).await;
    let bucket = server.open_at(&endpoint, BucketOptions { hedge, ..BucketOptions::default() });
    let put = bucket.put("k", vec![Bytes::from_static(MARKER)], soon()).await.expect("an upload");
    assert!(put.hedged && put.elapsed < Duration::from_secs(4), "{put:?}");
    let hedge = HedgeOptions { enabled: false, ..HedgeOptions::default() };
    let endpoint = proxy(&server.endpoint, Harm::Swallow, 1).await;
    let attempt_timeout = Duration::from_millis(500);
    let bucket =
        server.open_at(&endpoint, BucketOptions { hedge, attempt_timeout, ..BucketOptions::default() });
    let put = bucket.put("k", vec![Bytes::from_static(MARKER)], soon()).await.expect("an upload");
    assert_eq!((put.hedged, put.attempts), (false, 2));
    assert_eq!(bucket.get_with_etag("k").await.expect("a read").data, MARKER);
    remove_all(&bucket).await;
}

/// The tests of one server.
macro_rules! on {
    ($name:ident, $kind:expr, [$($test:ident),+]) => {
        mod $name {
            use super::*;

            $(
                #[tokio::test]
                async fn $test() {
                    if let Some(server) = Server::of_environment($kind) {
                        super::$test(server).await;
                    }
                }
            )+
        }
    };
}

on!(
    minio,
    Kind::MinIo,
    [
        whole_suite,
        refusals_have_their_class,
        a_changed_byte_is_told_and_the_upload_sent_again,
        other_bytes_than_the_checksum_s_are_refused,
        lost_answers_are_overtaken_or_timed_out
    ]
);
on!(
    seaweedfs,
    Kind::SeaweedFs,
    [
        whole_suite,
        refusals_have_their_class,
        a_changed_byte_is_told_and_the_upload_sent_again,
        other_bytes_than_the_checksum_s_are_refused,
        lost_answers_are_overtaken_or_timed_out
    ]
);
