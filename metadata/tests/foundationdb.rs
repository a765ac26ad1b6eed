//! What only a real FoundationDB can show: outages under traffic, unknown outcomes that happened, refusals of the
//! cluster. Each test has a server of its own and is skipped by name where there is none.
#![cfg(feature = "foundationdb")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use penstock_metadata::inspect::{Inspected, Inspector, Sink, Stopped};
use penstock_metadata::keys::object::{self, ObjectRow, ObjectState};
use penstock_metadata::keys::{Family, Keyspace};
use penstock_metadata::kv::foundationdb::{FoundationDbOptions, FoundationDbStore};
use penstock_metadata::kv::{
    Isolation, Outcome, Priority, RangeOptions, SharedStore, Store, StoreError, Watch, WriteConflict,
    prefixed,
};
use penstock_types::{Incarnation, ObjectId, StoreVersion, Versionstamp, pause};

#[path = "support/fdbserver.rs"]
mod fdbserver;

use fdbserver::{FdbServer, answers, runtime};

/// Runs a test on a server of its own, or says that it is skipped.
fn with_server(name: &str, engine: &str, test: impl AsyncFnOnce(FdbServer)) {
    with_arguments(name, engine, &[], test);
}

fn with_arguments(
    name: &str,
    engine: &str,
    arguments: &'static [&'static str],
    test: impl AsyncFnOnce(FdbServer),
) {
    match FdbServer::start_with(engine, arguments) {
        Ok(server) => runtime().block_on(test(server)),
        Err(reason) => println!("skipped: foundationdb, {name}: {reason}"),
    }
}

async fn set(store: &dyn Store, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let mut transaction = store.begin(Priority::Default);
    transaction.set(key, value, WriteConflict::Yes);
    transaction.commit().await.map(drop)
}

async fn get(store: &dyn Store, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let value = store.begin(Priority::Default).get(key, Isolation::Snapshot).await?;
    Ok(value.map(|value| value.to_vec()))
}

/// What became of the writes of an outage.
#[derive(Debug, Default)]
struct Told {
    committed: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    unknown: BTreeSet<u32>,
    reads_failed: u32,
}

/// Writes rows of its own, each once, and reads, until told to stop. Every error must be one that a caller may retry.
async fn traffic(store: SharedStore, of: u32, stop: Arc<AtomicBool>) -> Told {
    let mut told = Told::default();
    for number in of * 1_000_000.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut transaction = store.begin(Priority::Default);
        // Half of them write blindly: their commits can't be kept from being sent by a read that fails.
        if of.is_multiple_of(2) {
            match transaction.get(b"traffic/nothing", Isolation::Serializable).await {
                Ok(value) => assert_eq!(value, None),
                Err(error) => {
                    assert!(error.is_retryable() && error.outcome() == Outcome::DidNotHappen, "{error}");
                    told.reads_failed += 1;
                    continue;
                }
            }
        }
        transaction.set(&[b"traffic/row/", &number.to_be_bytes()[..]].concat(), b"x", WriteConflict::No);
        match transaction.commit().await {
            Ok(_) => told.committed.insert(number),
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                match error.outcome() {
                    Outcome::DidNotHappen => told.refused.insert(number),
                    Outcome::MayHaveHappened => told.unknown.insert(number),
                }
            }
        };
    }
    told
}

async fn rows_written(store: &dyn Store) -> BTreeSet<u32> {
    let mut range = prefixed(b"traffic/row/");
    let mut written = BTreeSet::new();
    loop {
        let mut transaction = store.begin(Priority::Default);
        let options = RangeOptions::page(10_000, Isolation::Snapshot);
        let page = transaction.range(range.clone(), options).await.expect("a page");
        for row in &page.rows {
            let number = row.key[row.key.len() - 4..].try_into().expect("4 bytes");
            written.insert(u32::from_be_bytes(number));
        }
        match page.rows.last() {
            Some(last) if page.more => range.start = penstock_metadata::kv::single_key(&last.key).end,
            _ => return written,
        }
    }
}

