//! The behaviour of RabbitMQ that differs by version. The version is the one of `server-properties`, with which a connection
//! begins. No other file compares versions.

use crate::BrokerServer;

/// The behaviour of a broker, by its product and its version. Another product than RabbitMQ counts as RabbitMQ before 4.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BrokerFeatures {
    /// The number of returns after which a quorum queue without a delivery limit removes a message.
    pub(crate) default_delivery_limit: Option<u32>,
    /// Whether a publish that meets a queue during its removal gets a nack. Earlier versions confirm the message, or end the
    /// connection.
    pub(crate) nacks_removed_queues: bool,
    /// Whether a quorum queue answers a consumer timeout with the cancel of the consumer, and takes its deliveries back. Earlier
    /// versions close the channel, which takes all of its deliveries back.
    pub(crate) timeout_cancels_consumer: bool,
    /// Whether many channels make queues faster than a few. The metadata store of earlier versions makes them wait for each
    /// other.
    pub(crate) declares_on_many_channels: bool,
}

impl BrokerFeatures {
    /// The behaviour of a broker that has named itself, or of an unknown one.
    ///
    /// RabbitMQ 3.10.8, 4.0.5 and 4.3.6 were tried. The first version that nacks such a publish is not known, so the first
    /// version after 4.0 counts: a version without the nack is not affected.
    pub(crate) fn of(server: Option<&BrokerServer>) -> Self {
        Self {
            default_delivery_limit: is_rabbitmq(server, 4, 0).then_some(20),
            nacks_removed_queues: is_rabbitmq(server, 4, 1),
            timeout_cancels_consumer: is_rabbitmq(server, 4, 3),
            declares_on_many_channels: is_rabbitmq(server, 4, 3),
        }
    }
}

/// Whether a broker is RabbitMQ in this version or a later one.
fn is_rabbitmq(server: Option<&BrokerServer>, major: u32, minor: u32) -> bool {
    let is_it = |server: &BrokerServer| {
        server.product.eq_ignore_ascii_case("rabbitmq") && server.version.number() >= (major, minor, 0)
    };
    server.is_some_and(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerVersion;

    fn features(product: &str, version: &str) -> BrokerFeatures {
        let server = BrokerServer { product: product.to_owned(), version: ServerVersion::new(version) };
        BrokerFeatures::of(Some(&server))
    }

    #[test]
    fn behaviour_follows_the_version() {
        for (version, limit, nacks, cancels) in [
            ("3.9.29", None, false, false),
            ("3.10.8", None, false, false),
            ("3.13.7", None, false, false),
            ("4.0.5", Some(20), false, false),
            ("4.0.9-rc.1", Some(20), false, false),
            ("4.1.0", Some(20), true, false),
            ("4.2.9", Some(20), true, false),
            ("4.3.0", Some(20), true, true),
            ("4.3.6", Some(20), true, true),
            ("4.4.0-alpha.3", Some(20), true, true),
            ("10.0.0", Some(20), true, true),
        ] {
            let expected = BrokerFeatures {
                default_delivery_limit: limit,
                nacks_removed_queues: nacks,
                timeout_cancels_consumer: cancels,
                declares_on_many_channels: cancels,
            };
            assert_eq!(features("RabbitMQ", version), expected, "{version}");
        }
    }

    #[test]
    fn an_unknown_broker_has_the_oldest_behaviour() {
        assert_eq!(BrokerFeatures::of(None), BrokerFeatures::default());
        for (product, version) in [("LavinMQ", "4.3.6"), ("RabbitMQ", ""), ("RabbitMQ", "unknown"), ("", "4.3.6")] {
            assert_eq!(features(product, version), BrokerFeatures::default(), "{product} {version}");
        }
        assert_eq!(
            features("rabbitmq", "4.0.5").default_delivery_limit,
            Some(20),
            "the case of the name does not matter"
        );
    }
}
