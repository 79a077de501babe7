//! What the servers do to us: they block, refuse, and go away.

mod alarm;
mod elasticsearch;
mod privileges;

pub(crate) use alarm::a_broker_alarm_means_503_and_no_doubles;
pub(crate) use elasticsearch::lines_that_elasticsearch_does_not_take_are_recorded;
pub(crate) use privileges::a_missing_privilege_loses_nothing;
