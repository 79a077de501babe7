//! The GitLab side, from the files that users take: what tells the listener of jobs, and what sets it up.

mod script;
mod template;

pub(crate) use template::{
    a_listener_that_hangs_costs_five_seconds_and_no_token_is_listed,
    a_pipeline_says_in_one_line_why_nobody_was_told, jobs_are_told_of_by_busybox,
    jobs_of_any_name_are_told_of_by_curl,
};
