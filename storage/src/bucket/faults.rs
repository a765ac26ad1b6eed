//! A store that fails on demand, for tests and simulation: everything that a real one was ever seen to do wrong.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use penstock_types::{Randomness, pause};

use super::http::HttpStatus;

/// How often what goes wrong: requests in a thousand, each of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// Answered 503 and not carried out.
    pub unavailable: u32,
    /// Carried out, then the connection breaks before the answer.
    pub lost_answer: u32,
    /// Never answered and not carried out.
    pub hang: u32,
    /// The connection breaks, and `late_by` later the request is carried out all the same (uploads only).
    pub late: u32,
    /// When late requests are carried out.
    pub late_by: Duration,
    /// Answered late by something within `slow_by`.
    pub slow: u32,
    /// How slow: from its start up to its end.
    pub slow_by: Range<Duration>,
    /// The body ends early (reads only).
    pub short_read: u32,
}

/// Rates by kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// Of uploads, conditional ones too.
    pub puts: FaultRates,
    /// Of reads and heads.
    pub gets: FaultRates,
    /// Of deletions and listings.
    pub others: FaultRates,
}

impl Faults {
    /// Every request is answered 503.
    pub fn outage() -> Self {
        let down = FaultRates { unavailable: 1000, ..FaultRates::default() };
        Self { puts: down.clone(), gets: down.clone(), others: down }
    }

    /// The same rates for all.
    pub fn everywhere(rates: FaultRates) -> Self {
        Self { puts: rates.clone(), gets: rates.clone(), others: rates }
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Writes an object.
    Put,
    /// Reads an object, a part of it, or what is known of it.
    Get,
    /// Removes an object.
    Delete,
    /// Lists objects.
    List,
}

/// Decides what happens to each request, instead of rates: for a simulation, whose agents each have a way of their own
/// to the same objects.
#[async_trait]
pub trait Gate: Send + Sync + fmt::Debug + 'static {
    /// A request is about to be carried out: waits as long as it takes to get there, and says what comes of it.
    async fn before(&self, kind: RequestKind, key: &str) -> Fate;

    /// It was carried out: waits as long as its answer takes.
    async fn after(&self, kind: RequestKind, key: &str);
}

/// A store over another one, with faults that can be changed while it runs.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    randomness: Arc<dyn Randomness>,
    faults: Mutex<Faults>,
    gate: Option<Arc<dyn Gate>>,
    injected: AtomicU64,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered.
    Fine,
    /// It is answered 503 and not carried out.
    Unavailable,
    /// It is carried out, and the connection breaks before the answer.
    LostAnswer,
    /// It is never answered and not carried out.
    Hang,
    /// The connection breaks; so much later the request is carried out all the same (uploads only).
    Late(Duration),
    /// The body ends early (reads only).
    ShortRead,
}

impl FaultyStore {
    /// A store without faults so far.
    pub fn new(inner: Arc<dyn ObjectStore>, randomness: Arc<dyn Randomness>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            randomness,
            faults: Mutex::default(),
            gate: None,
            injected: AtomicU64::new(0),
        })
    }

    /// A store behind a gate.
    pub fn gated(
        inner: Arc<dyn ObjectStore>,
        randomness: Arc<dyn Randomness>,
        gate: Arc<dyn Gate>,
    ) -> Arc<Self> {
        let gate = Some(gate);
        Arc::new(Self { inner, randomness, faults: Mutex::default(), gate, injected: AtomicU64::new(0) })
    }

    /// The same over an empty store in memory.
    pub fn in_memory(randomness: Arc<dyn Randomness>) -> Arc<Self> {
        Self::new(Arc::new(object_store::memory::InMemory::new()), randomness)
    }

    /// Sets the faults of all requests from now on.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// How many requests met a fault.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    fn hits(&self, per_thousand: u32) -> bool {
        let hit = per_thousand > 0 && self.randomness.below(1000) < u64::from(per_thousand);
        self.injected.fetch_add(u64::from(hit), Ordering::Relaxed);
        hit
    }

    /// Draws what happens to a request, and waits if it is a slow one.
    async fn fate(&self, rates: FaultRates) -> Fate {
        if self.hits(rates.slow) {
            let spread = rates.slow_by.end.saturating_sub(rates.slow_by.start).as_micros() as u64;
            pause(rates.slow_by.start + Duration::from_micros(self.randomness.below(spread))).await;
        }
        if self.hits(rates.unavailable) {
            Fate::Unavailable
        } else if self.hits(rates.hang) {
            Fate::Hang
        } else if self.hits(rates.lost_answer) {
            Fate::LostAnswer
        } else if self.hits(rates.late) {
            Fate::Late(rates.late_by)
        } else if self.hits(rates.short_read) {
            Fate::ShortRead
        } else {
            Fate::Fine
        }
    }

    async fn fate_of(&self, kind: RequestKind, key: &Path) -> Fate {
        if let Some(gate) = &self.gate {
            return gate.before(kind, key.as_ref()).await;
        }
        let rates = {
            let faults = self.faults.lock();
            match kind {
                RequestKind::Put => faults.puts.clone(),
                RequestKind::Get => faults.gets.clone(),
                RequestKind::Delete | RequestKind::List => faults.others.clone(),
            }
        };
        self.fate(rates).await
    }

    async fn answered(&self, kind: RequestKind, key: &Path) {
        if let Some(gate) = &self.gate {
            gate.after(kind, key.as_ref()).await;
        }
    }
}

