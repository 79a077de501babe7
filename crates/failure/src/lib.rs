//! Why a CI job failed: which lines of its log matter, what class of failure they tell of, and by which
//! signature the same failure is found again.
//!
//! [`Investigation`] sees each line of a trace once, keeps a bounded number of them, and concludes with a
//! [`Finding`]. What it knows of tools stands in [`Rules`] (`rules.yaml`, and the operator's own). It does
//! no I/O, asks no model, and says which rule decided.
//!
//! A line counts by where it stands: `stage` knows which stage of the runner failed, `block` what the
//! command printed that failed there, `signature` what of a line is the same each time.

mod block;
mod class;
mod decide;
mod investigation;
mod patterns;
mod prefix;
mod rules;
mod signature;
mod stage;

pub use class::Class;
pub use investigation::{Ending, Finding, Investigation, RelevantLine};
pub use rules::{Rules, RulesError};
pub use signature::{pattern, signature};
