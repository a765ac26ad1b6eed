//! How commands fail: one line on standard error and an exit code.

use std::io;
use std::process::ExitCode;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The command line or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
    /// It could not be checked whether all is well: no finding, and no clean bill either.
    #[error("{0}")]
    Unchecked(String),
    /// The failure is reported on standard output or standard error already.
    #[error("failed")]
    Reported,
    /// Kafka's answer, or none.
    #[error("{what}: {}{hint}", describe(.source))]
    Kafka {
        /// What was asked.
        what: String,
        /// The client library's error.
        source: KafkaError,
        /// What may be the reason, empty if unknown.
        hint: String,
    },
    /// Standard output is closed: whoever read it has enough.
    #[error("standard output is closed")]
    Closed,
    /// Standard input or output can't be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// The result of a command.
pub type Outcome = Result<(), CommandError>;

impl From<io::Error> for CommandError {
    fn from(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::Io { what: "can't write to standard output", source }
    }
}

/// The error without the client library's wrapping.
fn describe(error: &KafkaError) -> String {
    match error.rdkafka_error_code() {
        Some(code) => code_text(code),
        None => error.to_string(),
    }
}

/// What a code means: `TopicAlreadyExists (Broker: Topic already exists)` without its name and its origin.
pub(super) fn code_text(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    let inner = text.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text);
    let meaning = inner.strip_prefix("Broker: ").or_else(|| inner.strip_prefix("Local: ")).unwrap_or(inner);
    meaning.to_owned()
}

/// Reports an error in one line and says which exit code it has.
pub(super) fn exit_code(outcome: Outcome) -> ExitCode {
    let error = match outcome {
        Ok(()) | Err(CommandError::Closed) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    let code = match &error {
        CommandError::Usage(_) | CommandError::Unchecked(_) => 2,
        CommandError::Reported => return ExitCode::from(1),
        CommandError::Failed(_)
        | CommandError::Kafka { .. }
        | CommandError::Closed
        | CommandError::Io { .. } => 1,
    };
    eprintln!("error: {}", one_line(&error.to_string()));
    ExitCode::from(code)
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(one_line("a\n  b\n\n"), "a; b");
    }

    #[test]
    fn codes_are_told_by_their_meaning() {
        assert_eq!(code_text(RDKafkaErrorCode::TopicAlreadyExists), "Topic already exists");
        assert_eq!(code_text(RDKafkaErrorCode::BrokerTransportFailure), "Broker transport failure");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let error = CommandError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(error, CommandError::Closed));
    }
}
