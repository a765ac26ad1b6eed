//! The `penstock` command as a user has it: a broker in a process of its own, other commands as its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const PENSTOCK: &str = env!("CARGO_BIN_EXE_penstock");

/// `penstock` without anything that the tests' own environment configures.
fn penstock(arguments: &[&str]) -> Command {
    let mut command = Command::new(PENSTOCK);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PENSTOCK_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    penstock(arguments).stdin(Stdio::null()).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is text")
}

/// The one line that a command fails with, and its exit code.
fn failure(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    let message = text(&output.stderr);
    assert_eq!(message.lines().count(), 1, "one line says why: {message}");
    assert!(output.stdout.is_empty(), "nothing was done: {}", text(&output.stdout));
    (output.status.code(), message)
}

/// A running broker; killed if the test fails.
struct Broker {
    process: Child,
    bootstrap: String,
    http: String,
}

impl Broker {
    /// Starts `penstock dev` on free ports and waits for its banner, which it prints once it serves.
    fn start(data_dir: &Path) -> Self {
        let data_dir = data_dir.to_str().expect("a temporary path is text");
        let mut process =
            penstock(&["dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data_dir])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("the broker starts");
        let output = process.stdout.take().expect("standard output is piped");
        let mut broker = Self { process, bootstrap: String::new(), http: String::new() };
        for line in BufReader::new(output).lines() {
            let line = line.expect("the banner is text");
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("Kafka"), Some(address)) => broker.bootstrap = address.to_owned(),
                (Some("HTTP"), Some(url)) => broker.http = url.trim_start_matches("http://").to_owned(),
                (Some("echo"), _) if line.contains("penstock produce") => break,
                _ => {}
            }
        }
        assert!(!broker.bootstrap.is_empty() && !broker.http.is_empty(), "the banner names both addresses");
        broker
    }

    /// Runs a client command that must succeed, with `input`; returns what it printed.
    fn client(&self, arguments: &[&str], input: &str) -> String {
        let mut child = penstock(arguments)
            .args(["--bootstrap", &self.bootstrap])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command runs");
        let mut stdin = child.stdin.take().expect("standard input is piped");
        stdin.write_all(input.as_bytes()).expect("the command reads its input");
        drop(stdin);
        let output = child.wait_with_output().expect("the command ends");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn get(&self, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(&self.http).expect("HTTP is served");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        answer
    }

    /// Sends SIGTERM and waits; returns the exit code.
    fn terminate(&mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        self.process.wait().expect("the broker ends").code()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}

#[test]
fn a_newcomers_first_minutes() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(directory.path());
    assert!(broker.get("/health/ready").starts_with("HTTP/1.0 200"), "{}", broker.get("/health/ready"));
    assert!(broker.get("/metrics").contains("penstock_ready 1.0"));

    broker.client(&["topics", "create", "orders", "--partitions", "1"], "");
    broker.client(
        &["produce", "orders", "--key-separator", ":", "--header", "h=1", "--idempotent"],
        "a:1\nb:2\nc:3\n",
    );
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        broker.client(&["produce", "orders", "--compression", codec], &format!("{codec}\n"));
    }
    let line =
        ["consume", "orders", "--until-end", "--format", "{offset} {key} {value} {headers}\\n", "--from"];
    let all = broker.client(&[&line[..], &["beginning"]].concat(), "");
    assert_eq!(all, "0 a 1 h=1\n1 b 2 h=1\n2 c 3 h=1\n3  gzip \n4  snappy \n5  lz4 \n6  zstd \n");
    assert_eq!(broker.client(&[&line[..], &["-2"]].concat(), ""), "5  lz4 \n6  zstd \n");
    assert_eq!(broker.client(&[&line[..], &["6"]].concat(), ""), "6  zstd \n");
    assert_eq!(broker.client(&[&line[..], &["@0"]].concat(), ""), all);

