//! A FoundationDB server for one test: `fdbserver` and `fdbcli` of PATH, one process on a free loopback port, with its
//! data in a directory that goes with it. It is killed when this is dropped.

// Each test file uses its own part of it.
#![allow(dead_code, reason = "a file shared by tests that use different parts of it")]

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use penstock_metadata::kv::foundationdb::{FoundationDbOptions, FoundationDbStore};
use penstock_metadata::kv::{Priority, SharedStore, Store};

/// A running server.
pub struct FdbServer {
    process: Child,
    directory: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    /// What fdbcli needs as well: certificates.
    tls: Vec<String>,
}

impl FdbServer {
    /// Starts a server with an empty database on `engine` (`memory` or `ssd`). The error says why there can't be one
    /// here.
    pub fn start(engine: &str) -> Result<Self, String> {
        Self::start_with(engine, &[])
    }

    /// The same, with further arguments for fdbserver.
    pub fn start_with(engine: &str, arguments: &[&str]) -> Result<Self, String> {
        Self::start_as(engine, arguments, &[], "")
    }

    /// A server that only speaks TLS, with these arguments for its and fdbcli's certificates.
    pub fn start_with_tls(certificates: &[String]) -> Result<Self, String> {
        Self::start_as("memory", &[], certificates, ":tls")
    }

    fn start_as(engine: &str, arguments: &[&str], tls: &[String], suffix: &str) -> Result<Self, String> {
        for program in ["fdbserver", "fdbcli"] {
            let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                return Err(format!("there is no {program} on PATH"));
            }
        }
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        for name in ["data", "log"] {
            fs::create_dir(directory.path().join(name)).expect("a directory");
        }
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
        fs::write(directory.path().join("fdb.cluster"), format!("test:penstock@127.0.0.1:{port}{suffix}\n"))
            .expect("the cluster file");
        let arguments: Vec<String> =
            arguments.iter().map(|argument| (*argument).to_owned()).chain(tls.iter().cloned()).collect();
        let process = spawn(&directory, port, &arguments);
        let server = Self { process, directory, port, arguments, tls: tls.to_vec() };
        let configured = server.fdbcli(&format!("configure new single {engine}"), "");
        assert!(configured.contains("Database created"), "fdbcli says: {configured}");
        Ok(server)
    }

    /// The cluster file.
    pub fn cluster_file(&self) -> PathBuf {
        self.directory.path().join("fdb.cluster")
    }

    /// How a store is opened on it.
    pub fn options(&self) -> FoundationDbOptions {
        FoundationDbOptions::new(self.cluster_file())
    }

    /// A store on it with the defaults.
    pub fn store(&self) -> SharedStore {
        FoundationDbStore::open(&self.options()).expect("the store opens")
    }

    /// A store on it that waits for `timeout` only.
    pub fn store_with_timeout(&self, timeout: Duration) -> Arc<FoundationDbStore> {
        FoundationDbStore::open(&FoundationDbOptions { timeout, ..self.options() }).expect("the store opens")
    }

    /// The server's process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Runs a command of fdbcli and gives what it printed.
    pub fn fdbcli(&self, command: &str, input: &str) -> String {
        let mut fdbcli = Command::new("fdbcli")
            .arg("-C")
            .arg(self.cluster_file())
            .args(&self.tls)
            .args(["--timeout", "60", "--exec", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("fdbcli");
        let mut stdin = fdbcli.stdin.take().expect("a pipe");
        // It may not want to read it.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = fdbcli.wait_with_output().expect("fdbcli");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// The server does nothing from now on, and loses nothing.
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("its end");
    }

    /// Starts it again on the same port and data, after [`FdbServer::kill`].
    pub fn restart(&mut self) {
        self.process = spawn(&self.directory, self.port, &self.arguments);
    }

    fn signal(&self, signal: &str) {
        let sent =
            Command::new("kill").arg(signal).arg(self.process.id().to_string()).status().expect("kill");
        assert!(sent.success(), "kill {signal}");
    }
}

impl Drop for FdbServer {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(directory: &tempfile::TempDir, port: u16, arguments: &[String]) -> Child {
    let path = |name: &str| directory.path().join(name);
    let suffix = if arguments.iter().any(|argument| argument.starts_with("--tls-")) { ":tls" } else { "" };
    let address = format!("127.0.0.1:{port}{suffix}");
    Command::new("fdbserver")
        .args(["-p", &address, "-l", &address, "--memory", "2GiB", "--cache-memory", "128MiB"])
        .arg("-C")
        .arg(path("fdb.cluster"))
        .arg("-d")
        .arg(path("data"))
        .arg("-L")
        .arg(path("log"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("fdbserver")
}

/// Waits until the server answers the store.
pub async fn answers(store: &dyn Store) {
    for _ in 0..60 {
        match store.begin(Priority::Default).read_version().await {
            Ok(_) => return,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        penstock_types::pause(Duration::from_millis(200)).await;
    }
    panic!("the server doesn't come back");
}

/// The library that this process is linked with, where the loader finds it.
pub fn client_library() -> Option<PathBuf> {
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    std::env::split_paths(&paths).chain(usual).map(|path| path.join("libfdb_c.so")).find(|path| path.exists())
}

/// A runtime in real time: FoundationDB's client can't be paused.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}
