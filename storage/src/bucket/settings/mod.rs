//! The settings of a whole bucket on S3 that decide what becomes of an agent's objects behind its back: versioning and
//! lifecycle rules.
//!
//! Owns the requests about them, signed and sent by the client library with the same credentials, endpoint, proxy and
//! certificates as the agent's own. Nobody but `penstock doctor` asks for them.
//!
//! # Invariants
//! - A document of rules goes back with everything in it that was there and isn't ours (see [`Lifecycle`]).
//!
//! # Deliberately absent
//! Retries: a person is waiting and can ask again. A condition on what is replaced: S3 has none for rules, so two that
//! change a bucket's rules at the same moment can undo one another's.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use md5::{Digest, Md5};
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpResponse, ReqwestConnector};
use object_store::path::Path;
use object_store::signer::{HeaderName, HeaderValue, Method, SignedUrlOptions, Signer};

use super::http::HttpStatus;
use super::{BucketOptions, OpenError, open};

mod lifecycle;
mod xml;

pub use lifecycle::{Lifecycle, NewRule, RULE_ID_CHARS_MAX, Rule};

/// How long a signature is good for; clocks may differ by some minutes.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// S3 has 1,000 rules at most, of some hundred bytes each.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
/// Beside the rules: the size below which objects don't move to other storage classes. Who doesn't say it again when
/// rules are put resets it.
const SMALLEST_THAT_MOVES: HeaderName =
    HeaderName::from_static("x-amz-transition-default-minimum-object-size");

/// Whether a bucket keeps what is deleted and replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// It was never switched on.
    Off,
    /// Each deleted object stays as an old version.
    On,
    /// It was on: the old versions from then are there, deletions leave markers.
    Suspended,
}

/// Why settings can't be had or put.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The store doesn't know such settings.
    #[error("the store doesn't know this request: {0}")]
    NotKnown(HttpStatus),
    /// The credentials don't allow it.
    #[error("not allowed ({needs}): {status}")]
    Denied {
        /// The action of S3's policies that would allow it.
        needs: &'static str,
        /// What the store said.
        status: HttpStatus,
    },
    /// The store refused it.
    #[error("refused: {0}")]
    Refused(HttpStatus),
    /// The request could not be signed or sent, or the answer did not arrive.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The answer makes no sense.
    #[error("the answer makes no sense: {0}")]
    Answer(String),
}

/// The settings of the bucket that a URL names.
pub struct BucketSettings {
    store: AmazonS3,
    client: HttpClient,
    prefix: String,
}

impl fmt::Debug for BucketSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketSettings").field("store", &self.store.to_string()).finish_non_exhaustive()
    }
}

/// A bucket's rules, with what has to go with them when they are put.
#[derive(Debug, Clone, Default)]
pub struct BucketRules {
    /// The rules.
    pub lifecycle: Lifecycle,
    smallest_that_moves: Option<HeaderValue>,
}

impl BucketSettings {
    /// The settings of an `s3://…`; no other kind of URL has any.
    pub fn open(url: &str, options: &BucketOptions) -> Result<Option<Self>, OpenError> {
        let Some(rest) = url.strip_prefix("s3://") else { return Ok(None) };
        let (bucket, prefix) = open::bucket_and_prefix(url, rest)?;
        let (builder, client_options) = open::s3(bucket, options)?;
        let failed =
            |error: object_store::Error| OpenError::Client { url: url.to_owned(), detail: error.to_string() };
        let client = ReqwestConnector::default().connect(&client_options).map_err(failed)?;
        let store = builder.build().map_err(failed)?;
        Ok(Some(Self { store, client, prefix: prefix.to_owned() }))
    }

