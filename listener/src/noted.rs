//! What belongs to one request, wherever it is: the time until it has its answer, and what the access log says of
//! the notice that it brought.

use std::{cell::RefCell, cmp::Ordering, fmt::Write as _, time::Duration};

use notice::Message;
use tokio::time::Instant;

/// Jobs of one request that are named; an event tells of hundreds.
const MOST_JOBS: usize = 8;
/// The longest id of a delivery; GitLab's are UUIDs.
const LONGEST_ID: usize = 64;

tokio::task_local! {
    static NOTED: RefCell<Noted>;
    static UNTIL: Instant;
}

/// What is noted of one request, each empty where there is none.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// `INSTANCE-PROJECT-JOB` of each accepted notice, by blanks.
    pub(crate) jobs: String,
    /// A webhook's `Idempotency-Key`: the same when GitLab sends it again.
    pub(crate) delivery: String,
    /// Its `X-Gitlab-Event-UUID`.
    pub(crate) event: String,
    count: usize,
    /// What is wrong with its credential.
    fault: Option<&'static str>,
}

/// Runs what may note and has to be done by then, and yields what it noted.
pub(crate) async fn noting<T>(until: Instant, work: impl Future<Output = T>) -> (T, Noted) {
    let noted = NOTED.scope(RefCell::default(), async {
        let outcome = work.await;
        (outcome, NOTED.with(RefCell::take))
    });
    UNTIL.scope(until, noted).await
}

/// So long, or as long as is left of the request's time.
pub(crate) fn left(most: Duration) -> Duration {
    let until = UNTIL.try_with(|until| until.saturating_duration_since(Instant::now()));
    until.map_or(most, |left| left.min(most))
}

/// This notice was accepted.
pub(crate) fn accepted(message: &Message) {
    let (instance, project, job) = (&message.instance, message.project_id, message.job_id);
    note(|noted| {
        noted.count += 1;
        let blank = if noted.count > 1 { " " } else { "" };
        match noted.count.cmp(&(MOST_JOBS + 1)) {
            Ordering::Less => {
                // Into text it can't fail.
                let _ = write!(noted.jobs, "{blank}{instance}-{project}-{job}");
            }
            Ordering::Equal => noted.jobs += " …",
            Ordering::Greater => {}
        }
    });
}

/// An event with these ids came. What is no id is not noted: anything may stand there.
pub(crate) fn delivered(delivery: Option<&str>, event: Option<&str>) {
    let is_id = |id: &&str| {
        id.len() <= LONGEST_ID
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let id = |id: Option<&str>| id.filter(is_id).unwrap_or_default().to_owned();
    note(|noted| (noted.delivery, noted.event) = (id(delivery), id(event)));
}

/// This is wrong with its credential.
pub(crate) fn fault(fault: &'static str) {
    note(|noted| noted.fault = Some(fault));
}

/// What was said to be wrong with it.
pub(crate) fn noted_fault() -> Option<&'static str> {
    NOTED.try_with(|noted| noted.borrow().fault).ok().flatten()
}

fn note(what: impl FnOnce(&mut Noted)) {
    // Outside of a request nobody reads it.
    let _ = NOTED.try_with(|noted| what(&mut noted.borrow_mut()));
}
