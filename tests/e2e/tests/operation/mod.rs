//! ACCEPTANCE.md, E: starting, setting up, moving over.

mod cold_start;
mod kibana;
mod older;
mod shutdown;
mod topology;

pub(crate) use cold_start::{
    e29_before_the_set_up_nothing_is_indexed,
    e29_started_in_any_order_before_the_servers_all_is_healthy_by_itself,
};
pub(crate) use kibana::a_cluster_without_native_users_is_set_up_all_the_same;
pub(crate) use older::{
    e33_a_foreign_url_is_a_dead_letter_without_its_token,
    e33_the_older_tools_curl_line_works_as_documented, e33_the_older_tools_message_is_processed,
};
pub(crate) use shutdown::{
    e30_a_second_signal_ends_at_once_without_loss, e30_sigterm_under_load_loses_nothing,
};
pub(crate) use topology::{
    e31_initmq_refuses_queues_of_other_arguments_and_deletes_nothing,
    e31_initmq_twice_changes_nothing, e31_initmq_while_traffic_flows_changes_nothing,
};
