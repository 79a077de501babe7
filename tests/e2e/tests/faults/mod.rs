//! What the servers do to us: they block, refuse, and go away.

mod alarm;
mod elasticsearch;
mod privileges;

pub(crate) use alarm::a_broker_alarm_means_503_and_no_doubles;
pub(crate) use elasticsearch::{
    elasticsearch_out_of_reach_for_a_while_loses_nothing,
    lines_that_elasticsearch_does_not_take_are_recorded,
    the_same_job_again_after_midnight_adds_nothing,
};
pub(crate) use privileges::a_missing_privilege_loses_nothing;
