//! Access tokens, and who may see what with them.

use std::fmt;

use rand::Rng as _;
use rand::distr::Alphanumeric;

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Enough for jobs and traces.
    ReadApi,
    /// More than enough.
    Api,
    /// Too small: 403 `insufficient_scope`.
    ReadRepository,
    /// Once good, now past its day: 401.
    Expired,
    /// Once good, taken back: 401.
    Revoked,
}

/// A token's number in the request log, which does not hold the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(pub(super) u64);

/// An access token. Printing it shows its number only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: TokenId,
    value: String,
}

impl Token {
    pub(super) fn random(id: u64) -> Self {
        let random = rand::rng().sample_iter(Alphanumeric).take(20);
        Self {
            id: TokenId(id),
            value: "glpat-".chars().chain(random.map(char::from)).collect(),
        }
    }

    /// Its number in the request log.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What goes into the header: `glpat-…`.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.id.0).finish()
    }
}

/// A token as GitLab keeps it.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) token: Token,
    pub(super) scope: Scope,
    /// The projects its owner is a member of; all others do not exist for it.
    pub(super) projects: Vec<u64>,
}
