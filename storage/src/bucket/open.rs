//! From a URL to a store.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{ClientConfigKey, ClientOptions, RetryConfig};
use penstock_types::Randomness;

use super::http::StatusConnector;
use super::{Bucket, BucketOptions, OpenError, UploadChecksum};

/// Establishing a connection takes a few round trips; longer means that nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are closed before the store or a gateway does (MinIO and S3: 30 s and less).
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn open(
    url: &str,
    options: &BucketOptions,
    randomness: Arc<dyn Randomness>,
) -> Result<Arc<Bucket>, OpenError> {
    let refuse = |reason: &str| OpenError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse("there is no scheme"))?;
    match scheme {
        "file" => {
            let path = decoded(rest).ok_or_else(|| refuse("its percent-encoding isn't valid"))?;
            if path.is_empty() {
                return Err(refuse("there is no path"));
            }
            open_directory(FilePath::new(&path), options, randomness)
        }
        "s3" => {
            let (bucket, prefix) = bucket_and_prefix(url, rest)?;
            let (builder, _) = s3(bucket, options)?;
            let store = builder
                .build()
                .map_err(|error| OpenError::Client { url: url.to_owned(), detail: error.to_string() })?;
            Ok(Arc::new(Bucket::assemble(Arc::new(store), prefix, url.to_owned(), None, options, randomness)))
        }
        "memory" => {
            if !rest.trim_matches('/').is_empty() {
                return Err(refuse("memory has no path"));
            }
            let store = Arc::new(InMemory::new());
            Ok(Arc::new(Bucket::assemble(store, "", "memory:///".to_owned(), None, options, randomness)))
        }
        _ => Err(refuse("its scheme isn't known")),
    }
}

pub(super) fn open_directory(
    directory: &FilePath,
    options: &BucketOptions,
    randomness: Arc<dyn Randomness>,
) -> Result<Arc<Bucket>, OpenError> {
    let refuse = |source| OpenError::Directory { path: directory.to_owned(), source };
    let directory = create_durably(directory).map_err(refuse)?;
    let store = LocalFileSystem::new_with_prefix(&directory)
        .map_err(|error| refuse(std::io::Error::other(error)))?
        .with_fsync(true);
    let url = format!("file://{}", directory.display());
    Ok(Arc::new(Bucket::assemble(Arc::new(store), "", url, Some(directory), options, randomness)))
}

/// Creates the directory and syncs the ones above it that it had to create, so that it outlives a power cut as its
/// files do.
fn create_durably(directory: &FilePath) -> std::io::Result<PathBuf> {
    let mut missing = Vec::new();
    let absolute = std::path::absolute(directory)?;
    let mut above: &FilePath = &absolute;
    while !above.exists() {
        missing.push(above.to_owned());
        above = match above.parent() {
            Some(parent) => parent,
            None => break,
        };
    }
    std::fs::create_dir_all(&absolute)?;
    for created in &missing {
        if let Some(parent) = created.parent() {
            std::fs::File::open(parent)?.sync_all()?;
        }
    }
    // Says at once, and in the system's words, if it is a file or can't be read.
    std::fs::read_dir(&absolute)?;
    absolute.canonicalize()
}

/// The two parts of what stands behind `s3://`.
pub(super) fn bucket_and_prefix<'a>(url: &str, rest: &'a str) -> Result<(&'a str, &'a str), OpenError> {
    let refuse = |reason: &str| OpenError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(refuse("there is no bucket"));
    }
    let prefix = prefix.trim_matches('/');
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    if !prefix.bytes().all(valid) || object_store::path::Path::parse(prefix).is_err() {
        return Err(refuse("a prefix has segments of letters, digits, '.', '_' and '-'"));
    }
    Ok((bucket, prefix))
}

