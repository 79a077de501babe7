//! What passes through the queue: the message, the ids in it, and the sealing of a caller's token.
//!
//! Everything here is checked once, at the edge, and is then carried by types that
//! can't hold anything else. Nothing here does I/O, and no token ever leaves it in clear.

mod id;
mod index;
mod instance;
mod message;
mod seal;

pub use id::{JobId, ProjectId, RunnerId};
pub use index::{IndexName, IndexPatterns};
pub use instance::{Instance, InstanceName, Instances};
pub use message::{Message, MessageError, Source, Token};
pub use seal::{SealError, SealKeys, SealedToken, TokenBinding};

/// Why a value was refused. The text names the rule and never echoes the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);
