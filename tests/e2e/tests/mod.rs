//! The tests, by what they promise about.

mod demo;
mod doors;
mod failures;
mod faults;
mod flood;
mod forge;
mod front;
mod happy;
mod harness;
mod hosts;
mod inputs;
mod intake;
mod judge;
mod kibana;
mod links;
mod loss;
mod operation;
mod pipeline;
mod retention;
mod rights;
mod secrets;
mod setup;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::engine::Need;
use crate::world::World;

/// A test, on a world of its own.
pub(crate) struct Test {
    /// `MODULE::PROMISE`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What both engines don't have.
    pub(crate) needs: &'static [Need],
    pub(crate) play: for<'a> fn(&'a World) -> Play<'a>,
}

/// What a test does.
type Play<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Which servers a test runs on.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Shared,
    /// A RabbitMQ of its own, as what it does to it would hit all others.
    Own,
    /// An Elasticsearch of its own, which takes little at a time (`STRAINED`).
    OwnElasticsearch,
}

macro_rules! tests {
    ($($kind:ident { $($module:ident::$test:ident $(needs $need:ident)?,)* })*) => {
        /// All of them, the long ones first, so that they don't run alone at the end.
        pub(crate) const ALL: &[Test] = &[$($(Test {
            name: concat!(stringify!($module), "::", stringify!($test)),
            kind: Kind::$kind,
            needs: &[$(Need::$need)?],
            play: |world| Box::pin($module::$test(world)),
        },)*)*];
    };
}

