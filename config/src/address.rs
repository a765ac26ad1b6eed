//! Where something listens or can be found: host and port, and the object store's URL.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::value::OptionValue;

/// A host (name, IPv4 or IPv6 address) and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// The host, without brackets.
    pub host: String,
    /// The port; 0 lets the system choose one.
    pub port: u16,
}

impl HostPort {
    /// `host` and `port`.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Whether this stands for every address of the machine, which no client can connect to.
    pub fn is_wildcard(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl OptionValue for HostPort {
    const TYPE: &'static str = "host:port";

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').ok_or("has no port: write HOST:PORT")?;
        let port =
            port.parse().map_err(|_| "has no port from 0 to 65535 behind the last colon".to_owned())?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| "has no IPv6 address in its brackets")?;
                inner
            }
            None if host.contains(':') => {
                return Err("needs brackets around its IPv6 address: [::1]:9092".into());
            }
            None => host,
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(allowed) {
            return Err("has no host name or address: write HOST:PORT".into());
        }
        Ok(Self::new(host, port))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Limits by host: `HOST:NUMBER`, separated by commas, as Kafka's `max.connections.per.ip.overrides`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLimits(Vec<(String, u32)>);

impl HostLimits {
    /// Hosts (names or addresses, without brackets) and their limits.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(host, limit)| (host.as_str(), *limit))
    }
}

impl OptionValue for HostLimits {
    const TYPE: &'static str = "host:number list";

    fn parse(text: &str) -> Result<Self, String> {
        let mut limits: Vec<(String, u32)> = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (host, limit) =
                entry.rsplit_once(':').ok_or("has an entry without a number: write HOST:NUMBER")?;
            let limit = limit.trim().parse::<u32>().ok().filter(|limit| i32::try_from(*limit).is_ok());
            let limit = limit.ok_or("has an entry without a number from 0 to 2147483647 behind its colon")?;
            let host = host.trim();
            let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
            if host.is_empty() || !host.chars().all(allowed) {
                return Err("has an entry without a host name or address: write HOST:NUMBER".into());
            }
            if limits.iter().any(|(other, _)| other == host) {
                return Err(format!("names {host} twice"));
            }
            limits.push((host.to_owned(), limit));
        }
        Ok(Self(limits))
    }

    fn show(&self) -> String {
        let entry = |(host, limit): &(String, u32)| match host.contains(':') {
            true => format!("[{host}]:{limit}"),
            false => format!("{host}:{limit}"),
        };
        self.0.iter().map(entry).collect::<Vec<_>>().join(",")
    }
}

/// Which object store holds the data objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectStoreUrl {
    /// `file:///PATH`: a directory of this machine. Durable as its disk is.
    File(PathBuf),
    /// `s3://BUCKET/PREFIX`: S3 or what speaks its protocol; the rest comes from the usual AWS_* variables.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every key begins with, without a slash at either end; may be empty.
        prefix: String,
    },
    /// `memory:///`: gone with the process.
    Memory,
}

impl ObjectStoreUrl {
    /// Whether what it holds outlives the process.
    pub const fn is_durable(&self) -> bool {
        !matches!(self, Self::Memory)
    }
}

impl fmt::Display for ObjectStoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Memory => f.write_str("memory:///"),
        }
    }
}

impl OptionValue for ObjectStoreUrl {
    const TYPE: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("is not a URL: write file:///PATH, s3://BUCKET/PREFIX or memory:///")?;
        if rest.contains(['@', '?', '#']) {
            return Err("may not hold credentials or parameters: set the AWS_* variables instead".into());
        }
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::File(PathBuf::from(rest))),
            "file" => Err("needs an absolute path: file:///PATH with three slashes".into()),
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_matches('/');
                let allowed =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
                if bucket.is_empty() || !bucket.chars().all(allowed) {
                    return Err("has no bucket name: write s3://BUCKET/PREFIX".into());
                }
                if prefix
                    .split('/')
                    .any(|part| (part.is_empty() && !prefix.is_empty()) || part == "." || part == "..")
                {
                    return Err("has a prefix with an empty, `.` or `..` part".into());
                }
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            }
            "memory" if rest.trim_matches('/').is_empty() => Ok(Self::Memory),
            "memory" => Err("takes no path: write memory:///".into()),
            _ => {
                Err("has an unknown scheme: file:///PATH, s3://BUCKET/PREFIX and memory:/// are known".into())
            }
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for text in ["127.0.0.1:9092", "[::1]:9092", "kafka.example.com:0", "localhost:65535"] {
            assert_eq!(HostPort::parse(text).map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "9092", ":9092", "localhost", "localhost:65536", "::1:9092", "[::1:9092", "a b:1", "[x]:1"]
        {
            assert!(HostPort::parse(text).is_err(), "{text}");
        }
        assert!(HostPort::new("0.0.0.0", 1).is_wildcard() && HostPort::new("::", 1).is_wildcard());
        assert!(!HostPort::new("127.0.0.1", 1).is_wildcard() && !HostPort::new("localhost", 1).is_wildcard());
    }

    #[test]
    fn limits_by_host() {
        let limits = HostLimits::parse(" 10.0.0.7:200, proxy:0,[::1]:5 ,fe80::1:6,").expect("Kafka's form");
        let expected = [("10.0.0.7", 200), ("proxy", 0), ("::1", 5), ("fe80::1", 6)];
        assert_eq!(limits.iter().collect::<Vec<_>>(), expected);
        assert_eq!(limits.show(), "10.0.0.7:200,proxy:0,[::1]:5,[fe80::1]:6");
        assert_eq!(HostLimits::parse(&limits.show()), Ok(limits));
        assert_eq!(HostLimits::parse(""), Ok(HostLimits::default()));
        for text in ["a", ":5", "a:", "a:-1", "a:2147483648", "a b:1", "a:1,a:2", "a:x"] {
            assert!(HostLimits::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn object_stores() {
        for text in ["file:///var/lib/penstock", "s3://bucket/a/b", "s3://bucket", "memory:///"] {
            assert_eq!(ObjectStoreUrl::parse(text).map(|url| url.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(ObjectStoreUrl::parse("s3://bucket/a/"), ObjectStoreUrl::parse("s3://bucket/a"));
        for text in [
            "",
            "bucket",
            "file://relative",
            "s3://",
            "s3:///x",
            "s3://b/../c",
            "s3://k:s@b",
            "gs://b",
            "memory:///x",
        ] {
            assert!(ObjectStoreUrl::parse(text).is_err(), "{text}");
        }
    }
}
