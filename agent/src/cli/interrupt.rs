//! Ctrl-C for commands that would rather finish properly: a consumer leaves its group, a benchmark prints what it
//! has measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::CommandError;

/// Whether the user has asked to stop.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes Ctrl-C (and SIGTERM) over from now on; a second one ends the process at once, as usual.
    pub(super) fn take_over() -> Result<Self, CommandError> {
        let failed = |error| CommandError::Io { what: "signals can't be handled", source: error };
        let flag = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let set = Arc::clone(&flag);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(wait_and_set(&set)))
            .map_err(failed)?;
        Ok(Self(flag))
    }

    /// Whether it is time to stop.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

async fn wait_and_set(flag: &AtomicBool) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for again in [false, true] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        flag.store(true, Ordering::Relaxed);
        if again {
            exit_at_once();
        }
    }
}

#[expect(clippy::exit, reason = "a second interrupt asks for exactly this")]
fn exit_at_once() -> ! {
    std::process::exit(130)
}
