//! The consumer's pieces: the GitLab client, a job's facts, line documents, bulk bodies, and what
//! becomes of Elasticsearch's answers. What joins them into a program is not written yet.

pub mod bulk;
pub mod document;
pub mod flags;
pub mod gitlab;
pub mod job;
pub mod outcome;
