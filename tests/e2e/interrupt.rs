//! An interrupted run leaves nothing either: no container and no program.

use std::fs;
use std::process::{Command, exit};

use tokio::signal::unix::{SignalKind, signal};

use crate::containers;

/// What a shell shows for a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Waits for SIGINT or SIGTERM, removes what is ours, and ends the process.
pub(crate) async fn clean_up() {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    kill_children();
    if let Err(error) = containers::remove_own().await {
        eprintln!("e2e: {error:#}");
    }
    exit(INTERRUPTED)
}

/// Children stand under the thread that started them.
fn kill_children() {
    let threads = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    for thread in threads {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        if !children.trim().is_empty() {
            // A child that is gone already is what was wanted.
            let _ = Command::new("sh")
                .args(["-c", &format!("kill -KILL {children}")])
                .status();
        }
    }
}