/// The server stands still, and is killed and started again, under traffic: what was told is what is there, and the
/// store that was opened before works afterwards.
#[test]
fn outages_lose_nothing_that_was_told_and_need_no_restart() {
    with_server("outages", "ssd", async |mut server| {
        let store: SharedStore = server.store_with_timeout(Duration::from_secs(1));
        answers(&*store).await;
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> =
            (0..8).map(|of| tokio::spawn(traffic(Arc::clone(&store), of, Arc::clone(&stop)))).collect();
        pause(Duration::from_secs(1)).await;
        server.suspend();
        pause(Duration::from_secs(3)).await;
        server.resume();
        answers(&*store).await;
        pause(Duration::from_secs(1)).await;
        server.kill();
        pause(Duration::from_secs(2)).await;
        server.restart();
        answers(&*store).await;
        pause(Duration::from_secs(1)).await;
        stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for client in clients {
            let told = client.await.expect("a client");
            all.committed.extend(told.committed);
            all.refused.extend(told.refused);
            all.unknown.extend(told.unknown);
            all.reads_failed += told.reads_failed;
        }
        let written = rows_written(&*store).await;
        let happened = all.unknown.intersection(&written).count();
        println!(
            "{} committed, {} refused, {} unknown of which {happened} happened, {} reads failed",
            all.committed.len(),
            all.refused.len(),
            all.unknown.len(),
            all.reads_failed
        );
        assert!(all.committed.is_subset(&written), "what was acknowledged is there");
        assert!(all.refused.is_disjoint(&written), "what was refused is not");
        assert!(written.iter().all(|row| all.committed.contains(row) || all.unknown.contains(row)));
        assert!(!all.unknown.is_empty() && all.reads_failed > 0, "there were outages");
    });
}

/// A commit that was under way when the server stood still: its maker is told that it may have happened, and it does,
/// later.
#[test]
fn an_unknown_outcome_may_still_happen() {
    with_server("unknown outcomes", "ssd", async |server| {
        let store: SharedStore = server.store_with_timeout(Duration::from_millis(500));
        answers(&*store).await;
        let mut happened = 0;
        for attempt in 0..10u8 {
            let mut transaction = store.begin(Priority::Default);
            transaction.read_version().await.expect("a version");
            transaction.set(&[b'k', attempt], b"x", WriteConflict::Yes);
            server.suspend();
            let told = transaction.commit().await;
            server.resume();
            assert_eq!(told, Err(StoreError::CommitUnknown));
            answers(&*store).await;
            // A transaction that conflicts with it settles it: from here on it can't happen any more.
            let mut settling = store.begin(Priority::Default);
            let found = settling.get(&[b'k', attempt], Isolation::Serializable).await.expect("a read");
            happened += u32::from(found.is_some());
        }
        println!("{happened} of 10 unknown commits happened");
        assert!(happened > 0, "a commit that had reached the server happened");
    });
}

/// Watches outlive a server, and what changed meanwhile wakes them.
#[test]
fn watches_survive_a_restart_of_the_server() {
    with_server("watches and restarts", "ssd", async |mut server| {
        let store: SharedStore = server.store_with_timeout(Duration::from_secs(2));
        answers(&*store).await;
        set(&*store, b"watched", b"1").await.expect("a commit");
        let mut transaction = store.begin(Priority::Default);
        transaction.get(b"watched", Isolation::Snapshot).await.expect("a read");
        let watch = transaction.watch(b"watched");
        transaction.commit().await.expect("a commit that writes nothing");
        server.kill();
        server.restart();
        answers(&*store).await;
        while set(&*store, b"watched", b"2").await.is_err() {}
        tokio::time::timeout(Duration::from_secs(60), watch).await.expect("it wakes").ok();
        assert_eq!(get(&*store, b"watched").await, Ok(Some(b"2".to_vec())));
    });
}

