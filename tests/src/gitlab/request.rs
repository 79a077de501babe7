//! The log of what was asked, and of what must never be asked.

use jiff::Timestamp;

use super::token::TokenId;

/// One request and its answer. No query and no token: a test's output may be read by anyone.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it arrived.
    pub at: Timestamp,
    /// The method.
    pub method: String,
    /// The path as it was sent, without the query.
    pub path: String,
    /// Project and job, where the path names a job that there is.
    pub job: Option<(u64, u64)>,
    /// The token it was let in with.
    pub token: Option<TokenId>,
    /// The status of the answer.
    pub status: u16,
    /// What was wrong about it.
    pub violations: Vec<Violation>,
}

impl Request {
    /// Whether it asked for a trace.
    pub fn is_trace(&self) -> bool {
        self.job.is_some() && self.path.ends_with("/trace")
    }
}

/// What a client must not do, whatever GitLab answers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A `Range` header: GitLab does not support it on traces.
    Range,
    /// A token in the address, where every log on the way keeps it.
    TokenInQuery,
    /// A request before the `Retry-After` of the last refusal had passed.
    BeforeRetryAfter,
    /// An address that GitLab does not have, or not with this method.
    UnknownEndpoint,
}
