//! A circuit for each destination: whether work that needs it is begun.
//!
//! Closed, everybody passes. After some failures in a row, or a refusal that says for how long, it
//! opens: nobody asks until a pause is over, which grows with each failure. Then one request goes
//! ahead, and what becomes of it decides for all who wait.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use rand::Rng;
use service::admin::Readiness;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// Failures in a row that are more than bad luck.
const FAILURES: u32 = 3;
/// Pauses: up to this at first, doubling up to the longest, with jitter. Short, because one request
/// is all that a look costs.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One destination's circuit; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Circuit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How metrics and logs call the destination.
    destination: String,
    /// How readiness calls it.
    dependency: &'static str,
    readiness: Readiness,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In a row.
    failures: u32,
    open: Option<Open>,
}

impl State {
    fn is_resting(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| open.until > Instant::now())
    }
}

#[derive(Debug)]
struct Open {
    /// Nobody passes before.
    until: Instant,
    /// Whether somebody has gone ahead.
    is_tried: bool,
    /// It may come back as another one: only whoever watches it goes ahead, and work waits.
    is_lost: bool,
    why: String,
}

/// Leave to ask, once. Whoever has it says what became of it; dropped without a word, as when the
/// work is ended, it changes nothing.
#[derive(Debug)]
pub(crate) struct Pass {
    circuit: Circuit,
    /// It goes ahead of the others.
    is_trial: bool,
}

/// Nobody may ask now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StayAway {
    /// For how long at least.
    pub after: Duration,
    /// What is wrong with the destination.
    pub why: String,
}

impl Circuit {
    /// A circuit that lets everybody pass.
    pub(crate) fn new(destination: &str, dependency: &'static str, readiness: Readiness) -> Self {
        Self::with(destination, dependency, readiness, State::default())
    }

    /// One that is open until whoever watches the destination has seen it.
    pub(crate) fn watched(
        destination: &str,
        dependency: &'static str,
        readiness: Readiness,
    ) -> Self {
        let open = Open {
            until: Instant::now(),
            is_tried: false,
            is_lost: true,
            why: "not asked yet".to_owned(),
        };
        let state = State {
            failures: 0,
            open: Some(open),
        };
        Self::with(destination, dependency, readiness, state)
    }

    fn with(
        destination: &str,
        dependency: &'static str,
        readiness: Readiness,
        state: State,
    ) -> Self {
        Self(Arc::new(Inner {
            destination: destination.to_owned(),
            dependency,
            readiness,
            state: watch::Sender::new(state),
        }))
    }

    /// Begins to count, which has to wait until metrics are counted.
    pub(crate) fn start_counting(&self) {
        self.count(self.why().is_some());
    }

    /// Leave to ask now, or how long to stay away.
    pub(crate) fn try_pass(&self) -> Result<Pass, StayAway> {
        self.pass_now(false)
    }

    /// The same for whoever watches the destination, and may go ahead of the others.
    pub(crate) fn go_ahead(&self) -> Result<Pass, StayAway> {
        self.pass_now(true)
    }

    fn pass_now(&self, is_watcher: bool) -> Result<Pass, StayAway> {
        let mut verdict = Ok(false);
        self.0.state.send_if_modified(|state| {
            let Some(open) = &mut state.open else {
                return false;
            };
            let now = Instant::now();
            let may_go_ahead = is_watcher || !open.is_lost;
            if may_go_ahead && now >= open.until && !open.is_tried {
                open.is_tried = true;
                verdict = Ok(true);
                return true;
            }
            verdict = Err(StayAway {
                after: open.until.saturating_duration_since(now),
                why: open.why.clone(),
            });
            false
        });
        verdict.map(|is_trial| Pass {
            circuit: self.clone(),
            is_trial,
        })
    }