fn failing(kind: HttpErrorKind, status: HttpStatus) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: Box::new(HttpError::new(kind, status)) }
}

fn unavailable() -> object_store::Error {
    failing(HttpErrorKind::Unknown, HttpStatus::new(503, "<Error><Code>SlowDown</Code></Error>"))
}

fn broken_off() -> object_store::Error {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let source = Box::new(HttpError::new(HttpErrorKind::Interrupted, reset));
    object_store::Error::Generic { store: "faulty", source }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.fate_of(RequestKind::Put, location).await {
            Fate::Unavailable => Err(unavailable()),
            Fate::Hang => std::future::pending().await,
            Fate::LostAnswer => {
                self.inner.put_opts(location, payload, options).await?;
                self.answered(RequestKind::Put, location).await;
                Err(broken_off())
            }
            Fate::Late(by) => {
                let (inner, location) = (self.inner.clone(), location.clone());
                tokio::spawn(async move {
                    pause(by).await;
                    // Nobody waits for this answer any more.
                    drop(inner.put_opts(&location, payload, options).await);
                });
                Err(broken_off())
            }
            Fate::Fine | Fate::ShortRead => {
                let done = self.inner.put_opts(location, payload, options).await;
                self.answered(RequestKind::Put, location).await;
                done
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate_of(RequestKind::Get, location).await {
            Fate::Unavailable => Err(unavailable()),
            Fate::Hang => std::future::pending().await,
            Fate::LostAnswer | Fate::Late(_) => Err(broken_off()),
            Fate::ShortRead => Ok(self.cut_short(self.inner.get_opts(location, options).await?).await?),
            Fate::Fine => {
                let got = self.inner.get_opts(location, options).await;
                self.answered(RequestKind::Get, location).await;
                got
            }
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if let Some(gate) = &self.gate {
            let (gate, inner) = (Arc::clone(gate), Arc::clone(&self.inner));
            let delete = move |location| gated_delete(Arc::clone(&gate), Arc::clone(&inner), location);
            return locations.then(delete).boxed();
        }
        let rates = self.faults.lock().others.clone();
        if self.hits(rates.unavailable) {
            return locations.map(|_| Err(unavailable())).boxed();
        }
        let deleted = self.inner.delete_stream(locations);
        if self.hits(rates.lost_answer) {
            return deleted.map(|_| Err(broken_off())).boxed();
        }
        deleted
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.breaking_off(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.breaking_off(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

async fn gated_delete(
    gate: Arc<dyn Gate>,
    inner: Arc<dyn ObjectStore>,
    location: Result<Path>,
) -> Result<Path> {
    let location = location?;
    match gate.before(RequestKind::Delete, location.as_ref()).await {
        Fate::Unavailable => Err(unavailable()),
        Fate::Hang => std::future::pending().await,
        Fate::LostAnswer => {
            inner.delete(&location).await?;
            Err(broken_off())
        }
        Fate::Fine | Fate::Late(_) | Fate::ShortRead => {
            inner.delete(&location).await?;
            gate.after(RequestKind::Delete, location.as_ref()).await;
            Ok(location)
        }
    }
}

impl FaultyStore {
    /// Keeps what was announced and drops the end of the body.
    async fn cut_short(&self, result: GetResult) -> Result<GetResult> {
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let bytes = result.bytes().await?;
        let kept = bytes.slice(..self.randomness.below(bytes.len() as u64) as usize);
        let payload =
            GetResultPayload::Stream(futures::stream::once(async move { Ok::<Bytes, _>(kept) }).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    /// Some pages fail: before the first entry, or after a few.
    fn breaking_off(
        &self,
        pages: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(gate) = &self.gate {
            let gate = Arc::clone(gate);
            let first = async move { gate.before(RequestKind::List, "").await };
            let listed = futures::stream::once(first).flat_map(move |fate| match fate {
                Fate::Fine | Fate::Late(_) | Fate::ShortRead => futures::stream::empty().boxed(),
                Fate::Hang => futures::stream::pending().boxed(),
                Fate::Unavailable => futures::stream::once(async { Err(unavailable()) }).boxed(),
                Fate::LostAnswer => futures::stream::once(async { Err(broken_off()) }).boxed(),
            });
            return listed.chain(pages).boxed();
        }
        let rates = self.faults.lock().others.clone();
        if self.hits(rates.unavailable) {
            return futures::stream::once(async { Err(unavailable()) }).boxed();
        }
        if self.hits(rates.lost_answer) {
            let entries = self.randomness.below(4) as usize;
            return pages.take(entries).chain(futures::stream::once(async { Err(broken_off()) })).boxed();
        }
        pages
    }
}
