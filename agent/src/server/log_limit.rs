//! A bound on what clients can make the agent log.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines that are written in each [`PERIOD`].
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// Lets ten lines a second through, and counts the others.
#[derive(Debug, Default)]
pub(super) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    period_start: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Calls `write` with the number of lines that were held back since the last one, or holds this one back.
    pub(super) fn info(&self, write: impl FnOnce(u64)) {
        let now = Instant::now();
        let suppressed = {
            let mut state = self.0.lock();
            if state.period_start.is_none_or(|start| now.duration_since(start) >= PERIOD) {
                state.period_start = Some(now);
                state.lines = 0;
            }
            if state.lines >= LINES {
                state.suppressed += 1;
                return;
            }
            state.lines += 1;
            std::mem::take(&mut state.suppressed)
        };
        write(suppressed);
    }
}
