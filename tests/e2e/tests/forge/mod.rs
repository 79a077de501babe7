//! What GitLab, and what stands in front of it, does to us.

mod broken;
mod limits;
mod outage;
mod refusals;
mod timing;

pub(crate) use broken::{
    b15_a_burst_of_5xx_costs_few_calls, b15_traces_that_break_off_are_exact_in_the_end,
};
pub(crate) use limits::{
    b15_little_that_a_rate_limit_leaves_is_spread,
    b15_no_request_of_any_job_comes_before_retry_after,
};
pub(crate) use outage::{
    b15_an_instance_that_is_down_costs_few_attempts,
    b15_an_instance_that_works_again_is_ready_without_any_work,
};
pub(crate) use refusals::{
    b16_a_job_that_is_gone_has_a_manifest_that_says_so,
    b16_a_page_in_place_of_an_answer_is_never_indexed_and_ends_nothing,
    b16_a_redirect_opens_no_connection_elsewhere,
    b16_a_refused_token_is_a_dead_letter_and_hinders_nobody,
    b16_erased_skipped_and_empty_logs_have_manifests_that_say_so,
};
pub(crate) use timing::{
    b13_a_notice_while_the_job_runs_waits_for_its_end,
    b14_a_line_that_was_cut_at_the_last_look_is_whole_after_another_notice,
    b14_a_tail_that_arrives_late_is_indexed,
};
