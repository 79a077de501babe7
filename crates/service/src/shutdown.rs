//! Shutdown: the first SIGTERM or SIGINT asks for it, the second insists.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT.
pub async fn requested() -> std::io::Result<()> {
    nth(1).await
}

/// Resolves at the second one: whoever sends it does not want to wait for the grace.
pub async fn insisted() -> std::io::Result<()> {
    nth(2).await
}

async fn nth(count: usize) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for _ in 0..count {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    Ok(())
}
