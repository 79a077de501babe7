//! What the tests of the whole way need: the simulated GitLab and the sample traces.

pub mod gitlab;
pub mod samples;
