//! The agent's HTTP side: metrics, health, the cluster as the agent sees it, and draining it. For machines and for people
//! with a browser. Not for Kafka clients, not authenticated, and of no consequence to the data.

use std::future::Future;
use std::sync::{Arc, Weak};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use penstock_compaction::turns::Turns;
use tokio::net::TcpListener;

use crate::broker::Broker;
use crate::metrics::{self, SharedMetrics};

mod admin;
mod bounded;
pub mod cluster;
pub mod jobs;
mod readiness;

pub use admin::{Control, Controls};
pub use readiness::{NotReady, Readiness};

/// What the handlers read.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// The agent's metrics.
    pub metrics: SharedMetrics,
    /// Whether the agent is ready.
    pub readiness: Arc<Readiness>,
    /// The agent's services, while there are any.
    pub broker: Weak<Broker>,
    /// Where an operator's wishes go.
    pub controls: Controls,
    /// The jobs that this agent runs.
    pub jobs: Arc<[Arc<Turns>]>,
}

/// Serves until `stop` resolves and the requests under way are answered. Connections are bounded in number and idle
/// time.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = bounded::BoundedListener::new(listener);
    axum::serve(listener, router(state)).with_graceful_shutdown(stop).await
}

fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(show_metrics))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/cluster", get(cluster::show))
        .route("/jobs", get(jobs::show))
        .route("/admin/jobs/{job}/{action}", post(jobs::act))
        .route("/admin/drain", post(admin::drain))
        .route("/admin/abort", post(admin::abort))
        .route("/admin/accept-clock", post(admin::accept_clock))
        .with_state(state)
}

async fn index() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Penstock</title><h1>Penstock</h1><ul>\
         <li><a href=/metrics>/metrics</a>: Prometheus metrics\
         <li><a href=/health/live>/health/live</a>: 200 while the process runs\
         <li><a href=/health/ready>/health/ready</a>: 200 while Kafka clients are served, else 503 with the reason\
         <li><a href=/cluster>/cluster</a>: the agents that are alive, as JSON (<code>penstock cluster</code>)\
         <li><a href=/jobs>/jobs</a>: the jobs that this agent runs, as JSON (<code>penstock jobs</code>)\
         <li>POST /admin/drain: send clients to the other agents, finish, and stop\
         <li>POST /admin/accept-clock: what the agents' clocks show is right, records may expire by it again\
         </ul>\n",
    )
}

async fn show_metrics(State(state): State<HttpState>) -> Response {
    match state.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics can't be encoded");
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be encoded\n").into_response()
        }
    }
}

async fn live() -> &'static str {
    "live\n"
}

async fn ready(State(state): State<HttpState>) -> Response {
    match state.readiness.check().await {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
