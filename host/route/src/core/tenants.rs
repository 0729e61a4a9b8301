//! The rate of each tenant. An event above the rate gets a turn and waits in the broker for that turn, so that many events
//! of one tenant leave the queue at the speed of publishing and do not block the other tenants.

use std::collections::HashMap;
use std::time::Duration;

use super::rate::TokenBucket;
use trunkline_broker::DELAY_MAX;
use trunkline_config::Rate;

/// Tenants with a bucket of their own. Quiet tenants are forgotten first, and further tenants share a bucket.
const TENANTS_MAX: usize = 10_000;
/// Time whose events run at once, because people send a few things together.
const BURST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Tenants {
    rate: Rate,
    buckets: HashMap<String, TokenBucket>,
}

impl Tenants {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// Time of the turn of an event of this tenant, if not now.
    pub(super) fn take(&mut self, tenant: &str, now: Duration) -> Option<Duration> {
        let is_known = self.buckets.contains_key(tenant);
        if !is_known && self.buckets.len() >= TENANTS_MAX {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let name = if is_known || self.buckets.len() < TENANTS_MAX { tenant } else { "" };
        if !self.buckets.contains_key(name) {
            self.buckets.insert(name.to_owned(), TokenBucket::with_burst(self.rate, BURST));
        }
        let turn = self.buckets.get_mut(name)?.reserve(now);
        (turn > now).then(|| turn.min(now + DELAY_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_turns_and_the_others_run_at_once() {
        let mut tenants = Tenants::new(Rate { events: 10, per: Duration::from_secs(1) });
        let now = Duration::from_secs(50);
        let turns: Vec<_> = (0..100).map(|_| tenants.take("loud", now).map(|turn| turn - now)).collect();
        let expected = |place: u64| (place >= 10).then(|| Duration::from_millis(100 * (place - 9)));
        assert_eq!(turns, (0..100).map(expected).collect::<Vec<_>>(), "a second's worth at once, then a turn each");
        assert_eq!(tenants.take("quiet", now), None);
        assert_eq!(tenants.take("loud", now + Duration::from_secs(11)), None, "what was waited for is paid");
    }

    #[test]
    fn tenants_are_bounded() {
        let mut tenants = Tenants::new(Rate { events: 1, per: Duration::from_secs(1) });
        for tenant in 0..3 * TENANTS_MAX {
            tenants.take(&tenant.to_string(), Duration::from_secs(5));
        }
        assert!(tenants.buckets.len() <= TENANTS_MAX + 1, "and the one that is shared");
        let later = Duration::from_secs(3600 * 24 * 365);
        assert_eq!(tenants.take("new", later), None);
        assert_eq!(tenants.buckets.len(), 1, "the quiet ones are forgotten");
    }
}
