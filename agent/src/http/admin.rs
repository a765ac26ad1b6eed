//! What an operator asks of an agent over HTTP: to drain, of one agent of several in a process also to end at once, and to
//! believe the clocks.
//!
//! A browser's page from elsewhere must not drain anybody's agent: requests that carry an Origin are refused.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::mpsc;

use super::HttpState;

/// The answer to a page in a browser.
pub(super) fn refuse_foreign(headers: &HeaderMap) -> Option<Response> {
    let is_foreign = headers.contains_key(header::ORIGIN);
    is_foreign.then(|| (StatusCode::FORBIDDEN, "not for pages in a browser\n").into_response())
}

/// What is asked of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Send clients elsewhere, finish what is in flight, and stop.
    Drain,
    /// End now, as if killed.
    Abort,
}

/// Where such wishes go.
#[derive(Debug, Clone)]
pub struct Controls {
    /// To whoever runs the agent.
    pub sender: mpsc::Sender<Control>,
    /// Whether it can be ended without its process.
    pub can_abort: bool,
}

pub(super) async fn drain(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    ask(&state, &headers, Control::Drain, "draining\n")
}

pub(super) async fn abort(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    if !state.controls.can_abort {
        let reason = "only an agent of several in one process can be aborted: kill this one\n";
        return (StatusCode::NOT_FOUND, reason).into_response();
    }
    ask(&state, &headers, Control::Abort, "aborting\n")
}

pub(super) async fn accept_clock(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refuse_foreign(&headers) {
        return refusal;
    }
    let Some(broker) = state.broker.upgrade() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the agent is starting or stopping\n").into_response();
    };
    match broker.cluster.accept_clocks().await {
        Ok(now_ms) => {
            tracing::info!(now_ms, "an operator accepts the clock");
            (StatusCode::OK, format!("accepted: {now_ms} ms since 1970\n")).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

fn ask(state: &HttpState, headers: &HeaderMap, control: Control, done: &'static str) -> Response {
    if let Some(refusal) = refuse_foreign(headers) {
        return refusal;
    }
    match state.controls.sender.try_send(control) {
        // A full queue has been asked already.
        Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => (StatusCode::ACCEPTED, done).into_response(),
        Err(mpsc::error::TrySendError::Closed(_)) => {
            (StatusCode::CONFLICT, "the agent is stopping already\n").into_response()
        }
    }
}
