//! What can go wrong with a bucket, and whether it happened all the same.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

use super::http::HttpStatus;

/// Whether an operation that failed left a trace in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did not happen and never will.
    DidNotHappen,
    /// It may have happened, or may still (a request on its way, a write that the store finishes later).
    MayHaveHappened,
}

impl Outcome {
    /// The outcome of two attempts at the same thing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::MayHaveHappened { self } else { other }
    }
}

/// What was asked of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named after the methods of Bucket")]
pub enum Operation {
    Put,
    ConditionalPut,
    Get,
    Head,
    Delete,
    List,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::ConditionalPut => "conditional put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::List => "list",
        })
    }
}

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorClass {
    /// There is no such object (or no such bucket).
    NotFound,
    /// A conditional put found another object (or another version of it) than its condition allows.
    Precondition,
    /// The range lies behind the object's end.
    OutOfRange,
    /// The store asks for less: 503, 429, or 409 because another conditional put is under way.
    Throttled,
    /// The store can't be reached, broke the connection off, or answered another 5xx.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// Credentials or rights are missing.
    Denied,
    /// The store is out of space or over a quota.
    Full,
    /// Bytes were changed or lost on their way; the checksum told.
    Corrupted,
    /// Anything else: the store refuses the request, a key isn't valid, an answer makes no sense.
    Other,
}

impl ErrorClass {
    /// Every class, in the order of [`ErrorClass::index`].
    pub const ALL: [Self; 10] = [
        Self::NotFound,
        Self::Precondition,
        Self::OutOfRange,
        Self::Throttled,
        Self::Unavailable,
        Self::Timeout,
        Self::Denied,
        Self::Full,
        Self::Corrupted,
        Self::Other,
    ];

    /// The class's place in [`ErrorClass::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// A label for metrics and messages.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Precondition => "precondition",
            Self::OutOfRange => "out_of_range",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::Corrupted => "corrupted",
            Self::Other => "other",
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_retriable(self) -> bool {
        match self {
            Self::Throttled | Self::Unavailable | Self::Timeout | Self::Corrupted => true,
            Self::NotFound
            | Self::Precondition
            | Self::OutOfRange
            | Self::Denied
            | Self::Full
            | Self::Other => false,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A bucket's operation that failed after all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {key:?} failed ({class}, {attempts} attempts): {detail}")]
pub struct BucketError {
    /// What was asked.
    pub operation: Operation,
    /// The object's key, without the bucket's prefix.
    pub key: String,
    /// What kind of failure the last attempt was.
    pub class: ErrorClass,
    /// Whether any of the attempts may have happened.
    pub outcome: Outcome,
    /// How many requests were sent.
    pub attempts: u32,
    /// The store's words.
    pub detail: String,
}

impl BucketError {
    /// Whether the object isn't there.
    pub fn is_not_found(&self) -> bool {
        self.class == ErrorClass::NotFound
    }

    /// Whether a conditional put lost.
    pub fn is_precondition(&self) -> bool {
        self.class == ErrorClass::Precondition
    }
}

/// Why a bucket can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL isn't one of ours.
    #[error("object store {url:?}: {reason} (file:///path, s3://bucket/prefix or memory:///)")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory can't be created or used.
    #[error("object store directory {path:?}: {source}")]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A setting isn't known or has no valid value.
    #[error("object store setting {name:?}: {reason}")]
    Setting {
        /// The setting's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The client can't be built from its settings.
    #[error("object store {url:?}: {detail}")]
    Client {
        /// As given.
        url: String,
        /// The client's words.
        detail: String,
    },
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) class: ErrorClass,
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(class: ErrorClass, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { class, outcome, detail: detail.into() }
    }

    pub(super) fn timeout(after: std::time::Duration) -> Self {
        let detail = format!("no answer within {} ms", after.as_millis());
        Self::new(ErrorClass::Timeout, Outcome::MayHaveHappened, detail)
    }

    pub(super) fn into_error(self, operation: Operation, key: &str, attempts: u32) -> BucketError {
        BucketError {
            operation,
            key: key.to_owned(),
            class: self.class,
            outcome: self.outcome,
            attempts,
            detail: self.detail,
        }
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        let (class, outcome) = classify(&error);
        Self::new(class, outcome, shortened(&error.to_string()))
    }
}

fn classify(error: &object_store::Error) -> (ErrorClass, Outcome) {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => (ErrorClass::NotFound, Outcome::DidNotHappen),
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            (ErrorClass::Precondition, Outcome::DidNotHappen)
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            (ErrorClass::Denied, Outcome::DidNotHappen)
        }
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => (ErrorClass::Other, Outcome::DidNotHappen),
        _ => classify_sources(error),
    }
}