/// Arms a watch on a key of its own.
async fn arm(store: &dyn Store, number: u8) -> Watch {
    let mut transaction = store.begin(Priority::Default);
    let watch = transaction.watch(&[b'w', number]);
    transaction.commit().await.expect("the transaction itself is fine");
    watch
}

#[test]
fn watches_are_bounded() {
    with_server("too many watches", "memory", async |server| {
        let options = FoundationDbOptions { max_watches: 5, ..server.options() };
        let store = FoundationDbStore::open(&options).expect("the store opens");
        answers(&*store).await;
        let mut armed = Vec::new();
        for number in 0..5 {
            armed.push(tokio::spawn(arm(&*store, number).await));
        }
        pause(Duration::from_secs(1)).await;
        assert_eq!(arm(&*store, 5).await.await, Err(StoreError::Throttled));
        // Dropping one makes room.
        armed.remove(0).abort();
        pause(Duration::from_secs(1)).await;
        let watch = tokio::spawn(arm(&*store, 6).await);
        pause(Duration::from_secs(1)).await;
        set(&*store, &[b'w', 6], b"x").await.expect("a commit");
        assert_eq!(watch.await.expect("the task"), Ok(()));
    });
}

#[test]
fn a_locked_database_is_unavailable_until_it_is_unlocked() {
    with_server("a locked database", "memory", async |server| {
        let store: SharedStore = server.store();
        answers(&*store).await;
        let said = server.fdbcli("lock", "");
        let uid = said.split_whitespace().find(|word| word.len() == 32).unwrap_or_else(|| panic!("{said}"));
        let refused = set(&*store, b"a", b"1").await.expect_err("it is locked");
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
        assert_eq!(refused.outcome(), Outcome::DidNotHappen);
        let refused = get(&*store, b"a").await.expect_err("it is locked");
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
        unlock(&server, uid.trim_end_matches('.'));
        set(&*store, b"a", b"2").await.expect("it is unlocked");
        assert_eq!(get(&*store, b"a").await, Ok(Some(b"2".to_vec())));
    });
}

/// fdbcli wants a passphrase typed that it makes up.
fn unlock(server: &FdbServer, uid: &str) {
    use std::io::{BufRead, BufReader, Read, Write};
    let mut fdbcli = std::process::Command::new("fdbcli")
        .arg("-C")
        .arg(server.cluster_file())
        .args(["--exec", &format!("unlock {uid}")])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("fdbcli");
    let mut output = BufReader::new(fdbcli.stdout.take().expect("a pipe"));
    let (mut warning, mut passphrase) = (String::new(), String::new());
    output.read_line(&mut warning).expect("a line");
    output.read_line(&mut passphrase).expect("a line");
    fdbcli.stdin.take().expect("a pipe").write_all(passphrase.as_bytes()).expect("typed");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("text");
    assert!(fdbcli.wait().expect("fdbcli").success(), "{rest}");
}

