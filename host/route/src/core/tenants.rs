//! At most so many events of each tenant in a time. What is above gets a turn of its own and waits for it in the broker,
//! so that one tenant's flood is taken out of the way of the others at the speed of publishing.

use std::collections::HashMap;
use std::time::Duration;

use super::rate::Bucket;
use trunkline_broker::DELAY_MAX;
use trunkline_config::Rate;

/// Tenants that are remembered; one that has been quiet for a while is forgotten first. What comes beyond shares a bucket.
const TENANTS_MAX: usize = 10_000;
/// What comes within it runs at once: people send a few things together.
const BURST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Tenants {
    rate: Rate,
    buckets: HashMap<String, Bucket>,
}

impl Tenants {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// When an event of that tenant has its turn, if not now.
    pub(super) fn take(&mut self, tenant: &str, now: Duration) -> Option<Duration> {
        let is_known = self.buckets.contains_key(tenant);
        if !is_known && self.buckets.len() >= TENANTS_MAX {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let name = if is_known || self.buckets.len() < TENANTS_MAX { tenant } else { "" };
        if !self.buckets.contains_key(name) {
            self.buckets.insert(name.to_owned(), Bucket::with_burst(self.rate, BURST));
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
