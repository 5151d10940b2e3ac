//! A progress bar on stderr, where stderr is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the screen is redrawn in a second.
const REDRAWS_HZ: u8 = 5;

/// A bar that counts requests, or nothing if it is not wanted or stderr is not a terminal.
pub fn bar(shown: bool, length: Option<u64>, what: &str) -> ProgressBar {
    if !shown {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_HZ);
    let bar = ProgressBar::with_draw_target(length, target);
    let template = match length {
        Some(_) => "{msg} [{bar:40}] {pos}/{len} {per_sec} {eta}",
        None => "{msg} {spinner} {pos} {per_sec} {elapsed}",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    bar.set_style(style);
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_secs(1) / u32::from(REDRAWS_HZ));
    bar
}
