//! What the servers do to us: they block, refuse, and go away.

mod blocks;
mod elasticsearch;
mod privileges;
mod strained;

pub(crate) use blocks::{
    an_index_that_is_blocked_for_a_while_loses_nothing, an_index_that_is_blocked_holds_up_no_other,
};
pub(crate) use elasticsearch::lines_that_elasticsearch_does_not_take_are_recorded;
pub(crate) use privileges::missing_privileges_and_a_changed_password_lose_nothing;
pub(crate) use strained::{
    a_cluster_that_needs_its_operator_is_waited_for, a_cluster_that_takes_little_at_a_time_gets_all,
};
