//! The agent's HTTP side: metrics and health, for machines and for people with a browser. Not for Kafka clients, not
//! authenticated, and of no consequence to the data.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::{self, SharedMetrics};

mod bounded;
mod readiness;

pub use readiness::{NotReady, Readiness};

/// What the handlers read.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// The agent's metrics.
    pub metrics: SharedMetrics,
    /// Whether the agent is ready.
    pub readiness: Arc<Readiness>,
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
        .with_state(state)
}

async fn index() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Penstock</title><h1>Penstock</h1><ul>\
         <li><a href=/metrics>/metrics</a>: Prometheus metrics\
         <li><a href=/health/live>/health/live</a>: 200 while the process runs\
         <li><a href=/health/ready>/health/ready</a>: 200 while Kafka clients are served, else 503 with the reason\
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
