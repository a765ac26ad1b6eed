//! Crashes of the embedded store: a child of this very binary commits until it dies, and what it was told to be
//! committed must be there afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use penstock_metadata::kv::embedded::{EmbeddedOptions, EmbeddedStore};
use penstock_metadata::kv::{
    Isolation, Priority, RangeOptions, Store, Transaction, WriteConflict, prefixed, single_key,
};
use penstock_types::{Randomness, SeededRandomness, Versionstamp};

const DIRECTORY: &str = "PENSTOCK_CRASH_DIRECTORY";
const COMMITTERS: usize = 8;

fn open(path: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(path, EmbeddedOptions::default()).expect("the store opens")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

/// The child: commits and tells what was acknowledged, until it dies.
#[test]
#[ignore = "the child of the other tests here"]
fn commit_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&directory));
    runtime().block_on(async {
        let version = store.begin(Priority::Default).read_version().await.expect("a version");
        // On a line of its own, behind what the test harness has begun.
        tell(&format!("\nbegan {}", version.get()));
        let committers: Vec<_> = (0..COMMITTERS)
            .map(|committer| tokio::spawn(commit_forever(Arc::clone(&store), committer)))
            .collect();
        for committer in committers {
            committer.await.expect("it never ends");
        }
    });
}

async fn commit_forever(store: Arc<EmbeddedStore>, committer: usize) {
    for number in 0u64.. {
        let mut transaction = store.begin(Priority::Default);
        append(&mut *transaction, committer, number);
        let committed = transaction.commit().await.expect("nobody conflicts");
        let stamp = committed.stamp.expect("a stamp");
        let hex: String = stamp.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        tell(&format!("acked {hex} {committer} {number}"));
    }
}

/// Twenty rows, a counter, and a row that is taken away.
fn append(transaction: &mut dyn Transaction, committer: usize, number: u64) {
    let value = [&committer.to_be_bytes()[..], &number.to_be_bytes(), &[7; 50]].concat();
    transaction.set_stamped_key(b"row/", b"", &value, WriteConflict::No);
    for filler in 0..18u8 {
        let key = [b"filler/", &committer.to_be_bytes()[..], &[filler]].concat();
        transaction.set(&key, &value, WriteConflict::No);
    }
    let own = prefixed(&[b"filler/", &committer.to_be_bytes()[..]].concat());
    transaction.clear_range(own, WriteConflict::No);
    transaction.atomic_add(b"row0count", 1, WriteConflict::No);
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// What a child told.
#[derive(Default)]
struct Told {
    began: Option<u64>,
    acked: BTreeMap<Versionstamp, (usize, u64)>,
    rest: Vec<String>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("began"), Some(version), None, None) => self.began = version.parse().ok(),
            (Some("acked"), Some(stamp), Some(committer), Some(number)) => {
                let mut bytes = [0; 10];
                for (at, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&stamp[2 * at..2 * at + 2], 16).expect("a stamp");
                }
                let who = (committer.parse().expect("a number"), number.parse().expect("a number"));
                let before = self.acked.insert(Versionstamp::from_bytes(bytes), who);
                assert_eq!(before, None, "no two commits share a stamp");
            }
            _ => self.rest.push(line.to_owned()),
        }
    }
}

fn child_command(shell: Option<&str>) -> Command {
    let binary = std::env::current_exe().expect("this binary");
    let mut command = match shell {
        None => Command::new(binary),
        Some(script) => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!("{script}; exec \"$0\" \"$@\"")).arg(binary);
            command
        }
    };
    command.args(["--exact", "commit_until_killed", "--ignored", "--nocapture", "--test-threads", "1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
    command
}

/// Listens until `enough` and kills the child then, or until it ends; hears all that it told.
fn listen(child: &mut Child, enough: usize) -> Told {
    let mut told = Told::default();
    let mut killed = false;
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = Vec::new();
    while out.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        // A last line that was cut off was heard by nobody.
        if let Some(whole) = line.strip_suffix(b"\n") {
            told.hear(std::str::from_utf8(whole).expect("text"));
        }
        line.clear();
        if !killed && told.acked.len() >= enough {
            child.kill().expect("it is killed");
            killed = true;
        }
    }
    told
}

