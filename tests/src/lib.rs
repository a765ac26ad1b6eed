//! Harness of the tests that run the whole broker: a broker as a process of its own, the object store that it uses,
//! faults between the two, and clients that are better or worse than real ones.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

pub mod bomb;
pub mod load;
pub mod minio;
pub mod proxy;
pub mod scribe;
pub mod wire;

/// How long a broker may take to serve.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Where the binary is: `PENSTOCK_BIN`, or beside the test's own binary in the target folder.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("PENSTOCK_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().context("the test's own path")?;
    let profile = own.parent().and_then(Path::parent).context("target/PROFILE/deps")?;
    let binary = profile.join("penstock");
    if !binary.exists() {
        bail!("{} is not there; build it with `cargo build -p penstock-agent`", binary.display());
    }
    Ok(binary)
}

/// The command without anything that the tests' own environment configures.
pub fn penstock() -> Result<Command> {
    let mut command = Command::new(binary()?);
    let is_ours = |name: &str| name.starts_with("PENSTOCK_") || name.starts_with("AWS_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    Ok(command)
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The first of `count` successive ports that were free a moment ago.
pub fn free_ports(count: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = free_port()?;
        let all_free = (1..count).all(|step| {
            first.checked_add(step).is_some_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        });
        if all_free {
            return Ok(first);
        }
    }
    bail!("no {count} successive ports are free")
}

/// How a broker is started: the same ports and the same data each time.
#[derive(Debug, Clone)]
pub struct BrokerSpec {
    /// Kafka's port on 127.0.0.1.
    pub kafka_port: u16,
    /// Metrics' and health's.
    pub http_port: u16,
    /// Where its data lies.
    pub data_dir: PathBuf,
    /// Further arguments of `penstock dev`.
    pub arguments: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
}

impl BrokerSpec {
    /// A broker on free ports over `data_dir`.
    pub fn new(data_dir: &Path, arguments: &[&str]) -> Result<Self> {
        Ok(Self {
            kafka_port: free_port()?,
            http_port: free_port()?,
            data_dir: data_dir.to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: Vec::new(),
        })
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.kafka_port)
    }

    /// Starts it and waits until `/health/ready` answers 200.
    pub fn start(&self) -> Result<BrokerProcess> {
        let mut broker = self.spawn()?;
        self.wait_ready(&mut broker)?;
        Ok(broker)
    }

    /// Starts it and doesn't wait for anything.
    pub fn spawn(&self) -> Result<BrokerProcess> {
        let mut command = penstock()?;
        command
            .arg("dev")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen", &self.bootstrap()])
            .args(["--http", &format!("127.0.0.1:{}", self.http_port)])
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("the broker starts")?;
        let stderr = child.stderr.take().context("its log")?;
        // Its log goes to the test's own, which is shown when the test fails.
        let log = Arc::new(Mutex::new(Log::default()));
        let kept = Arc::clone(&log);
        std::thread::Builder::new().name("broker-log".to_owned()).spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("[broker] {line}");
                kept.lock().expect("not poisoned").keep(line);
            }
            kept.lock().expect("not poisoned").ended = true;
        })?;
        Ok(BrokerProcess { child, log })
    }

    fn wait_ready(&self, broker: &mut BrokerProcess) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < STARTS_WITHIN {
            if let Some(status) = broker.child.try_wait()? {
                bail!("the broker ended at its start: {status}");
            }
            if http_get(self.http_port, "/health/ready")
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
            {
                return Ok(());
            }
            nap(Duration::from_millis(20));
        }
        bail!("the broker is not ready after {STARTS_WITHIN:?}")
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let answer = http_get(self.http_port, "/metrics")?;
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .with_context(|| format!("no metric {name}"))?;
        line.trim().parse().with_context(|| format!("{name} is {line:?}"))
    }
}

/// Lines of a log that are kept: the first ones, and those that say that something is wrong.
#[derive(Debug, Default)]
struct Log {
    first: Vec<String>,
    complaints: Vec<String>,
    ended: bool,
}

impl Log {
    fn keep(&mut self, line: String) {
        if line.contains(" ERROR ") || line.contains("panicked at") {
            self.complaints.push(line.clone());
        }
        if self.first.len() < 100 {
            self.first.push(line);
        }
    }
}

/// A broker that runs; killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
    log: Arc<Mutex<Log>>,
}

impl BrokerProcess {
    /// SIGKILL, at once.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal, by its name without SIG.
    pub fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        if !sent.success() {
            bail!("no signal could be sent");
        }
        Ok(())
    }

    /// SIGTERM; gives the exit code.
    pub fn terminate(mut self) -> Result<Option<i32>> {
        self.signal("TERM")?;
        Ok(self.child.wait()?.code())
    }

    /// Waits for its end; gives the exit code.
    pub fn ended(&mut self, within: Duration) -> Result<Option<i32>> {
        let begun = Instant::now();
        while begun.elapsed() < within {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            nap(Duration::from_millis(5));
        }
        bail!("the broker still runs after {within:?}")
    }

    /// The first lines of the log; all of them where the broker has ended.
    pub fn first_lines(&mut self) -> Vec<String> {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            while !self.log.lock().expect("not poisoned").ended {
                nap(Duration::from_millis(1));
            }
        }
        self.log.lock().expect("not poisoned").first.clone()
    }

    /// Lines of level ERROR, and panics.
    pub fn complaints(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").complaints.clone()
    }

    /// Does it still run?
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP request to 127.0.0.1: the whole answer.
pub fn http_get(port: u16, path: &str) -> Result<String> {
    http(port, "GET", path)
}

/// As [`http_get`], with another method.
pub fn http(port: u16, method: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits between two looks at another process.
#[expect(clippy::disallowed_methods, reason = "another process has no condition to wait on")]
pub fn nap(duration: Duration) {
    std::thread::sleep(duration);
}