    let grouped = ["consume", "orders", "--group", "readers", "--from", "beginning", "--max-messages"];
    assert_eq!(broker.client(&[&grouped[..], &["2"]].concat(), ""), "1\n2\n");
    let described = broker.client(&["groups", "describe", "readers", "--output", "json"], "");
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described["offsets"][0]["committed"], 2);
    assert_eq!(described["offsets"][0]["lag"], 5);

    assert_eq!(broker.terminate(), Some(0), "SIGTERM ends a broker well");
    let again = Broker::start(directory.path());
    assert_eq!(again.client(&[&line[..], &["beginning"]].concat(), ""), all, "a restart keeps all data");
    assert_eq!(again.client(&[&grouped[..], &["1"]].concat(), ""), "3\n", "and how far groups are");
}

#[test]
fn a_data_directory_and_a_bucket_belong_to_one() {
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let broker = Broker::start(one.path());
    let free = ["dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"];
    let path = one.path().to_str().expect("text");
    let (code, message) = failure(&[&free[..], &[path]].concat());
    assert_eq!(code, Some(1));
    assert!(message.contains("in use by another process"), "{message}");

    let objects = format!("file://{path}/objects");
    let elsewhere = other.path().to_str().expect("text");
    let (code, message) = failure(&[&free[..], &[elsewhere, "--object-store", &objects]].concat());
    assert_eq!(code, Some(1));
    assert!(message.contains("belongs to cluster"), "{message}");

    let (code, message) =
        failure(&["dev", "--listen", &broker.bootstrap, "--http", "127.0.0.1:0", "--data-dir", elsewhere]);
    assert_eq!(code, Some(1));
    assert!(message.contains("listens there already"), "{message}");
}

