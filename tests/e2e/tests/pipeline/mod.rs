//! The GitLab side, from the files that users take: what tells the listener of jobs, and what sets it up.

mod script;
mod snippets;
mod template;
mod webhook;

pub(crate) use snippets::documented_lines_for_other_credentials_are_taken;
pub(crate) use template::{
    a_listener_that_hangs_costs_five_seconds_and_no_token_is_listed,
    a_pipeline_says_in_one_line_why_nobody_was_told, jobs_are_told_of_by_busybox,
    jobs_of_any_name_are_told_of_by_curl,
};
pub(crate) use webhook::{
    a_groups_webhook_brings_the_logs_of_its_projects,
    a_webhook_that_cannot_be_set_up_is_one_sentence,
    a_webhook_that_is_set_up_twice_is_one_and_brings_logs,
    no_secret_is_listed_while_a_webhook_is_set_up,
};
