//! The bucket as one agent sees it: the shared objects, behind the agent's own way to them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use penstock_storage::bucket::faults::{Fate, FaultyStore, Gate, RequestKind};
use penstock_storage::bucket::{Bucket, BucketOptions, ObjectStore};
use penstock_types::pause;

use super::seam::{Seam, finish};
use crate::draw::Draw;
use crate::{note, trace};

/// What goes wrong with the bucket: probabilities of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketWeather {
    /// How long an upload takes, each way.
    pub put: Range<Duration>,
    /// How long another request takes, each way.
    pub get: Range<Duration>,
    /// Takes much longer.
    pub slow: f64,
    /// How much.
    pub slow_by: Range<Duration>,
    /// Answered 503.
    pub unavailable: f64,
    /// Carried out, and the answer is lost.
    pub lost_answer: f64,
    /// Never answered, never carried out.
    pub hang: f64,
    /// Carried out later.
    pub late: f64,
    /// How much later.
    pub late_by: Range<Duration>,
    /// A body that ends early.
    pub short: f64,
}

impl BucketWeather {
    /// Nothing goes wrong.
    pub fn fair() -> Self {
        let milliseconds = Duration::from_millis;
        Self {
            put: milliseconds(2)..milliseconds(30),
            get: milliseconds(1)..milliseconds(12),
            slow: 0.0,
            slow_by: Duration::ZERO..Duration::ZERO,
            unavailable: 0.0,
            lost_answer: 0.0,
            hang: 0.0,
            late: 0.0,
            late_by: Duration::ZERO..Duration::ZERO,
            short: 0.0,
        }
    }
}

/// The objects of all agents.
#[derive(Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    weather: Mutex<BucketWeather>,
    draw: Draw,
}

impl Objects {
    /// None yet.
    pub fn new(draw: Draw) -> Arc<Self> {
        let store: Arc<dyn ObjectStore> = Arc::new(penstock_storage::bucket::InMemory::new());
        Arc::new(Self { store, weather: Mutex::new(BucketWeather::fair()), draw })
    }

    /// The weather from now on.
    pub fn set_weather(&self, weather: BucketWeather) {
        *self.weather.lock() = weather;
    }

    /// The bucket of a life of an agent.
    pub fn bucket(self: &Arc<Self>, seam: &Arc<Seam>, options: &BucketOptions, draw: &Draw) -> Arc<Bucket> {
        let gate = Arc::new(SimGate { objects: Arc::clone(self), seam: Arc::clone(seam) });
        let store = FaultyStore::gated(Arc::clone(&self.store), draw.randomness(), gate);
        Bucket::with_store(store, "", options, draw.randomness())
    }

    /// The bucket without anything in between, for who checks it.
    pub fn plain(&self) -> Arc<Bucket> {
        let randomness = self.draw.randomness();
        Bucket::with_store(Arc::clone(&self.store), "", &BucketOptions::default(), randomness)
    }
}

#[derive(Debug)]
struct SimGate {
    objects: Arc<Objects>,
    seam: Arc<Seam>,
}

impl SimGate {
    fn strikes(&self, probability: f64, kind: &'static str) -> bool {
        let strikes = self.objects.draw.chance(probability);
        if strikes {
            trace::count(kind);
        }
        strikes
    }
}

#[async_trait]
impl Gate for SimGate {
    async fn before(&self, kind: RequestKind, key: &str) -> Fate {
        let weather = self.objects.weather.lock().clone();
        let operation = self.seam.begin(if kind == RequestKind::Put { "bucket put" } else { "bucket" }).await;
        let is_put = kind == RequestKind::Put;
        let way = if is_put { weather.put.clone() } else { weather.get.clone() };
        pause(self.objects.draw.duration(way)).await;
        if self.strikes(weather.slow, "fault: bucket slow") {
            pause(self.objects.draw.duration(weather.slow_by.clone())).await;
        }
        if self.seam.ways().is_bucket_cut() {
            trace::count("fault: bucket out of reach");
            return Fate::Hang;
        }
        let fate = if self.strikes(weather.unavailable, "fault: bucket 503") {
            Fate::Unavailable
        } else if self.strikes(weather.hang, "fault: bucket request lost") {
            Fate::Hang
        } else if self.strikes(weather.lost_answer, "fault: bucket answer lost") {
            Fate::LostAnswer
        } else if is_put && self.strikes(weather.late, "fault: upload late") {
            Fate::Late(self.objects.draw.duration(weather.late_by))
        } else if kind == RequestKind::Get && self.strikes(weather.short, "fault: bucket read short") {
            Fate::ShortRead
        } else {
            Fate::Fine
        };
        note!(self.seam.life().name(), "{kind:?} {key}: {fate:?}");
        // Whoever is killed behind it is killed before the answer: it happens, or not, as it was to.
        if fate != Fate::Fine {
            finish(operation).await;
        } else if !operation.done() {
            // Its maker is gone; the request is on its way all the same.
            return Fate::Late(Duration::from_millis(1));
        }
        fate
    }

    async fn after(&self, kind: RequestKind, _key: &str) {
        let weather = self.objects.weather.lock().clone();
        let way = if kind == RequestKind::Put { weather.put } else { weather.get };
        pause(self.objects.draw.duration(way)).await;
    }
}
