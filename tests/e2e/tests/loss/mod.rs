//! ACCEPTANCE.md, A: nothing is lost and nothing is there twice, whatever dies.

mod alarm;
mod broker;
mod busy;
mod callers;
mod fifty;
mod kills;
mod listener;
mod manifests;
mod outage;
mod repeats;
mod soak;
mod steps;

pub(crate) use alarm::a07_a_broker_alarm_means_503_and_no_doubles;
pub(crate) use broker::{
    a05_a_broker_restarted_and_down_means_503_and_recovery,
    a06_a_broker_that_stands_still_keeps_nobody_waiting,
};
pub(crate) use busy::a09_refused_lines_come_again_alone_and_spoiled_ones_are_recorded;
pub(crate) use fifty::a01_fifty_jobs_of_two_thousand_lines_are_exact;
pub(crate) use kills::a02_killed_at_random_instants_nothing_is_lost_or_doubled;
pub(crate) use listener::a04_a_listener_killed_under_500_notices_loses_none_that_it_took;
pub(crate) use manifests::a10_who_saw_less_of_a_log_never_has_the_last_word;
pub(crate) use outage::{
    a08_elasticsearch_cut_off_twice_loses_nothing, a08_elasticsearch_down_keeps_all_in_the_broker,
    a08_elasticsearch_frozen_keeps_all_in_the_broker,
};
pub(crate) use repeats::{
    a10_ten_notices_on_three_consumers_leave_one_copy,
    a11_the_same_job_again_after_midnight_adds_nothing,
};
pub(crate) use soak::a12_soak_whatever_fails_nothing_is_lost_or_doubled;
pub(crate) use steps::a03_killed_between_two_steps_nothing_is_lost_or_doubled;
