//! Waiting for a condition, with a name and a deadline: what stands in place of every sleep.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until the answer is `Ok`. An error means «not yet, because …»; at the deadline the last one is the reason.
pub async fn eventually<T>(
    what: impl Display,
    deadline: Duration,
    ask: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    every(PAUSE, what, deadline, ask).await
}

/// The same with another pause, where a question is dear.
pub async fn every<T>(
    pause: Duration,
    what: impl Display,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut reason = anyhow!("the first question got no answer");
    loop {
        match timeout_at(end, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(not_yet)) => reason = not_yet,
            Err(_) => {}
        }
        if Instant::now() + pause >= end {
            return Err(reason.context(format!("not within {deadline:?}: {what}")));
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[tokio::test]
    async fn the_answer_comes_back_once_it_is_there() {
        let mut asked = 0;
        let answer = every(
            Duration::ZERO,
            "three",
            Duration::from_mins(1),
            async || {
                asked += 1;
                ensure!(asked == 3, "only {asked}");
                Ok(asked)
            },
        );
        assert_eq!(answer.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn the_deadline_names_what_was_waited_for_and_the_last_reason() {
        let never = eventually("a miracle", Duration::from_millis(1), async || {
            anyhow::bail!("there are none") as Result<()>
        });
        let error = format!("{:#}", never.await.unwrap_err());
        assert_eq!(error, "not within 1ms: a miracle: there are none");
    }
}
