//! The broker contract: the same cases on RabbitMQ and on the embedded broker.

mod cases;

use crate::bench::Bench;

macro_rules! on_both_brokers {
    ($($case:ident,)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::cases::$case(super::Bench::embedded()).await;
            })*
        }

        mod amqp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::cases::$case(super::Bench::amqp()).await;
            })*
        }
    };
}

on_both_brokers! {
    properties_headers_and_body_survive,
    exchanges_route_as_amqp_says,
    blame_is_exact_under_load,
    a_missing_exchange_is_refused_and_harms_no_other,
    prefetch_holds_and_unanswered_deliveries_come_back,
    consumers_share_without_loss,
    a_queue_with_a_ttl_passes_messages_on,
    delayed_messages_come_in_time_and_survive_a_reopened_broker,
    urgent_messages_go_first,
    settled_events_are_known_for_a_while,
    a_commit_is_whole_or_nothing,
    a_commit_of_what_was_given_back_does_nothing,
    a_full_queue_refuses_or_gives_up_its_oldest,
    the_delivery_limit_dead_letters,
    bounds_of_the_wire_are_refused,
    in_flight_work_settles_after_cancel,
    messages_survive_a_reopened_broker,
}
