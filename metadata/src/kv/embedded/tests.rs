use futures::future::join_all;

use super::*;
use crate::kv::{Isolation, WriteConflict};

const YES: WriteConflict = WriteConflict::Yes;

fn open(path: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(path, EmbeddedOptions::default()).expect("the store opens")
}

async fn set(store: &EmbeddedStore, key: &str, value: &str) -> Result<Committed, StoreError> {
    let mut transaction = store.begin(Priority::Default);
    transaction.set(key.as_bytes(), value.as_bytes(), YES);
    transaction.commit().await
}

async fn get(store: &EmbeddedStore, key: &str) -> Option<Bytes> {
    store.begin(Priority::Default).get(key.as_bytes(), Isolation::Serializable).await.expect("a read")
}

#[tokio::test]
async fn what_was_committed_outlives_the_store_and_versions_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut highest = 0;
    for round in 0..3 {
        let store = open(directory.path());
        if round > 0 {
            let value = get(&store, "round").await.expect("the round before wrote it");
            assert_eq!(value.as_ref(), (round - 1).to_string().as_bytes());
        }
        let read = store.begin(Priority::Default).read_version().await.expect("a version").get();
        assert!(read > highest);
        let committed = set(&store, "round", &round.to_string()).await.expect("a commit");
        highest = committed.version.get().max(read);
        store.close();
    }
}

/// Names, sizes and bytes of all files below a directory.
fn files(path: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("a file"));
        }
    }
    found
}

#[tokio::test]
async fn a_store_that_is_only_read_stays_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = EmbeddedStore::open_to_read(directory.path(), EmbeddedOptions::default());
    assert!(matches!(missing, Err(OpenError::Missing { .. })), "{missing:?}");
    assert!(files(directory.path()).is_empty(), "nothing was made");

    let store = open(directory.path());
    set(&store, "a", "x").await.expect("a commit");
    let locked = EmbeddedStore::open_to_read(directory.path(), EmbeddedOptions::default());
    assert!(matches!(locked, Err(OpenError::Locked { .. })), "{locked:?}");
    let written = store.begin(Priority::Default).read_version().await.expect("a version");
    drop(store);
    let before = files(directory.path());
    for _ in 0..2 {
        let reader =
            EmbeddedStore::open_to_read(directory.path(), EmbeddedOptions::default()).expect("it opens");
        assert_eq!(get(&reader, "a").await.as_deref(), Some(&b"x"[..]));
        let version = reader.begin(Priority::Default).read_version().await.expect("a version");
        assert!(version >= written, "what was written is not above it");
        let refused = set(&reader, "a", "y").await.expect_err("it is read only");
        assert_eq!(refused.outcome(), crate::kv::Outcome::DidNotHappen);
    }
    assert!(files(directory.path()) == before, "not one byte has changed");
    assert_eq!(get(&open(directory.path()), "a").await.as_deref(), Some(&b"x"[..]));
}

#[tokio::test]
async fn a_directory_is_opened_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let again = EmbeddedStore::open(directory.path(), EmbeddedOptions::default());
    assert!(matches!(again, Err(OpenError::Locked { .. })), "{again:?}");
    set(&store, "a", "x").await.expect("the first is undisturbed");
    let mut transaction = store.begin(Priority::Default);
    transaction.read_version().await.expect("a version");
    store.close();
    let again = EmbeddedStore::open(directory.path(), EmbeddedOptions::default());
    assert!(matches!(again, Err(OpenError::Locked { .. })), "a transaction still reads: {again:?}");
    drop(transaction);
    open(directory.path());
}

#[tokio::test]
async fn a_closed_store_refuses() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let mut watching = store.begin(Priority::Default);
    let watch = watching.watch(b"a");
    watching.commit().await.expect("a commit that writes nothing");
    store.close();
    store.close();
    assert!(matches!(set(&store, "a", "x").await, Err(StoreError::Unavailable { .. })));
    let read = store.begin(Priority::Default).get(b"a", Isolation::Snapshot).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })));
    assert!(matches!(watch.await, Err(StoreError::Unavailable { .. })));
}

