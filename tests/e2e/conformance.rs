//! The broker contract: the same cases on RabbitMQ and on the embedded broker.

mod cases;
mod settlement;

use crate::bench::Bench;

macro_rules! on_both_brokers {
    ($($module:ident::$case:ident,)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$module::$case(super::Bench::embedded()).await;
            })*
        }

        mod amqp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$module::$case(super::Bench::amqp()).await;
            })*
        }
    };
}

on_both_brokers! {
    cases::properties_headers_and_body_survive,
    cases::exchanges_route_as_amqp_says,
    cases::blame_is_exact_under_load,
    cases::a_missing_exchange_is_refused_and_harms_no_other,
    cases::prefetch_holds_and_unanswered_deliveries_come_back,
    cases::consumers_share_without_loss,
    cases::a_queue_with_a_ttl_passes_messages_on,
    settlement::delayed_messages_come_in_time_and_survive_a_reopened_broker,
    settlement::urgent_messages_go_first,
    settlement::settled_events_are_known_for_a_while,
    settlement::a_commit_is_whole_or_nothing,
    settlement::a_commit_of_what_was_given_back_does_nothing,
    cases::a_full_queue_refuses_or_gives_up_its_oldest,
    cases::the_delivery_limit_dead_letters,
    cases::bounds_of_the_wire_are_refused,
    cases::in_flight_work_settles_after_cancel,
    cases::messages_survive_a_reopened_broker,
}