    /// Under which the agents' objects lie; without slashes at its ends, may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether the bucket keeps versions.
    pub async fn versioning(&self) -> Result<Versioning, SettingsError> {
        let request = self.request(Method::GET, "versioning", Bytes::new(), &[]).await?;
        let (_, document) = self.answer(request, "s3:GetBucketVersioning").await?;
        let root = xml::parse(&document).map_err(SettingsError::Answer)?;
        match root.child_text("Status") {
            None => Ok(Versioning::Off),
            Some("Enabled") => Ok(Versioning::On),
            Some("Suspended") => Ok(Versioning::Suspended),
            Some(other) => Err(SettingsError::Answer(format!("versioning is {other}"))),
        }
    }

    /// The bucket's rules.
    pub async fn rules(&self) -> Result<BucketRules, SettingsError> {
        let request = self.request(Method::GET, "lifecycle", Bytes::new(), &[]).await?;
        let (smallest_that_moves, document) = match self.answer(request, "s3:GetLifecycleConfiguration").await
        {
            Err(SettingsError::Refused(status)) if status.code == "NoSuchLifecycleConfiguration" => {
                return Ok(BucketRules::default());
            }
            answered => answered?,
        };
        let lifecycle = Lifecycle::parse(document).map_err(SettingsError::Answer)?;
        Ok(BucketRules { lifecycle, smallest_that_moves })
    }

    /// Replaces the bucket's rules, all of them. Should be what was just read, changed.
    pub async fn put_rules(&self, rules: &BucketRules) -> Result<(), SettingsError> {
        let body = Bytes::copy_from_slice(rules.lifecycle.document().as_bytes());
        let mut headers = vec![(CONTENT_MD5, md5_of(&body))];
        headers.extend(rules.smallest_that_moves.clone().map(|value| (SMALLEST_THAT_MOVES, value)));
        let request = self.request(Method::PUT, "lifecycle", body, &headers).await?;
        self.answer(request, "s3:PutLifecycleConfiguration").await.map(|_| ())
    }

    /// For tests: what only an owner does. Puts a document of the bucket (`versioning`, `lifecycle`); the bucket itself
    /// for `""`.
    #[cfg(any(test, feature = "faults"))]
    pub async fn put_as_owner(&self, setting: &str, document: &str) -> Result<(), SettingsError> {
        let body = Bytes::copy_from_slice(document.as_bytes());
        let headers = [(CONTENT_MD5, md5_of(&body))];
        let request = self.request(Method::PUT, setting, body, &headers).await?;
        self.answer(request, "rights of the owner").await.map(|_| ())
    }

    /// A request about the bucket itself.
    async fn request(
        &self,
        method: Method,
        setting: &str,
        body: Bytes,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<HttpRequest, SettingsError> {
        let failed = |error: String| SettingsError::NoAnswer(error);
        let mut options = SignedUrlOptions::new();
        if !setting.is_empty() {
            options = options.with_query([(setting, "")]);
        }
        for (name, value) in headers {
            options = options.with_signed_header(name.clone(), value.clone());
        }
        let signed = self.store.signed_url_opts(method.clone(), &Path::default(), SIGNED_FOR, &options).await;
        let url = signed.map_err(|error| failed(error.to_string()))?;
        let mut request = HttpRequest::new(body.into());
        *request.method_mut() = method;
        *request.uri_mut() = url.as_str().parse().map_err(|_| failed("the URL makes no sense".to_owned()))?;
        request.headers_mut().extend(headers.iter().cloned());
        Ok(request)
    }

    /// Sends it. The header that goes with rules, and the body.
    async fn answer(
        &self,
        request: HttpRequest,
        needs: &'static str,
    ) -> Result<(Option<HeaderValue>, String), SettingsError> {
        let response =
            self.client.execute(request).await.map_err(|error| SettingsError::NoAnswer(error.to_string()))?;
        let code = response.status().as_u16();
        let header = response.headers().get(&SMALLEST_THAT_MOVES).cloned();
        let body = body(response).await?;
        if (200..300).contains(&code) {
            return Ok((header, body));
        }
        let status = HttpStatus::new(code, &body);
        Err(match (code, status.code.as_str()) {
            (405 | 501, _) | (_, "NotImplemented" | "MethodNotAllowed") => SettingsError::NotKnown(status),
            (401 | 403, _) => SettingsError::Denied { needs, status },
            _ => SettingsError::Refused(status),
        })
    }
}

/// Goes with a document and is signed, so that the document can't be changed on its way.
fn md5_of(document: &[u8]) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(Md5::digest(document))).expect("base64 is a header's value")
}