#[test]
fn throttled_tags_push_back() {
    // Throttles by hand, instead of by quotas that follow the load.
    const BY_HAND: &[&str] =
        &["--knob_global_tag_throttling=false", "--knob_enforce_tag_throttling_on_proxies=false"];
    with_arguments("throttled tags", "memory", BY_HAND, async |server| {
        let tagged = FoundationDbOptions { tag: Some("bulk".to_owned()), ..server.options() };
        let tagged = FoundationDbStore::open(&tagged).expect("the store opens");
        let untagged = server.store();
        answers(&*tagged).await;
        server.fdbcli("throttle on tag bulk 0 1h default", "");
        // The proxies and this client learn of it when they next ask.
        let mut throttled = false;
        for _ in 0..120 {
            let read = tokio::time::timeout(Duration::from_secs(10), get(&*tagged, b"a")).await;
            match read {
                Ok(Err(StoreError::Throttled)) => {
                    throttled = true;
                    break;
                }
                Ok(Ok(_)) => pause(Duration::from_millis(250)).await,
                // Held back as long as it may take.
                Ok(Err(StoreError::Unavailable { .. })) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(throttled, "the tag is throttled");
        get(&*untagged, b"a").await.expect("others are not");
        server.fdbcli("throttle off all", "");
        answers(&*tagged).await;
    });
}

#[test]
fn batch_priority_reads_and_commits() {
    with_server("batch priority", "memory", async |server| {
        let store: SharedStore = server.store();
        answers(&*store).await;
        let mut transaction = store.begin(Priority::Batch);
        assert_eq!(transaction.get(b"a", Isolation::Serializable).await, Ok(None));
        transaction.set(b"a", b"1", WriteConflict::Yes);
        transaction.commit().await.expect("a commit");
        assert_eq!(get(&*store, b"a").await, Ok(Some(b"1".to_vec())));
    });
}

/// Counts what an inspection finds.
#[derive(Default)]
struct Found {
    rows: usize,
    corrupt: usize,
}

impl Sink for Found {
    fn put(&mut self, found: Inspected) -> Result<(), Stopped> {
        self.rows += 1;
        self.corrupt += usize::from(found.is_corrupt());
        Ok(())
    }
    fn read(&mut self, _rows: usize) {}
}

/// An inspection reads many pages, each in a transaction of its own, while others write; it writes nothing.
#[test]
fn an_inspection_pages_over_a_large_family() {
    with_server("inspection", "memory", async |server| {
        let store: SharedStore = server.store();
        answers(&*store).await;
        let keyspace = Keyspace::new(b"c/");
        let row = ObjectRow {
            state: ObjectState::Tombstone,
            stamp: Versionstamp::ZERO,
            incarnation: Incarnation::FIRST,
            first_n: 0,
            size: 1,
            batches: 1,
            verdicts: Vec::new(),
            level: 0,
        };
        for part in 0..10u64 {
            let mut transaction = store.begin(Priority::Default);
            for number in part * 1_000..(part + 1) * 1_000 {
                let id = ObjectId::new(Incarnation::FIRST, StoreVersion::new(1), number);
                transaction.set(&object::key(&keyspace, id), &row.encode(), WriteConflict::No);
            }
            transaction.commit().await.expect("a commit");
        }
        // A row of nobody's, and one of another cluster.
        set(&*store, b"c/\x20short", b"").await.expect("a commit");
        set(&*store, b"d/\x20short", b"").await.expect("a commit");
        let mut seen = store.begin(Priority::Default);
        seen.get(b"c/\x20short", Isolation::Serializable).await.expect("a read");
        seen.add_read_conflict(keyspace.all());
        let mut found = Found::default();
        let inspector = Inspector::new(Arc::clone(&store), keyspace.clone(), 1);
        inspector.rows(Some(Family::Object), &mut found).await.expect("all of it");
        assert_eq!((found.rows, found.corrupt), (10_001, 1));
        seen.set(b"d/after", b"x", WriteConflict::Yes);
        seen.commit().await.expect("nothing was written below the cluster's prefix");
    });
}

/// A cluster that isn't there: operations fail in time, with an error that a caller may retry.
#[test]
fn an_absent_cluster_is_unavailable() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    // Nobody listens there: the port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
    std::fs::write(file.path(), format!("test:nobody@127.0.0.1:{port}\n")).expect("written");
    let mut options = FoundationDbOptions::new(file.path().to_owned());
    options.timeout = Duration::from_millis(300);
    let store = FoundationDbStore::open(&options).expect("opening contacts nobody");
    runtime().block_on(async {
        let refused = get(&*store, b"a").await.expect_err("nobody answers");
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
        assert_eq!(set(&*store, b"a", b"1").await, Err(StoreError::CommitUnknown));
        let mut watching = store.begin(Priority::Default);
        let watch = watching.watch(b"a");
        assert!(watching.commit().await.is_err_and(|error| error.outcome() == Outcome::DidNotHappen));
        assert!(watch.await.is_err());
    });
}
