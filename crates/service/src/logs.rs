//! Logs: structured lines on standard error, as text for a terminal and as JSON otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts the logs; `--debug` shows our own debug lines. Libraries are kept at warnings, as
/// their finer lines may quote URLs and headers; lapin is silent, as the supervisor says each
/// of its faults once.
pub fn start(debug: bool) {
    let level = if debug { "debug" } else { "info" };
    let filter = EnvFilter::new(format!(
        "warn,lapin=off,listener={level},consumer={level},initmq={level},broker={level},service={level}"
    ));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.init();
    } else {
        logs.json().flatten_event(true).with_span_list(false).init();
    }
    // A panic says where it was and nothing else: its text may quote what was being worked on.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}
