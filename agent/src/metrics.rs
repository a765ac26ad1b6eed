//! The agent's metrics: one catalogue of names, units, labels and descriptions ([`definitions`]), read when somebody
//! asks for `/metrics`.
//!
//! Components count in plain atomics and know nothing of this module; [`Metrics::gather`] reads them at each scrape.
//! A metric without a row in the catalogue can't be registered, and a row that no metric uses fails a test of the
//! assembled agent. Deliberately absent: labels with an unbounded number of values (topics, groups, clients).

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub mod definitions;
pub mod process;
pub mod sources;

pub use definitions::{Kind, MetricDefinition};

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a metric shows at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// One value.
    Value(f64),
    /// A value for each combination of label values, which stand in the order of the definition's labels.
    Labelled(Vec<(Vec<String>, f64)>),
    /// A histogram for each combination of label values.
    Histograms(Vec<(Vec<String>, HistogramReading)>),
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistogramReading {
    /// The sum of all that was observed, in the metric's unit.
    pub sum: f64,
    /// Upper bounds and how many observations fell between the bound below and this one; the last bound is
    /// `f64::MAX`.
    pub buckets: Vec<(f64, u64)>,
}

type Gather = Box<dyn Fn() -> Reading + Send + Sync>;

/// The metrics of one agent.
#[derive(Default)]
pub struct Metrics {
    registry: Registry,
    registered: Vec<&'static MetricDefinition>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("registered", &self.registered.len()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Adds a metric that is read by calling `gather` at each scrape: on the scraping task, so it must not wait.
    ///
    /// # Panics
    /// If the metric is registered already.
    pub fn gather(
        &mut self,
        definition: &'static MetricDefinition,
        gather: impl Fn() -> Reading + Send + Sync + 'static,
    ) {
        let twice = self.registered.iter().any(|registered| registered.name == definition.name);
        assert!(!twice, "the metric {} is registered twice", definition.name);
        self.registered.push(definition);
        self.registry.register_collector(Box::new(Gathered { definition, gather: Box::new(gather) }));
    }

    /// Adds a metric that is one number.
    ///
    /// # Panics
    /// If the metric is registered already.
    pub fn value(
        &mut self,
        definition: &'static MetricDefinition,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.gather(definition, move || Reading::Value(read()));
    }

    /// The definitions that have a metric.
    pub fn registered(&self) -> &[&'static MetricDefinition] {
        &self.registered
    }

    /// All metrics in OpenMetrics' text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

struct Gathered {
    definition: &'static MetricDefinition,
    gather: Gather,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gathered").field(&self.definition.name).finish()
    }
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let definition = self.definition;
        let metric_type = match definition.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(definition.name, definition.help, None, metric_type)?;
        match (self.gather)() {
            Reading::Value(value) => encode_value(&mut metric, definition.kind, value),
            Reading::Labelled(values) => {
                for (labels, value) in values {
                    let labels = label_set(definition, &labels);
                    encode_value(&mut metric.encode_family(&labels)?, definition.kind, value)?;
                }
                Ok(())
            }
            Reading::Histograms(histograms) => {
                for (labels, histogram) in histograms {
                    let count = histogram.buckets.iter().map(|(_, count)| count).sum();
                    let HistogramReading { sum, buckets } = &histogram;
                    if definition.labels.is_empty() {
                        metric.encode_histogram::<[(&str, &str); 0]>(*sum, count, buckets, None)?;
                        continue;
                    }
                    let labels = label_set(definition, &labels);
                    let mut metric = metric.encode_family(&labels)?;
                    metric.encode_histogram::<[(&str, &str); 0]>(*sum, count, buckets, None)?;
                }
                Ok(())
            }
        }
    }
}

fn encode_value(metric: &mut MetricEncoder<'_>, kind: Kind, value: f64) -> Result<(), fmt::Error> {
    match kind {
        Kind::Counter => metric.encode_counter::<[(&str, &str); 0], f64, u64>(&value, None),
        Kind::Gauge => metric.encode_gauge(&value),
        Kind::Histogram => Err(fmt::Error),
    }
}

fn label_set(definition: &MetricDefinition, values: &[String]) -> Vec<(&'static str, String)> {
    debug_assert_eq!(definition.labels.len(), values.len(), "{}", definition.name);
    definition.labels.iter().copied().zip(values.iter().cloned()).collect()
}

/// Shared by the HTTP server and the agent that fills it.
pub type SharedMetrics = Arc<Metrics>;

#[cfg(test)]
mod tests;