tests! {
    Own {
        loss::a12_soak_whatever_fails_nothing_is_lost_or_doubled,
        loss::a05_a_broker_restarted_and_down_means_503_and_recovery,
        loss::a06_a_broker_that_stands_still_keeps_nobody_waiting,
        loss::a07_a_broker_alarm_means_503_and_no_doubles,
    }
    OwnElasticsearch {
        loss::a08_elasticsearch_frozen_keeps_all_in_the_broker,
        faults::a_cluster_that_takes_little_at_a_time_gets_all,
        faults::a_cluster_that_needs_its_operator_is_waited_for,
    }
    Shared {
        faults::an_index_that_is_blocked_for_a_while_loses_nothing,
        faults::an_index_that_is_blocked_holds_up_no_other,
        faults::missing_privileges_and_a_changed_password_lose_nothing needs Security,
        loss::a02_killed_at_random_instants_nothing_is_lost_or_doubled,
        loss::a03_killed_between_two_steps_nothing_is_lost_or_doubled,
        loss::a04_a_listener_killed_under_500_notices_loses_none_that_it_took,
        loss::a08_elasticsearch_down_keeps_all_in_the_broker,
        loss::a08_elasticsearch_cut_off_twice_loses_nothing,
        loss::a10_who_saw_less_of_a_log_never_has_the_last_word,
        operation::e29_before_the_set_up_nothing_is_indexed,
        operation::e29_started_in_any_order_before_the_servers_all_is_healthy_by_itself,
        loss::a01_fifty_jobs_of_two_thousand_lines_are_exact,
        loss::a09_refused_lines_come_again_alone_and_spoiled_ones_are_recorded,
        inputs::c19_memory_stays_flat_whatever_the_size_and_whatever_waits,
        inputs::c19_more_huge_traces_than_places_hold_up_nobody,
        inputs::c19_a_huge_trace_is_exact_and_holds_up_nobody,
        inputs::c19_a_line_of_fifty_megabytes_is_marked_where_it_is_cut,
        inputs::c20_a_panic_is_one_messages_end_alone,
        forge::b14_a_tail_that_arrives_late_is_indexed,
        forge::b14_a_line_that_was_cut_at_the_last_look_is_whole_after_another_notice,
        forge::b15_no_request_of_any_job_comes_before_retry_after,
        forge::b15_little_that_a_rate_limit_leaves_is_spread,
        forge::b15_traces_that_break_off_are_exact_in_the_end,
        forge::b15_an_instance_that_is_down_costs_few_attempts,
        forge::b15_an_instance_that_works_again_is_ready_without_any_work,
        forge::b15_a_burst_of_5xx_costs_few_calls,
        forge::b13_a_notice_while_the_job_runs_waits_for_its_end,
        operation::e30_sigterm_under_load_loses_nothing,
        operation::e30_a_second_signal_ends_at_once_without_loss,
        demo::the_demo_shows_every_job_complete_and_what_people_ask,
        kibana::every_saved_search_and_panel_finds_what_the_demo_did,
        kibana::a_failed_job_without_a_class_is_in_the_charts,
        kibana::the_readmes_questions_are_answered_without_kibana,
        harness::a_proxy_does_to_connections_what_it_is_told,
        harness::a_proxy_holds_a_connection_in_its_moment,
        harness::what_opensearch_leaves_out_is_in_its_document,
        judge::the_oracle_sees_lines_that_are_changed_missing_or_too_many,
        failures::a_failed_job_says_why_and_where,
        failures::a_failure_is_new_once_in_a_project,
        failures::a_job_that_never_ran_says_why_in_gitlabs_words,
        happy::every_sample_is_exact,
        happy::several_jobs_at_once_are_exact,
        forge::b16_a_page_in_place_of_an_answer_is_never_indexed_and_ends_nothing,
        forge::b16_a_redirect_opens_no_connection_elsewhere,
        secrets::d25_a_callers_token_is_nowhere_in_clear,
        secrets::d25_secrets_of_all_ways_in_are_nowhere_in_clear,
        intake::a_broker_that_is_down_means_503_and_recovery,
        doors::events_and_shared_secrets_bring_logs_by_the_operators_token,
        flood::d26_slow_and_many_callers_leave_honest_notices_prompt,
        front::d26_connections_heads_and_their_time_are_bounded,
        front::the_listener_speaks_tls_and_takes_a_new_certificate_while_it_runs,
        flood::many_callers_of_a_broker_that_stands_still_are_all_answered_in_time,
        flood::waits_that_follow_one_another_end_in_time,
        flood::strangers_hold_up_no_large_event,
        hosts::d23_nobody_chooses_a_host,
        hosts::d24_a_redirect_of_gitlabs_keys_is_not_followed,
        rights::d27_each_service_has_only_the_rights_that_it_needs,
        rights::d27_elasticsearchs_users_may_do_what_they_need_and_nothing_else needs Security,
        setup::twice_is_the_same,
        setup::every_field_is_found_by_its_own_name_and_by_its_alias,
        setup::an_older_installation_is_upgraded_in_place,
        setup::a_newer_version_is_refused_and_nothing_changes,
        setup::an_operators_own_template_is_kept_and_wins,
        setup::an_alias_whose_name_an_index_has_is_left_out,
        setup::a_read_only_user_gets_one_sentence_with_the_privilege needs Security,
        setup::a_dry_run_shows_all_and_changes_nothing,
        retention::exactly_the_old_indices_that_are_ours_go,
        retention::names_with_the_date_behind_are_read_too,
        retention::it_outlives_an_elasticsearch_that_is_away_and_ends_on_sigterm,
        rights::d27_our_containers_are_nobody_and_write_nothing,
        rights::d27_each_service_finds_the_secrets_that_it_names,
        links::d28_a_wrong_certificate_is_named_with_its_link_and_a_right_one_is_green,
        links::several_gitlabs_have_tokens_secrets_and_authorities_of_their_own,
        doors::d22_only_right_secrets_publish_and_two_are_right_while_rotating,
        doors::d22_an_id_token_opens_the_door_for_its_own_job_alone,
        pipeline::jobs_of_any_name_are_told_of_by_curl,
        pipeline::jobs_are_told_of_by_busybox,
        pipeline::a_listener_that_hangs_costs_five_seconds_and_no_token_is_listed,
        pipeline::a_pipeline_says_in_one_line_why_nobody_was_told,
        pipeline::a_webhook_that_is_set_up_twice_is_one_and_brings_logs,
        pipeline::a_groups_webhook_brings_the_logs_of_its_projects,
        pipeline::a_webhook_that_cannot_be_set_up_is_one_sentence,
        pipeline::documented_lines_for_other_credentials_are_taken,
        pipeline::no_secret_is_listed_while_a_webhook_is_set_up,
        doors::c21_irrelevant_events_get_2xx_and_malformed_ones_echo_nothing,
        loss::a10_ten_notices_on_three_consumers_leave_one_copy,
        loss::a11_the_same_job_again_after_midnight_adds_nothing,
        faults::lines_that_elasticsearch_does_not_take_are_recorded,
        forge::b16_a_refused_token_is_a_dead_letter_and_hinders_nobody,
        forge::b16_a_job_that_is_gone_has_a_manifest_that_says_so,
        forge::b16_erased_skipped_and_empty_logs_have_manifests_that_say_so,
        operation::a_cluster_without_native_users_is_set_up_all_the_same,
        operation::e33_the_older_tools_message_is_processed,
        operation::e33_a_foreign_url_is_a_dead_letter_without_its_token,
        operation::e33_the_older_tools_curl_line_works_as_documented,
        inputs::c20_a_message_that_nobody_can_read_is_a_dead_letter_at_once,
        intake::a_notice_that_no_queue_takes_is_not_accepted,
        intake::malformed_notices_get_fixed_sentences_that_echo_nothing,
        operation::e31_initmq_while_traffic_flows_changes_nothing,
        operation::e31_initmq_twice_changes_nothing,
        operation::e31_initmq_refuses_queues_of_other_arguments_and_deletes_nothing,
    }
}
