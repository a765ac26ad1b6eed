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