#[test]
fn wrong_configurations_are_refused_in_one_line() {
    for (arguments, expected) in [
        (&["dev", "--listen", "0.0.0.0:9092"][..], "needs advertise"),
        (&["dev", "--object-store", "memory:///"], "durable"),
        (&["dev", "--set", "flush.intervall.ms=1"], "did you mean flush.interval.ms?"),
        (&["agent", "--set", "upload.concurrency=0"], "out of range"),
        (&["agent", "--config", "/nonexistent.toml"], "can't be read"),
        (&["produce", "t", "--acks", "1", "--idempotent"], "--acks all"),
    ] {
        let (code, message) = failure(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {message}");
        assert!(message.starts_with("error: ") && message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn nobody_listening_is_said_at_once_and_with_the_reason() {
    let (code, message) = failure(&["topics", "list", "--bootstrap", "127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("127.0.0.1:1") && message.contains("Connection refused"), "{message}");
}

#[test]
fn the_doctor_finds_a_healthy_and_a_broken_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    let path = path.to_str().expect("text");
    let healthy = run(&["doctor", "--data-dir", path, "--output", "json"]);
    let report = text(&healthy.stdout);
    assert!(healthy.status.success(), "{report}");
    for check in
        ["bucket: put if absent", "bucket: put if unchanged", "bucket: get a range", "metadata store"]
    {
        assert!(report.contains(check), "{check}: {report}");
    }
    let file = directory.path().join("file");
    std::fs::write(&file, b"x").expect("written");
    let broken = run(&["doctor", "--data-dir", file.to_str().expect("text")]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(text(&broken.stdout).contains("FAILED"), "{}", text(&broken.stdout));
}

/// Without keys the object store's client asks the metadata service; here that is a socket on which nobody answers.
#[test]
fn the_doctor_says_that_keys_are_missing_and_does_not_hang() {
    let directory = tempfile::tempdir().expect("a directory");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let path = directory.path().to_str().expect("a temporary path is text");
    let mut doctor =
        penstock(&["doctor", "--data-dir", path, "--object-store", "s3://bucket/prefix", "--output", "json"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        doctor.env_remove(name);
    }
    let settings =
        [("AWS_METADATA_ENDPOINT", &*url), ("AWS_ENDPOINT_URL", &*url), ("AWS_ALLOW_HTTP", "true")];
    let begun = tokio::time::Instant::now();
    let output = doctor.envs(settings).stdin(Stdio::null()).output().expect("the command runs");
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(output.status.code(), Some(1));
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let state = |name: &str| {
        let check = checks.as_array().expect("a list").iter().find(|check| check["name"] == name);
        check.map(|check| (check["state"].clone(), check["detail"].to_string())).expect(name)
    };
    let (warning, detail) = state("bucket: credentials");
    assert_eq!(warning, "warning");
    assert!(detail.contains("AWS_ACCESS_KEY_ID") && detail.contains("metadata service"), "{detail}");
    assert_eq!(state("bucket: put").0, "failed");
}

/// A command on the metadata in `directory` that must succeed; what it printed.
fn on_metadata(directory: &Path, arguments: &[&str]) -> String {
    let directory = directory.to_str().expect("a temporary path is text");
    let arguments = [&["metadata"], arguments, &["--data-dir", directory]].concat();
    let output = run(&arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress bar without a terminal: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Every line as JSON.
fn lines(printed: &str) -> Vec<serde_json::Value> {
    printed.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn metadata_is_shown_of_a_stopped_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::start(directory.path());
    broker.client(
        &["topics", "create", "orders", "--partitions", "2", "--config", "retention.ms=86400000"],
        "",
    );
    broker.client(&["produce", "orders", "--key-separator", ":", "--idempotent"], "a:1\nb:2\nc:3\n");
    let grouped = ["consume", "orders", "--group", "readers", "--from", "beginning", "--max-messages", "3"];
    broker.client(&grouped, "");

    let path = directory.path().to_str().expect("text");
    let (code, message) = failure(&["metadata", "inspect", "cluster", "--data-dir", path]);
    assert_eq!(code, Some(1));
    assert!(message.contains("in use by another process"), "{message}");
    assert_eq!(broker.terminate(), Some(0));

    let cluster = lines(&on_metadata(directory.path(), &["inspect", "cluster", "--output", "json"]));
    let identity = cluster.iter().find(|row| row["row"] == "cluster identity").expect("an identity");
    assert_eq!((&identity["incarnation"], &identity["schema_version"]), (&1.into(), &4.into()));
    let rows = |name: &str| {
        let family = cluster.iter().find(|row| row["row"] == "family" && row["name"] == name);
        family.map_or(0, |family| family["rows"].as_i64().expect("a number"))
    };
    assert_eq!((rows("topic name"), rows("topic"), rows("group")), (1, 1, 1));

    let topic = lines(&on_metadata(directory.path(), &["inspect", "topic", "orders", "-o", "json"]));
    assert_eq!(topic[0]["name"], "orders");
    assert_eq!(topic[0]["configs"]["retention.ms"], "86400000");
    let counters: i64 = topic
        .iter()
        .filter(|row| row["row"] == "partition")
        .map(|row| row["counter"].as_i64().expect("a number"))
        .sum();
    assert_eq!(counters, 3);
    let group = on_metadata(directory.path(), &["inspect", "group", "readers"]);
    assert!(group.contains("committed offset") && group.contains("topic=orders"), "{group}");
    let row = topic.iter().find(|row| row["row"] == "log row").expect("a row");
    let object = row["object"].as_str().expect("an id");
    assert!(on_metadata(directory.path(), &["inspect", "object", object]).contains("state=committed"));
    assert!(
        on_metadata(directory.path(), &["inspect", "producers", "--topic", "orders"]).contains("sequence=0")
    );
    on_metadata(directory.path(), &["inspect", "agents"]);
    let feed = lines(&on_metadata(directory.path(), &["inspect", "rows", "--family", "feed", "-o", "json"]));
    assert!(!feed.is_empty() && feed.iter().all(|row| row["row"] == "feed"), "{feed:?}");

    for (arguments, code, expected) in [
        (&["topic", "order"][..], 1, "no topic order"),
        (&["group", "nobody"], 1, "no group nobody"),
        (&["object", &"0".repeat(40)], 1, "no object"),
        (&["cluster", "--metadata", "memory", "--object-store", "memory:///"], 2, "memory of an agent"),
    ] {
        let (is, message) = failure(&[&["metadata", "inspect"], arguments, &["--data-dir", path]].concat());
        assert_eq!(is, Some(code), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let empty = tempfile::tempdir().expect("a directory");
    let elsewhere = empty.path().to_str().expect("text");
    for command in [&["inspect", "cluster"][..], &["raise-incarnation"], &["raise-incarnation", "--to", "2"]]
    {
        let (code, message) = failure(&[&["metadata"], command, &["--data-dir", elsewhere]].concat());
        assert_eq!(code, Some(1));
        assert!(message.contains("no metadata store"), "{message}");
    }
    assert_eq!(std::fs::read_dir(empty.path()).expect("a directory").count(), 0, "nothing was made");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy(&from, &to) } else { std::fs::copy(&from, &to).map(drop).expect("copied") }
    }
}

/// An older copy of the metadata takes the place of the newer: what was written since is gone, what is written from
/// then on goes on behind what is left.
#[test]
fn a_restored_copy_of_the_metadata_begins_a_new_life() {
    let directory = tempfile::tempdir().expect("a directory");
    let metadata = directory.path().join("metadata");
    let backup = tempfile::tempdir().expect("a directory");
    let claim = directory.path().join("objects").join("cluster");
    let read_all =
        ["consume", "orders", "--until-end", "--format", "{offset} {value}\\n", "--from", "beginning"];
    let mut broker = Broker::start(directory.path());
    broker.client(&["topics", "create", "orders", "--partitions", "1"], "");
    broker.client(&["produce", "orders"], "one\ntwo\n");
    assert_eq!(broker.terminate(), Some(0));
    copy(&metadata, backup.path());
    let mut broker = Broker::start(directory.path());
    broker.client(&["produce", "orders"], "lost\n");
    assert_eq!(broker.terminate(), Some(0));
    std::fs::remove_dir_all(&metadata).expect("removed");
    copy(backup.path(), &metadata);

    let asked = on_metadata(directory.path(), &["raise-incarnation"]);
    assert!(asked.contains("nothing was changed") && asked.contains("--to 2"), "{asked}");
    let path = directory.path().to_str().expect("text");
    let (code, message) = failure(&["metadata", "raise-incarnation", "--to", "3", "--data-dir", path]);
    assert_eq!(code, Some(2), "{message}");
    // As if it were killed between its two steps: the metadata is raised, the claim is not.
    let older = std::fs::read(&claim).expect("the claim");
    on_metadata(directory.path(), &["raise-incarnation", "--to", "2"]);
    std::fs::write(&claim, &older).expect("written");
    let (code, message) =
        failure(&["dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", path]);
    assert_eq!(code, Some(1));
    assert!(message.contains("claimed by the older incarnation 1"), "an agent in between: {message}");
    let done = on_metadata(directory.path(), &["raise-incarnation", "--to", "2", "--output", "json"]);
    let done: serde_json::Value = serde_json::from_str(&done).expect("JSON");
    let report = (&done["incarnation"], &done["claim"], &done["raised"]);
    assert_eq!(report, (&2.into(), &2.into(), &true.into()));
    let again = on_metadata(directory.path(), &["raise-incarnation", "--to", "2"]);
    assert!(again.contains("already"), "{again}");

    let mut broker = Broker::start(directory.path());
    broker.client(&["produce", "orders"], "three\n");
    assert_eq!(broker.client(&read_all, ""), "0 one\n1 two\n2 three\n");
    assert_eq!(broker.terminate(), Some(0));
    let topic = on_metadata(directory.path(), &["inspect", "topic", "orders"]);
    assert!(topic.contains("at=1/") && topic.contains("at=2/"), "rows of both lives: {topic}");

    // A backup of before the first raise, once more: its number was used.
    std::fs::remove_dir_all(&metadata).expect("removed");
    copy(backup.path(), &metadata);
    let asked = on_metadata(directory.path(), &["raise-incarnation"]);
    assert!(asked.contains("--to 3"), "{asked}");
    on_metadata(directory.path(), &["raise-incarnation", "--to", "3"]);
    let broker = Broker::start(directory.path());
    assert_eq!(broker.client(&read_all, ""), "0 one\n1 two\n");
}
