//! A progress bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps of a bar that shows a share.
pub(in crate::cli) const STEPS: u64 = 1000;

/// A bar from 0 to [`STEPS`]; nothing is drawn where standard error is no terminal.
pub(in crate::cli) fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr_with_hz(4));
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {percent}% {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Moves the bar to `share` (0 to 1) and shows how much was moved so far.
pub(super) fn show(bar: &ProgressBar, share: f64, bytes: u64, seconds: f64) {
    bar.set_position((share.clamp(0.0, 1.0) * STEPS as f64) as u64);
    if seconds > 0.0 {
        bar.set_message(format!("{:.1} MiB/s", bytes as f64 / seconds / f64::from(1 << 20)));
    }
}