async fn body(response: HttpResponse) -> Result<String, SettingsError> {
    let mut body = BytesMut::new();
    let mut stream = response.into_body().bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| SettingsError::NoAnswer(error.to_string()))?;
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(SettingsError::Answer(format!("it is larger than {LARGEST_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body.into()).map_err(|error| SettingsError::Answer(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// Answers one request with these bytes; what it was asked.
    fn answering(answer: &'static str) -> (BucketSettings, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().expect("a connection");
            let mut asked = vec![0; 65_536];
            let bytes = connection.read(&mut asked).expect("a request");
            connection.write_all(answer.as_bytes()).expect("an answer");
            String::from_utf8_lossy(&asked[..bytes]).into_owned()
        });
        let mut options = BucketOptions::default();
        for (name, value) in [
            ("aws_endpoint", format!("http://{address}")),
            ("aws_allow_http", "true".to_owned()),
            ("aws_access_key_id", "a".to_owned()),
            ("aws_secret_access_key", "b".to_owned()),
        ] {
            options.s3_settings.insert(name.to_owned(), value);
        }
        let settings = BucketSettings::open("s3://bucket/a/b", &options).expect("opens").expect("of S3");
        (settings, server)
    }

    #[tokio::test]
    async fn the_bucket_itself_is_asked() {
        let (settings, server) =
            answering("HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n<VersioningConfiguration/>");
        assert_eq!(settings.versioning().await.expect("answers"), Versioning::Off);
        let asked = server.join().expect("a server");
        assert!(asked.starts_with("GET /bucket/?versioning=&X-Amz-"), "{asked}");
        assert_eq!(settings.prefix(), "a/b");
    }

    #[tokio::test]
    async fn stores_without_such_settings_and_without_rules_are_told_apart() {
        let (settings, server) = answering("HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(settings.rules().await, Err(SettingsError::NotKnown(_))));
        server.join().expect("a server");
        let (settings, server) = answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(settings.rules().await, Err(SettingsError::Denied { .. })));
        server.join().expect("a server");
        let (settings, server) = answering(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 55\r\n\r\n<Error><Code>NoSuchLifecycleConfiguration</Code></Error>",
        );
        assert!(settings.rules().await.expect("none").lifecycle.rules().is_empty());
        server.join().expect("a server");
    }

    #[tokio::test]
    async fn what_goes_with_the_rules_goes_back_with_them() {
        let (settings, server) = answering(
            "HTTP/1.1 200 OK\r\nx-amz-transition-default-minimum-object-size: varies_by_storage_class\r\n\
             Content-Length: 25\r\n\r\n<LifecycleConfiguration/>",
        );
        let rules = settings.rules().await.expect("rules");
        server.join().expect("a server");
        let (settings, server) = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        settings.put_rules(&rules).await.expect("put");
        let asked = server.join().expect("a server");
        assert!(asked.starts_with("PUT /bucket/?lifecycle=&X-Amz-"), "{asked}");
        assert!(
            asked.contains("x-amz-transition-default-minimum-object-size: varies_by_storage_class"),
            "{asked}"
        );
        assert!(asked.contains("content-md5: "), "{asked}");
    }

    #[test]
    fn other_urls_have_no_settings() {
        assert!(BucketSettings::open("memory:///", &BucketOptions::default()).expect("no error").is_none());
        assert!(BucketSettings::open("file:///tmp", &BucketOptions::default()).expect("no error").is_none());
        BucketSettings::open("s3://", &BucketOptions::default()).expect_err("no bucket");
    }
}
