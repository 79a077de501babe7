//! Logs: structured lines on standard error, as text for a terminal and as JSON otherwise.

use std::io::IsTerminal;

use clap::{ArgAction, Args, builder::BoolishValueParser};
use tracing_subscriber::EnvFilter;

/// How much is logged.
#[derive(Debug, Clone, Copy, Args)]
pub struct LogFlags {
    // A value stands after '=' alone: `--debug keygen` is a subcommand.
    /// Log more.
    #[arg(
        long,
        env = "JOBLOGS_DEBUG",
        default_value_t = false,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub debug: bool,
}

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
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        logs: LogFlags,
    }

    #[test]
    fn debug_alone_is_true_and_takes_what_other_switches_take() {
        for (flags, debug) in [
            (vec![], false),
            (vec!["--debug"], true),
            (vec!["--debug=1"], true),
            (vec!["--debug=yes"], true),
            (vec!["--debug=false"], false),
            (vec!["--debug=0"], false),
        ] {
            let words = ["program"].into_iter().chain(flags.clone());
            assert_eq!(Cli::parse_from(words).logs.debug, debug, "{flags:?}");
        }
        assert!(Cli::try_parse_from(["program", "--debug=perhaps"]).is_err());
    }
}