/// Every acknowledged row is there, nothing is half there, and versions have gone on.
async fn check(store: &EmbeddedStore, acked: &BTreeMap<Versionstamp, (usize, u64)>) {
    let mut transaction = store.begin(Priority::Default);
    let version = transaction.read_version().await.expect("a version");
    let mut rows = BTreeMap::new();
    let mut range = b"row/".to_vec()..b"row0".to_vec();
    loop {
        let options = RangeOptions::page(5_000, Isolation::Snapshot);
        let page = transaction.range(range.clone(), options).await.expect("a page");
        for row in &page.rows {
            let stamp = Versionstamp::from_bytes(row.key[4..].try_into().expect("a stamp"));
            let committer = usize::from_be_bytes(row.value[..8].try_into().expect("8 bytes"));
            let number = u64::from_be_bytes(row.value[8..16].try_into().expect("8 bytes"));
            rows.insert(stamp, (committer, number));
        }
        let Some(last) = page.rows.last().filter(|_| page.more) else { break };
        range.start = single_key(&last.key).end;
    }
    for (stamp, who) in acked {
        assert_eq!(rows.get(stamp), Some(who), "{stamp:?} was acknowledged");
    }
    let highest = rows.keys().next_back().map_or(0, |stamp| stamp.version().get());
    assert!(version.get() > highest, "{version} is not above {highest}");
    let counter = transaction.get(b"row0count", Isolation::Snapshot).await.expect("the counter");
    let counter = counter.map_or(0, |v| i64::from_le_bytes(v.as_ref().try_into().expect("8 bytes")));
    assert_eq!(counter, rows.len() as i64, "a commit is there as a whole or not at all");
    let fillers = transaction
        .range(b"filler/".to_vec()..b"filler0".to_vec(), RangeOptions::page(10, Isolation::Snapshot))
        .await
        .expect("a page");
    assert!(fillers.rows.is_empty());
}

#[test]
fn kill_9_loses_no_acknowledged_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let seed = 42;
    println!("seed {seed}");
    let randomness = SeededRandomness::new(seed);
    let mut acked = BTreeMap::new();
    let mut highest = 0;
    for round in 0..8 {
        let enough = 50 + randomness.below(600) as usize;
        let mut child = child_command(None).env(DIRECTORY, directory.path()).spawn().expect("a child");
        let told = listen(&mut child, enough);
        let status = child.wait().expect("its end");
        assert_eq!(status.signal(), Some(9), "round {round}: {:?}", told.rest);
        let began = told.began.expect("it began");
        assert!(began > highest, "round {round} began at {began}, not above {highest}");
        assert!(told.acked.len() >= enough);
        let last = told.acked.keys().next_back().expect("some").version().get();
        highest = highest.max(last);
        acked.extend(told.acked);
        let store = open(directory.path());
        runtime().block_on(check(&store, &acked));
    }
}

/// A file-size limit stands in for a full disk.
#[test]
fn a_failed_write_ends_the_process_and_loses_no_acknowledged_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path()).close();
    let script = "trap '' XFSZ; ulimit -f 2048";
    let mut child = child_command(Some(script)).env(DIRECTORY, directory.path()).spawn().expect("a child");
    let told = listen(&mut child, usize::MAX);
    let status = child.wait().expect("its end");
    assert_eq!(status.signal(), Some(6), "it aborts: {status:?} {:?}", told.rest);
    assert!(told.acked.len() > 50, "{} commits fit below the limit", told.acked.len());
    let store = open(directory.path());
    runtime().block_on(check(&store, &told.acked));
}
