//! Faults on command: what GitLab, or what stands in front of it, answers instead.

use std::time::Duration;

/// One kind of trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 429 with `Retry-After` in seconds. Whatever asks for the same job earlier is refused again, and is a violation;
    /// as a fault of the whole instance: whatever asks for anything.
    RateLimited(u64),
    /// This status (a 5xx) with the page of a proxy.
    Unavailable(u16),
    /// 200 and a login page, as a proxy answers that lost the session.
    LoginPage,
    /// 302 to this address.
    Redirect(String),
    /// 403, as for a debug trace that only a Developer may read.
    Forbidden,
    /// 404 «Not found».
    NotFound,
    /// The true answer, but this much later.
    Delay(Duration),
    /// The true answer, but the connection is reset when so much of the body has gone out.
    ResetAt(At),
    /// The true answer, but its `Content-Length` says so many bytes too many, or, negative, too few.
    WrongLength(i64),
    /// The true answer, so many bytes of its body a second.
    Drip(usize),
    /// The true answer with all of these, which must be such that leave it the true one.
    All(Vec<Fault>),
}

/// A place in the body of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Its middle.
    Half,
    /// After so many bytes.
    Byte(usize),
}

/// Which answers a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// `GET /projects/:id/jobs/:job_id`.
    Facts,
    /// `GET /projects/:id/jobs/:job_id/trace`.
    Trace,
    /// Every answer.
    Any,
}

/// For a fault that stays until `clear_faults`.
pub const ALWAYS: usize = usize::MAX;

/// The faults still to come, in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(On, Fault, usize)>);

impl Faults {
    pub(super) fn plan(&mut self, on: On, fault: Fault, times: usize) {
        self.0.push((on, fault, times));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for a request of this kind, used up by it.
    pub(super) fn take(&mut self, on: On) -> Option<Fault> {
        let (_, fault, left) = self
            .0
            .iter_mut()
            .find(|(hits, _, left)| (*hits == On::Any || *hits == on) && *left > 0)?;
        if *left != ALWAYS {
            *left -= 1;
        }
        Some(fault.clone())
    }
}