/// The generic errors carry what happened somewhere down their chain of sources.
fn classify_sources(error: &object_store::Error) -> (ErrorClass, Outcome) {
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(status) = source.downcast_ref::<HttpStatus>() {
            return status.classify();
        }
        if let Some(http) = source.downcast_ref::<HttpError>()
            && http.source().is_none_or(|inner| !inner.is::<HttpStatus>())
        {
            return classify_http(http);
        }
        if let Some(io) = source.downcast_ref::<io::Error>() {
            return classify_io(io);
        }
        next = source.source();
    }
    // The local and the in-memory store name their range error only in words.
    let words = error.to_string();
    if words.contains("Wanted range starting at") || words.contains("Requested range was invalid") {
        return (ErrorClass::OutOfRange, Outcome::DidNotHappen);
    }
    (ErrorClass::Other, Outcome::MayHaveHappened)
}

fn classify_http(error: &HttpError) -> (ErrorClass, Outcome) {
    match error.kind() {
        HttpErrorKind::Connect => (ErrorClass::Unavailable, Outcome::DidNotHappen),
        HttpErrorKind::Timeout => (ErrorClass::Timeout, Outcome::MayHaveHappened),
        // "Request" too: a connection that ended before the answer may have carried the request.
        _ => (ErrorClass::Unavailable, Outcome::MayHaveHappened),
    }
}

fn classify_io(error: &io::Error) -> (ErrorClass, Outcome) {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (ErrorClass::Full, Outcome::DidNotHappen)
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorClass::Denied, Outcome::DidNotHappen)
        }
        io::ErrorKind::NotFound => (ErrorClass::NotFound, Outcome::DidNotHappen),
        io::ErrorKind::Interrupted | io::ErrorKind::TimedOut => {
            (ErrorClass::Unavailable, Outcome::MayHaveHappened)
        }
        _ => (ErrorClass::Other, Outcome::MayHaveHappened),
    }
}

/// Long enough for a store's message, short enough for a log line.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 600;
    if text.len() <= LONGEST {
        text.to_owned()
    } else {
        text.chars().take(LONGEST).chain("…".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_know_their_place() {
        for (index, class) in ErrorClass::ALL.into_iter().enumerate() {
            assert_eq!(class.index(), index);
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        for (kind, class) in [
            (io::ErrorKind::StorageFull, ErrorClass::Full),
            (io::ErrorKind::PermissionDenied, ErrorClass::Denied),
            (io::ErrorKind::ConnectionReset, ErrorClass::Other),
        ] {
            let error =
                object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) };
            assert_eq!(Failure::from(error).class, class, "{kind:?}");
        }
    }

    #[test]
    fn a_status_is_found_down_the_chain() {
        let status = HttpStatus::new(503, "<Error><Code>SlowDown</Code></Error>");
        let http = HttpError::new(HttpErrorKind::Unknown, status);
        let error = object_store::Error::Generic { store: "test", source: Box::new(http) };
        let failure = Failure::from(error);
        assert_eq!((failure.class, failure.outcome), (ErrorClass::Throttled, Outcome::MayHaveHappened));
    }
}