#[test]
fn a_directory_that_cannot_be_used_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let result = EmbeddedStore::open(&path, EmbeddedOptions::default());
        assert!(matches!(result, Err(OpenError::Io { .. })), "{result:?}");
    }
}

#[test]
fn what_is_no_store_or_damaged_or_newer_is_refused() {
    let refused = |prepare: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().expect("a directory");
        open(directory.path()).close();
        prepare(&directory.path().join("store"));
        EmbeddedStore::open(directory.path(), EmbeddedOptions::default()).expect_err("it is refused")
    };
    let rewrite = |path: &Path, value: &[u8]| {
        let database = fjall::Database::builder(path).open().expect("fjall opens it");
        let keyspace = database.keyspace("rows", Default::default).expect("the keyspace");
        keyspace.insert([0, b'f'], value).expect("a write");
    };
    let newer = refused(&|path| rewrite(path, b"PENSTOCK\x00\x02"));
    assert!(matches!(newer, OpenError::TooNew { found: 2, supported: 1, .. }), "{newer}");
    let other = refused(&|path| rewrite(path, b"something"));
    assert!(matches!(other, OpenError::Corrupt { .. }), "{other}");
    let foreign = refused(&|path| {
        std::fs::remove_dir_all(path).expect("removed");
        fjall::Database::builder(path).open().expect("fjall makes one");
    });
    assert!(matches!(foreign, OpenError::Corrupt { .. }), "{foreign}");
    let damaged = refused(&|path| std::fs::write(path.join("version"), "?").expect("a write"));
    assert!(matches!(damaged, OpenError::Corrupt { .. }), "{damaged}");
}

#[tokio::test]
async fn a_store_half_made_is_made_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(directory.path().join("new/keyspaces")).expect("a directory");
    std::fs::write(directory.path().join("new/0.jnl"), "x").expect("a file");
    let store = open(directory.path());
    set(&store, "a", "x").await.expect("a commit");
    assert!(!directory.path().join("new").exists());
}

#[tokio::test]
async fn many_commits_share_one_fsync() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for _ in 0..5 {
        let commit = async |number: u32| set(&store, &number.to_string(), "x").await;
        for result in join_all((0..100).map(commit)).await {
            result.expect("a commit");
        }
    }
    let stats = store.stats();
    assert_eq!((stats.commits, stats.refused, stats.queued), (500, 0, 0));
    assert!(stats.fsyncs < 250, "{stats:?}");
    assert!(stats.groups <= stats.fsyncs && stats.rows == 500, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn versions_advance_with_time_and_stay_below_the_ceiling() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let version = async |store: &EmbeddedStore| {
        store.begin(Priority::Default).read_version().await.expect("a version").get()
    };
    let first = version(&store).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let second = version(&store).await;
    assert!((9_900_000..10_100_000).contains(&(second - first)), "{}", second - first);
    let fsyncs = store.stats().fsyncs;
    // Far past what was reserved: the next version takes a write, and is readable.
    tokio::time::advance(Duration::from_secs(600)).await;
    let third = version(&store).await;
    assert!(third - second >= 599_000_000);
    assert_eq!(store.stats().fsyncs, fsyncs + 1);
    assert_eq!(get(&store, "a").await, None);
    store.close();
    let store = open(directory.path());
    assert!(version(&store).await > third);
}

#[tokio::test(start_paused = true)]
async fn old_states_are_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for number in 0..50 {
        set(&store, "a", &number.to_string()).await.expect("a commit");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(store.stats().snapshots <= 8, "{:?}", store.stats());
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(get(&store, "a").await.as_deref(), Some(&b"49"[..]));
    assert_eq!(store.stats().snapshots, 1);
}

#[tokio::test(start_paused = true)]
async fn background_transactions_yield() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions { queue_commits: 4, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open(directory.path(), options).expect("the store opens");
    let places = store.shared.requests.reserve_many(3).await.expect("places in the queue");
    let batch = store.begin(Priority::Batch).read_version().await;
    assert_eq!(batch, Err(StoreError::Throttled));
    store.begin(Priority::Default).read_version().await.expect("a client does not wait");
    drop(places);
    store.begin(Priority::Batch).read_version().await.expect("the queue is short again");
}

