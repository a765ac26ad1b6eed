//! The jobs of this agent, for `penstock jobs` and other programs: what they do, and an operator's wishes.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use penstock_compaction::turns::{JobStatus, Turns};
use serde::{Deserialize, Serialize};

use super::HttpState;
use super::admin::refuse_foreign;

/// How long a pause lasts if nobody says how long.
const PAUSE: Duration = Duration::from_secs(3600);
/// A pause lasts no longer.
const PAUSE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A job of an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobReport {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// `paused`, `running`, or `waiting` for its next turn.
    pub state: String,
    /// For how long it is paused yet, in milliseconds; 0: it is not.
    pub paused_ms: u64,
    /// For how long its turn has been under way, in milliseconds.
    pub running_ms: u64,
    /// What is done in the turn under way, or was in the last.
    pub done: u64,
    /// Of how much; 0 if that isn't known.
    pub of: u64,
    /// Turns that have ended.
    pub turns: u64,
    /// Those that failed.
    pub failures: u64,
    /// How long ago the last turn ended, in milliseconds; -1: there was none.
    pub ended_ms_ago: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed; empty if it didn't.
    pub error: String,
    /// The last of the turns that were asked for to have ended.
    pub asked_ended: u64,
}

/// A turn that was asked for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Asked {
    /// It has ended once [`JobReport::asked_ended`] is as much.
    pub turn: u64,
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<JobStatus> for JobReport {
    fn from(status: JobStatus) -> Self {
        let state = match (status.running_for, status.paused_for) {
            (Some(_), _) => "running",
            (None, Some(_)) => "paused",
            (None, None) => "waiting",
        };
        Self {
            name: status.name.to_owned(),
            about: status.about.to_owned(),
            state: state.to_owned(),
            paused_ms: status.paused_for.map_or(0, milliseconds),
            running_ms: status.running_for.map_or(0, milliseconds),
            done: status.progress.0,
            of: status.progress.1,
            turns: status.turns,
            failures: status.failures,
            ended_ms_ago: status.ended_ago.map_or(-1, |ago| milliseconds(ago) as i64),
            took_ms: status.took.map_or(0, milliseconds),
            error: status.error.unwrap_or_default(),
            asked_ended: status.asked_ended,
        }
    }
}

fn reports<'a>(jobs: impl IntoIterator<Item = &'a std::sync::Arc<Turns>>) -> Vec<JobReport> {
    jobs.into_iter().map(|turns| turns.status().into()).collect()
}

pub(super) async fn show(State(state): State<HttpState>) -> Json<Vec<JobReport>> {
    Json(reports(state.jobs.iter()))
}

/// How long to pause.
#[derive(Debug, Deserialize)]
pub(super) struct For {
    seconds: Option<u64>,
}

pub(super) async fn act(
    State(state): State<HttpState>,
    Path((job, action)): Path<(String, String)>,
    Query(time): Query<For>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refuse_foreign(&headers) {
        return refusal;
    }
    let Some(turns) = state.jobs.iter().find(|turns| turns.name() == job) else {
        return (StatusCode::NOT_FOUND, format!("this agent runs no job {job}\n")).into_response();
    };
    match action.as_str() {
        "run" => {
            tracing::info!(job, "an operator runs a job");
            (StatusCode::ACCEPTED, Json(Asked { turn: turns.ask() })).into_response()
        }
        "pause" => {
            let time = time.seconds.map_or(PAUSE, Duration::from_secs).min(PAUSE_MAX);
            tracing::info!(job, seconds = time.as_secs(), "an operator pauses a job");
            turns.pause(time);
            Json(reports([turns])).into_response()
        }
        "resume" => {
            tracing::info!(job, "an operator ends a job's pause");
            turns.resume();
            Json(reports([turns])).into_response()
        }
        _ => (StatusCode::NOT_FOUND, "a job can be run, paused and resumed\n").into_response(),
    }
}
