//! A MinIO of a test's own: started, killed and started again on the same port and data.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::Instant;

use crate::{free_port, http_get, nap};

const ACCESS_KEY: &str = "penstock";
const SECRET_KEY: &str = "penstock-local";
const BUCKET: &str = "faults";
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A MinIO server; killed when dropped.
#[derive(Debug)]
pub struct Minio {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    program: PathBuf,
    directory: PathBuf,
    process: Option<Child>,
}

impl Minio {
    /// Starts one over `directory`. `None`, and a line that says so, where no MinIO is installed.
    pub fn start(directory: &Path) -> Result<Option<Self>> {
        let Some(program) = find() else {
            println!("skipped: MinIO (neither in PATH nor in ~/go/bin)");
            return Ok(None);
        };
        // A bucket is a directory of the server's own: nothing needs to be signed to make one.
        std::fs::create_dir_all(directory.join(BUCKET))?;
        let mut minio = Self { port: free_port()?, program, directory: directory.to_owned(), process: None };
        minio.run()?;
        Ok(Some(minio))
    }

    /// Starts it (again) and waits until it serves.
    pub fn run(&mut self) -> Result<()> {
        let process = Command::new(&self.program)
            .args(["server", "--quiet", "--address", &format!("127.0.0.1:{}", self.port)])
            .arg(&self.directory)
            .env("MINIO_ROOT_USER", ACCESS_KEY)
            .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
            .env("MINIO_BROWSER", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("MinIO starts")?;
        self.process = Some(process);
        let begun = Instant::now();
        while begun.elapsed() < STARTS_WITHIN {
            if let Some(status) = self.process.as_mut().expect("just started").try_wait()? {
                bail!("MinIO ended by itself: {status}");
            }
            if http_get(self.port, "/minio/health/cluster")
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
            {
                return Ok(());
            }
            nap(Duration::from_millis(20));
        }
        bail!("MinIO doesn't serve after {STARTS_WITHIN:?}")
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// The environment that makes a broker use it, at `port`: its own, or that of a proxy in front of it.
    pub fn environment(&self, port: u16) -> Vec<(String, String)> {
        let values = [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("PENSTOCK_OBJECT_STORE", format!("s3://{BUCKET}/data")),
        ];
        values.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ended_already = self.kill();
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin"));
    std::env::split_paths(&path)
        .chain(home)
        .map(|place| place.join("minio"))
        .find(|program| program.is_file())
}