/// A client of the bucket about to be built, and the settings of its connections.
pub(super) fn s3(
    bucket: &str,
    options: &BucketOptions,
) -> Result<(AmazonS3Builder, ClientOptions), OpenError> {
    let mut builder = AmazonS3Builder::from_env();
    for (name, value) in &options.s3_settings {
        let key: AmazonS3ConfigKey = name.parse().map_err(|error: object_store::Error| {
            OpenError::Setting { name: name.clone(), reason: error.to_string() }
        })?;
        builder = builder.with_config(key, value);
    }
    let setting = |builder: &AmazonS3Builder, key| builder.get_config_value(&key);
    let endpoint = setting(&builder, AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| setting(&builder, AmazonS3ConfigKey::Endpoint))
        .unwrap_or_else(|| "https://".to_owned());
    let plain = endpoint.starts_with("http://");
    let allow_http = setting(&builder, AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    if plain && !allow_http.as_deref().is_some_and(is_true) {
        return Err(OpenError::Setting {
            name: "AWS_ENDPOINT_URL".to_owned(),
            reason: format!("{endpoint} isn't encrypted; AWS_ALLOW_HTTP=true allows that"),
        });
    }
    // Whoever changes bytes on their way is told by the checksum or by TLS; without either the signature must cover
    // the payload.
    let unsigned = !plain || options.checksum != UploadChecksum::Off;
    let builder = match options.checksum {
        UploadChecksum::Crc64Nvme => builder.with_checksum_algorithm(Checksum::CRC64NVME),
        UploadChecksum::Sha256 => builder.with_checksum_algorithm(Checksum::SHA256),
        UploadChecksum::Off => builder,
    };
    let client = ClientOptions::new()
        .with_allow_http(plain)
        // Requests are timed here, by the size of what they move.
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_pool_idle_timeout(POOL_IDLE_TIMEOUT);
    let client = with_client_settings(&builder, client);
    let builder = builder
        .with_client_options(client.clone())
        .with_bucket_name(bucket)
        .with_unsigned_payload(unsigned)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Not every store knows the bulk request, and a DELETE costs nothing on S3.
        .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true")
        .with_http_connector(StatusConnector { change_uploads: options.change_uploads })
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
    Ok((builder, client))
}

/// Puts our client options underneath those that the environment or the settings name (proxy, certificates, …):
/// `with_client_options` replaces them all.
fn with_client_settings(builder: &AmazonS3Builder, mut client: ClientOptions) -> ClientOptions {
    let keys = [
        ClientConfigKey::AllowInvalidCertificates,
        ClientConfigKey::NoSystemCertificates,
        ClientConfigKey::ConnectTimeout,
        ClientConfigKey::Http1Only,
        ClientConfigKey::Http2Only,
        ClientConfigKey::PoolIdleTimeout,
        ClientConfigKey::PoolMaxIdlePerHost,
        ClientConfigKey::ProxyUrl,
        ClientConfigKey::ProxyCaCertificate,
        ClientConfigKey::ProxyExcludes,
        ClientConfigKey::RandomizeAddresses,
        ClientConfigKey::UserAgent,
    ];
    // Asked for before the options are replaced; the library answers with its defaults too.
    let defaults = AmazonS3Builder::new();
    for key in keys {
        let key = AmazonS3ConfigKey::Client(key);
        let value = builder.get_config_value(&key);
        if value != defaults.get_config_value(&key)
            && let (AmazonS3ConfigKey::Client(key), Some(value)) = (key, value)
        {
            client = client.with_config(key, value);
        }
    }
    client
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on" | "y")
}

/// Resolves `%XX`.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use penstock_types::SeededRandomness;

    use super::*;

    fn try_open(url: &str) -> Result<Arc<Bucket>, OpenError> {
        open(url, &BucketOptions::default(), Arc::new(SeededRandomness::new(1)))
    }

    #[test]
    fn urls_that_are_not_ours_are_refused_with_a_reason() {
        for url in [
            "",
            "objects",
            "ftp://x/y",
            "s3://",
            "s3:///x",
            "file://",
            "memory:///x",
            "file:///%zz",
            "s3://b/a b",
            "s3://b/a//b",
            "s3://b/..",
        ] {
            let error = try_open(url).expect_err(url);
            assert!(matches!(error, OpenError::Url { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn a_directory_is_created_and_a_file_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}/a%20b/c", home.path().display());
        let bucket = try_open(&url).expect("opens");
        assert!(home.path().join("a b/c").is_dir());
        assert!(!bucket.is_volatile() && bucket.url().ends_with("/a b/c"));
        std::fs::write(home.path().join("file"), b"").expect("writes");
        let error = try_open(&format!("file://{}/file", home.path().display())).expect_err("a file");
        assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    }

    #[test]
    fn plain_http_has_to_be_allowed() {
        let mut options = BucketOptions::default();
        let mut set = |name: &str, value: &str| options.s3_settings.insert(name.to_owned(), value.to_owned());
        set("aws_endpoint", "http://127.0.0.1:1");
        set("aws_access_key_id", "a");
        set("aws_secret_access_key", "b");
        set("aws_allow_http", "false");
        let refused = open("s3://bucket", &options, Arc::new(SeededRandomness::new(1))).expect_err("refused");
        assert!(refused.to_string().contains("AWS_ALLOW_HTTP"), "{refused}");
        options.s3_settings.insert("aws_allow_http".to_owned(), "true".to_owned());
        open("s3://bucket/a/b/", &options, Arc::new(SeededRandomness::new(1))).expect("opens");
        options.s3_settings.insert("aws_nonsense".to_owned(), "true".to_owned());
        let refused = open("s3://bucket", &options, Arc::new(SeededRandomness::new(1))).expect_err("refused");
        assert!(matches!(refused, OpenError::Setting { .. }), "{refused}");
    }
}
