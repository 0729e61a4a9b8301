//! F20, B17: after a refused login the daemon tries again, but seldom enough that the broker does not lock the account.

use std::time::Duration;

use trunkline_support::eventually;
use trunkline_support::rabbitmq::RabbitmqNode;

use super::relay::Relay;
use super::{condition, told};
use crate::bench::{Bench, ECHO, becomes_ready};

/// The shortest time between two logins. It is a little less than 10 s, because the relay sees logins with some jitter.
const APART: Duration = Duration::from_millis(9_900);

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_virtual_host_is_tried_once_in_ten_seconds() {
    // Side by side, because each waits for its second login.
    tokio::join!(
        is_refused("guest:wrong", "%2f", "ACCESS_REFUSED"),
        is_refused("stranger:guest", "%2f", "ACCESS_REFUSED"),
        is_refused("guest:guest", "no-such-vhost", "NOT_ALLOWED"),
    );
}

async fn is_refused(user: &str, vhost: &str, reason: &str) {
    let relay = Relay::start(&trunkline_support::rabbitmq::url()).await;
    let bench = Bench::on(relay.url(user, vhost));
    let daemon = bench.start(ECHO).await;
    let error = told(&daemon, reason).await;
    let (name, _) = user.split_once(':').expect("a user");
    let vhost = if vhost == "%2f" { "/" } else { vhost };
    assert!(error.contains(&format!("the user `{name}` on the virtual host `{vhost}`")), "{error}");
    assert!(!error.contains("wrong"), "no password is shown: {error}");
    assert_eq!(condition(&daemon, "broker-away").as_deref(), Some(error.as_str()));
    let accepted = eventually("a second login", || {
        let accepted = relay.accepted();
        async move { (accepted.len() >= 2).then_some(accepted) }
    })
    .await;
    let apart = accepted[1] - accepted[0];
    assert!(apart >= APART, "{user} on {vhost}: two logins within {apart:?}");
    assert!(daemon.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changes_meanwhile_costs_few_logins_and_no_restart() {
    let node = RabbitmqNode::start().expect("a private node");
    node.ctl(&["add_user", "worker", "old"]).expect("a user");
    node.ctl(&["set_permissions", "worker", ".*", ".*", ".*"]).expect("permissions");
    let relay = Relay::start(&node.url()).await;
    let bench = Bench::on(relay.url("worker:old", "%2f"));
    let daemon = bench.start(ECHO).await;
    becomes_ready(&daemon, true).await;
    relays(&node).await;
    assert_eq!(relay.accepted().len(), 3, "to consume, to publish, and for a moment to make the delay queues");
    node.ctl(&["change_password", "worker", "new"]).expect("changed");
    node.ctl(&["close_all_connections", "test"]).expect("closed");
    told(&daemon, "the user `worker` on the virtual host `/`: ACCESS_REFUSED").await;
    node.ctl(&["change_password", "worker", "old"]).expect("changed");
    becomes_ready(&daemon, true).await;
    let logins: Vec<_> = relay.accepted()[3..].to_vec();
    assert_eq!(logins.len(), 3, "one that is refused, and two of a session");
    assert!(logins[1] - logins[0] >= APART, "two logins within {:?}", logins[1] - logins[0]);
    assert_eq!(condition(&daemon, "broker-away"), None);
    assert!(daemon.terminate().await.success());
}

/// The broker keeps the connections of a user whose password has changed. A further connection of the session is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_password_has_changed_is_kept_and_logs_in_seldom() {
    let node = RabbitmqNode::start().expect("a private node");
    node.ctl(&["add_user", "worker", "old"]).expect("a user");
    node.ctl(&["set_permissions", "worker", ".*", ".*", ".*"]).expect("permissions");
    let relay = Relay::start(&node.url()).await;
    let bench = Bench::on(relay.url("worker:old", "%2f"));
    let daemon = bench.start(ECHO).await;
    becomes_ready(&daemon, true).await;
    relays(&node).await;
    let before = relay.accepted().len();
    node.ctl(&["change_password", "worker", "new"]).expect("changed");
    // The daemon makes the queue again on a separate connection.
    node.ctl(&["delete_queue", "trunkline.delay.due"]).expect("deleted");
    let logins = eventually("a second login", || {
        let logins = relay.accepted()[before..].to_vec();
        async move { (logins.len() >= 2).then_some(logins) }
    })
    .await;
    let apart = logins[1] - logins[0];
    assert!(apart >= APART, "two logins within {apart:?}");
    node.ctl(&["change_password", "worker", "old"]).expect("changed");
    relays(&node).await;
    assert_eq!(daemon.metric("trunkline_broker_reconnects_total"), 0.0, "the session goes on");
    assert!(daemon.terminate().await.success());
}

/// Waits until a daemon consumes the delayed messages that are due. All delay queues then exist.
async fn relays(node: &RabbitmqNode) {
    eventually("the relay", || {
        let queues = node.ctl(&["list_queues", "name", "consumers"]).expect("a list");
        let is_there = queues.lines().any(|line| line.split_whitespace().eq(["trunkline.delay.due", "1"]));
        async move { is_there.then_some(()) }
    })
    .await;
}