#[tokio::test]
async fn dropped_watches_are_forgotten() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let mut watches = Vec::new();
    for _ in 0..5 {
        let mut transaction = store.begin(Priority::Default);
        watches.push(transaction.watch(b"a"));
        transaction.commit().await.expect("a commit that writes nothing");
    }
    assert_eq!(store.stats().watches, 5);
    drop(watches);
    assert_eq!(store.stats().watches, 0);
}

#[tokio::test]
async fn rows_survive_flushes_and_clears() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let value = "v".repeat(50_000);
    // Several write buffers' worth.
    for round in 0..40 {
        let mut transaction = store.begin(Priority::Default);
        for number in 0..20 {
            let key = format!("{round:03}/{number:03}");
            transaction.set(key.as_bytes(), value.as_bytes(), WriteConflict::No);
        }
        transaction.commit().await.expect("a commit");
    }
    let mut transaction = store.begin(Priority::Default);
    transaction.clear_range(b"010".to_vec()..b"030".to_vec(), YES);
    transaction.commit().await.expect("a commit");
    store.close();
    let store = open(directory.path());
    let mut transaction = store.begin(Priority::Default);
    let mut range = b"0".to_vec()..b"1".to_vec();
    let mut keys = Vec::new();
    loop {
        let options = RangeOptions::page(1_000, Isolation::Snapshot);
        let page = transaction.range(range.clone(), options).await.expect("a page");
        keys.extend(page.rows.iter().map(|row| String::from_utf8(row.key.to_vec()).expect("text")));
        let Some(last) = page.rows.last().filter(|_| page.more) else { break };
        range.start = crate::kv::single_key(&last.key).end;
    }
    let expected: Vec<_> = (0..10)
        .chain(30..40)
        .flat_map(|round| (0..20).map(move |number| format!("{round:03}/{number:03}")))
        .collect();
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn ranges_are_the_same_around_keys_written_often() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    // "b", "e" and "h" pile up; "e" is then removed.
    for round in 0..40u64 {
        let mut transaction = store.begin(Priority::Default);
        for key in ["b", "e", "h"] {
            transaction.atomic_add(key.as_bytes(), 1, WriteConflict::No);
        }
        transaction.set(format!("c{round:02}").as_bytes(), b"once", WriteConflict::No);
        transaction.commit().await.expect("a commit");
    }
    let mut transaction = store.begin(Priority::Default);
    transaction.clear(b"e", YES);
    transaction.set(b"e\0", b"right behind", YES);
    transaction.commit().await.expect("a commit");
    let latest = store.shared.published.lock().latest().expect("open");
    let all = latest.range(&(b"a".to_vec()..b"z".to_vec()), false).collect::<Result<Vec<_>, _>>();
    let all: Vec<_> = all.expect("rows").into_iter().map(|row| row.key).collect();
    let mut expected = vec!["b".to_owned()];
    expected.extend((0..40).map(|round| format!("c{round:02}")));
    expected.extend(["e\0".to_owned(), "h".to_owned()]);
    assert_eq!(all, expected);
    let bounds = ["", "a", "b", "b\0", "c", "d", "e", "e\0", "f", "h", "h\0", "z"];
    for (at, start) in bounds.iter().enumerate() {
        for end in &bounds[at..] {
            let range = start.as_bytes().to_vec()..end.as_bytes().to_vec();
            let within = |key: &&Bytes| **key >= start.as_bytes() && **key < end.as_bytes();
            let expected: Vec<_> = all.iter().filter(within).cloned().collect();
            for reverse in [false, true] {
                let rows = latest.range(&range, reverse).collect::<Result<Vec<_>, _>>().expect("rows");
                let mut keys: Vec<_> = rows.into_iter().map(|row| row.key).collect();
                if reverse {
                    keys.reverse();
                }
                assert_eq!(keys, expected, "{range:?}, reverse: {reverse}");
            }
        }
    }
}
