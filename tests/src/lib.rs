//! A broker as a process of its own, for the tests that kill it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

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

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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
        let mut command = Command::new(binary()?);
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
        std::thread::Builder::new().name("broker-log".to_owned()).spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("[broker] {line}");
            }
        })?;
        let mut broker = BrokerProcess { child };
        self.wait_ready(&mut broker)?;
        Ok(broker)
    }

    fn wait_ready(&self, broker: &mut BrokerProcess) -> Result<()> {
        let begun = tokio::time::Instant::now();
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

/// A broker that runs; killed when dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    child: Child,
}

impl BrokerProcess {
    /// SIGKILL, at once.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; gives the exit code.
    pub fn terminate(mut self) -> Result<Option<i32>> {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        if !status.success() {
            bail!("no signal could be sent");
        }
        Ok(self.child.wait()?.code())
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
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits between two looks at another process.
#[expect(clippy::disallowed_methods, reason = "another process has no condition to wait on")]
pub fn nap(duration: Duration) {
    std::thread::sleep(duration);
}
