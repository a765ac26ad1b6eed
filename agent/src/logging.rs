//! Log lines on standard error.
//!
//! Levels: ERROR when a human must act, WARN when something went wrong and was dealt with, INFO for what an operator
//! wants to see of a healthy agent, DEBUG and TRACE for finding faults. Payloads of records are never logged.

use std::io::IsTerminal;

use penstock_config::{LogFormat, LogOptions};
use tracing_subscriber::EnvFilter;

/// The log can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter has no meaning.
    #[error("log.filter={filter} can't be understood: {reason}")]
    Filter {
        /// The filter as written.
        filter: String,
        /// What is wrong.
        reason: String,
    },
    /// Something else in this process logs already.
    #[error("the process has a log already: {reason}")]
    AlreadySet {
        /// What the library says.
        reason: String,
    },
}

/// Sends the process's log lines to standard error.
pub fn init(options: &LogOptions) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(&options.filter).map_err(|error| LoggingError::Filter {
        filter: options.filter.clone(),
        reason: error.to_string(),
    })?;
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    let set = match options.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| LoggingError::AlreadySet { reason: error.to_string() })
}

/// Makes a panic anywhere end the process: a broken invariant must not be left to one task's silent death.
pub fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        tracing::error!(%panic, "a broken invariant ends the process");
        std::process::abort();
    }));
}