    /// Leave to ask, as soon as there is.
    pub(crate) async fn pass(&self) -> Pass {
        let mut changes = self.0.state.subscribe();
        loop {
            let stay = match self.try_pass() {
                Ok(pass) => return pass,
                Err(stay) => stay,
            };
            // Where somebody has gone ahead, that ends with a change.
            let is_tried = stay.after.is_zero();
            tokio::select! {
                () = sleep(stay.after), if !is_tried => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Resolves once somebody may ask, be it to find out whether it works again.
    pub(crate) async fn ready(&self) {
        let mut changes = self.0.state.subscribe();
        loop {
            let until = self.0.state.borrow().open.as_ref().map(|open| open.until);
            let Some(until) = until.filter(|until| *until > Instant::now()) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Resolves once nobody may ask for a while.
    pub(crate) async fn resting(&self) {
        self.wait_for(State::is_resting).await;
    }

    /// How long to stay away, where nobody may ask for a while.
    pub(crate) fn rests(&self) -> Option<StayAway> {
        let state = self.0.state.borrow();
        let open = state.open.as_ref().filter(|_| state.is_resting())?;
        Some(StayAway {
            after: open.until.saturating_duration_since(Instant::now()),
            why: open.why.clone(),
        })
    }

    /// What is wrong with the destination; `None` where nothing is.
    pub(crate) fn why(&self) -> Option<String> {
        let state = self.0.state.borrow();
        state.open.as_ref().map(|open| open.why.clone())
    }

    /// Resolves once the destination is known to work.
    pub(crate) async fn closed(&self) {
        self.wait_for(|state| state.open.is_none()).await;
    }

    /// Resolves once the destination is known not to work.
    pub(crate) async fn opened(&self) {
        self.wait_for(|state| state.open.is_some()).await;
    }

    /// Opens it at once, whoever has seen what else: it is not there.
    pub(crate) fn open(&self, why: &str) {
        self.0.state.send_modify(|state| {
            state.failures = state.failures.max(FAILURES);
            self.rest(state, why, None, true);
        });
    }

    async fn wait_for(&self, condition: fn(&State) -> bool) {
        let mut changes = self.0.state.subscribe();
        // The sender lives as long as we do.
        let _ = changes.wait_for(condition).await;
    }

    /// The pause that `state.failures` failures ask for, or a longer one that was asked for.
    fn rest(&self, state: &mut State, why: &str, asked: Option<Duration>, is_lost: bool) {
        let doublings = state.failures.saturating_sub(FAILURES).min(8);
        let longest = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
        let pause = longest.mul_f64(rand::rng().random_range(0.5..1.0));
        let pause = asked.unwrap_or_default().max(pause);
        if state.open.is_none() {
            tracing::warn!(
                destination = self.0.destination,
                why,
                "no work for it is begun any more"
            );
            self.count(true);
        }
        let before = state.open.as_ref();
        let until = Instant::now() + pause;
        state.open = Some(Open {
            until: before.map_or(until, |before| before.until.max(until)),
            is_tried: false,
            is_lost: is_lost || before.is_some_and(|before| before.is_lost),
            why: why.to_owned(),
        });
        self.0.readiness.is_down(self.0.dependency, why);
    }

    fn close(&self, state: &mut State) {
        if state.open.take().is_some() {
            tracing::info!(destination = self.0.destination, "work for it goes on");
            self.count(false);
        }
        self.0.readiness.is_up(self.0.dependency);
    }

    fn count(&self, is_open: bool) {
        let destination = self.0.destination.clone();
        gauge!("joblogs_circuit_open", "destination" => destination).set(u8::from(is_open));
    }
}

impl Pass {
    /// The destination did what it should.
    pub(crate) fn succeeded(mut self) {
        let is_trial = self.is_trial;
        self.judge(|circuit, state| {
            // One that was on its way does not shorten the time that was asked for meanwhile.
            if is_trial || !state.is_resting() {
                state.failures = 0;
                circuit.close(state);
            }
        });
    }

    /// The destination is there; whether it does what it should, the next one who asks will see.
    pub(crate) fn answered(mut self) {
        let is_trial = self.is_trial;
        self.judge(|circuit, state| {
            if is_trial || !state.is_resting() {
                circuit.close(state);
            }
        });
    }

    /// It did not do what it should; `asked` is for how long it wants to be left alone.
    pub(crate) fn failed(self, why: &str, asked: Option<Duration>) {
        self.refused(why, asked, false);
    }

    /// The same where it may be gone, and come back as another one.
    pub(crate) fn lost(self, why: &str, asked: Option<Duration>) {
        self.refused(why, asked, true);
    }

    fn refused(mut self, why: &str, asked: Option<Duration>, is_lost: bool) {
        let is_trial = self.is_trial;
        self.judge(|circuit, state| {
            // Those that were on their way when it opened say nothing new.
            let is_known = state.open.is_some() && !is_trial;
            if !is_known {
                state.failures += 1;
            }
            let is_enough = state.failures >= FAILURES && !is_known;
            if is_trial || is_enough || asked.is_some() {
                circuit.rest(state, why, asked, is_lost);
            }
        });
    }

    fn judge(&mut self, verdict: impl FnOnce(&Circuit, &mut State)) {
        self.is_trial = false;
        let circuit = &self.circuit;
        circuit.0.state.send_modify(|state| verdict(circuit, state));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.is_trial {
            // Somebody else has to go ahead.
            self.judge(|_, state| {
                if let Some(open) = &mut state.open {
                    open.is_tried = false;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circuit() -> (Circuit, Readiness) {
        let readiness = Readiness::default();
        (Circuit::new("x", "x", readiness.clone()), readiness)
    }

    fn fail(circuit: &Circuit) {
        fail_with(circuit, "down");
    }

    fn fail_with(circuit: &Circuit, why: &str) {
        let pass = circuit.try_pass().expect("somebody may ask");
        pass.failed(why, None);
    }

    fn open(circuit: &Circuit, why: &str) {
        for _ in 0..FAILURES {
            fail_with(circuit, why);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_in_a_row_open_it_and_one_who_goes_ahead_closes_it_for_all() {
        let (circuit, readiness) = circuit();
        for _ in 1..FAILURES {
            fail(&circuit);
        }
        circuit.try_pass().unwrap().succeeded();
        for _ in 1..FAILURES {
            fail(&circuit);
        }
        assert!(circuit.try_pass().is_ok(), "a success in between counts");
        fail(&circuit);
        let stay = circuit.try_pass().unwrap_err();
        assert!(!stay.after.is_zero() && stay.why == "down");
        assert_eq!(readiness.faults(), ["x: down"]);

        let ahead = circuit.pass().await;
        assert!(circuit.try_pass().is_err(), "only one goes ahead");
        let (waiting, ()) = tokio::join!(circuit.pass(), async { ahead.succeeded() });
        assert!(!waiting.is_trial && circuit.why().is_none());
        assert!(readiness.faults().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_the_longest() {
        let (circuit, _) = circuit();
        open(&circuit, "down");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(circuit.try_pass().unwrap_err().after);
            circuit.pass().await.failed("down", None);
        }
        assert!(pauses[0] <= FIRST_PAUSE, "{pauses:?}");
        assert!(pauses[7] >= LONGEST_PAUSE / 2 && pauses[7] <= LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_passes_before_the_time_that_was_asked_for() {
        let (circuit, _) = circuit();
        let asked = Duration::from_secs(40);
        let late = circuit.try_pass().unwrap();
        let lucky = circuit.try_pass().unwrap();
        circuit.try_pass().unwrap().failed("limited", Some(asked));
        let before = Instant::now();
        // One that was on its way knows of less.
        late.failed("limited", Some(Duration::from_secs(1)));
        lucky.succeeded();
        circuit.pass().await.succeeded();
        assert!(before.elapsed() >= asked);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_ahead_and_is_ended_leaves_it_to_another() {
        let (circuit, _) = circuit();
        open(&circuit, "down");
        drop(circuit.pass().await);
        assert!(circuit.pass().await.is_trial);
    }

    #[tokio::test(start_paused = true)]
    async fn work_does_not_go_ahead_to_what_may_be_another_one_now() {
        let circuit = Circuit::watched("x", "x", Readiness::default());
        assert!(circuit.try_pass().is_err(), "nobody has looked yet");
        circuit.go_ahead().unwrap().answered();
        for _ in 0..FAILURES {
            circuit.try_pass().unwrap().lost("down", None);
        }
        let waits = tokio::time::timeout(LONGEST_PAUSE * 2, circuit.pass()).await;
        assert!(waits.is_err(), "its pause is over, and nobody has looked");
        let ahead = circuit.go_ahead().unwrap();
        let (passed, ()) = tokio::join!(circuit.pass(), async { ahead.answered() });
        assert!(!passed.is_trial);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_closes_it_but_failures_are_remembered() {
        let (circuit, _) = circuit();
        open(&circuit, "throttled");
        circuit.pass().await.answered();
        assert!(circuit.why().is_none());
        fail(&circuit);
        assert!(circuit.why().is_some(), "the next failure opens it at once");
    }
}
