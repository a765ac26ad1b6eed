//! The HTTP client underneath `s3://`: sends what it is given and keeps hold of the status and the error code of
//! refusals, which the client library otherwise only renders into text.

use async_trait::async_trait;
use bytes::BytesMut;
use futures::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use super::error::{ErrorClass, Outcome};

/// The most that is read of a refusal's body.
const LARGEST_ERROR_BODY: usize = 16 * 1024;

/// A store's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("status {status} {code} {message}")]
pub struct HttpStatus {
    /// HTTP's number.
    pub status: u16,
    /// S3's name of the error, empty if there is none.
    pub code: String,
    /// S3's explanation, or the beginning of the body.
    pub message: String,
}

impl HttpStatus {
    /// Reads S3's error document.
    pub fn new(status: u16, body: &str) -> Self {
        let message = element(body, "Message").unwrap_or(body);
        Self {
            status,
            code: element(body, "Code").unwrap_or_default().chars().take(64).collect(),
            message: message.chars().take(400).collect(),
        }
    }

    /// A 5xx says nothing about whether the request was carried out: a gateway answers 503 when the store behind it
    /// broke off, and a store does when some of its disks are missing. A 4xx refuses.
    pub(super) fn classify(&self) -> (ErrorClass, Outcome) {
        let class = match (self.status, self.code.as_str()) {
            (404, _) => ErrorClass::NotFound,
            (412, _) => ErrorClass::Precondition,
            (401 | 403, _) => ErrorClass::Denied,
            (416, _) => ErrorClass::OutOfRange,
            (507, _) | (_, "XMinioStorageFull" | "QuotaExceeded") => ErrorClass::Full,
            (
                400,
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentChecksumMismatch"
                | "XAmzContentSHA256Mismatch"
                | "IncompleteBody",
            ) => ErrorClass::Corrupted,
            (408, _) | (400, "RequestTimeout") => ErrorClass::Timeout,
            (409 | 429 | 503, _) => ErrorClass::Throttled,
            (500..=599, _) => ErrorClass::Unavailable,
            _ => ErrorClass::Other,
        };
        let outcome =
            if (400..500).contains(&self.status) { Outcome::DidNotHappen } else { Outcome::MayHaveHappened };
        (class, outcome)
    }
}

/// The text of the first `<name>…</name>`.
fn element<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// Connects with the library's own client and watches the answers.
#[derive(Debug, Default)]
pub(super) struct StatusConnector {
    /// See [`BucketOptions::change_uploads`](super::BucketOptions::change_uploads).
    pub(super) change_uploads: bool,
}

impl HttpConnector for StatusConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(StatusService { inner, change_uploads: self.change_uploads }))
    }
}

#[derive(Debug)]
struct StatusService {
    inner: HttpClient,
    change_uploads: bool,
}

#[async_trait]
impl HttpService for StatusService {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if self.change_uploads && request.method() == "PUT" {
            // Checksums and signature are in the headers already.
            let bytes = request.body().content_length();
            *request.body_mut() = vec![b'#'; bytes].into();
        }
        let response = self.inner.execute(request).await?;
        let status = response.status().as_u16();
        // The others have errors of their own in the library, with meanings (credentials, conditions).
        if !matches!(status, 400 | 408 | 409 | 416 | 429 | 500..=599) {
            return Ok(response);
        }
        let mut body = BytesMut::new();
        let mut stream = response.into_body().bytes_stream();
        while let Some(Ok(chunk)) = stream.next().await {
            let room = LARGEST_ERROR_BODY - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if body.len() == LARGEST_ERROR_BODY {
                break;
            }
        }
        let status = HttpStatus::new(status, &String::from_utf8_lossy(&body));
        Err(HttpError::new(HttpErrorKind::Unknown, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_where_the_status_does_not() {
        let of = |status, code: &str| {
            HttpStatus::new(status, &format!("<Error><Code>{code}</Code></Error>")).classify()
        };
        assert_eq!(of(503, "SlowDown"), (ErrorClass::Throttled, Outcome::MayHaveHappened));
        assert_eq!(of(400, "BadDigest"), (ErrorClass::Corrupted, Outcome::DidNotHappen));
        assert_eq!(of(400, "EntityTooLarge"), (ErrorClass::Other, Outcome::DidNotHappen));
        assert_eq!(of(507, "XMinioStorageFull"), (ErrorClass::Full, Outcome::MayHaveHappened));
        assert_eq!(of(409, "ConditionalRequestConflict"), (ErrorClass::Throttled, Outcome::DidNotHappen));
        assert_eq!(of(500, "InternalError"), (ErrorClass::Unavailable, Outcome::MayHaveHappened));
    }

    #[test]
    fn an_error_document_is_read_and_anything_else_survives() {
        let status = HttpStatus::new(400, "<Error><Code>X</Code><Message>why</Message></Error>");
        assert_eq!((status.code.as_str(), status.message.as_str()), ("X", "why"));
        let status = HttpStatus::new(502, "Bad <Code> Gateway");
        assert_eq!((status.code.as_str(), status.message.as_str()), ("", "Bad <Code> Gateway"));
    }
}
