//! What the tests of the whole way and the demo need: the simulated GitLab, the sample traces, a reader of
//! Elasticsearch, and waiting for conditions.

pub mod demo;
pub mod elasticsearch;
pub mod eventually;
pub mod gitlab;
pub mod kibana;
pub mod samples;
