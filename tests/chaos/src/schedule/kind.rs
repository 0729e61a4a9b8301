//! The kinds of faults, their rows in FAULTS.md, and the brokers that they fit.

use serde::Serialize;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Every connection of the daemon to the broker is reset.
    Cut,
    /// Connections are reset, and new ones are refused for a while.
    Refuse,
    /// Nothing is forwarded in either direction, without a notice.
    Hole,
    /// Nothing is forwarded from the broker.
    HoleFromBroker,
    /// Nothing is forwarded to the broker.
    HoleToBroker,
    /// All bytes are delayed.
    Latency,
    /// Few bytes a second.
    Throttle,
    /// Every write arrives in small pieces.
    Slice,
    /// `kill -9` of the RabbitMQ node, and a restart.
    BrokerKill,
    /// SIGTERM of the RabbitMQ node, and a restart.
    BrokerStop,
    /// `rabbitmqctl close_all_connections`.
    CloseConnections,
    /// A memory alarm for a while.
    MemoryAlarm,
    /// The queue of a direct exchange is deleted for a while.
    DeleteTarget,
    /// SIGKILL of the daemon, and a restart.
    DaemonKill,
    /// SIGTERM of the daemon, and a restart.
    DaemonTerm,
    /// SIGSTOP of the daemon, and SIGCONT after a while.
    DaemonPause,
    /// The store's n-th fdatasync fails.
    SyncError,
    /// SIGKILL of the daemon in its n-th fdatasync.
    SyncKill,
    /// The store's n-th write fails.
    WriteError,
    /// SIGKILL of the daemon in its n-th write to the store, before the data is in the page cache.
    WriteKill,
    /// Messages that a strict client cannot read, or requests that are not events.
    Malformed,
    /// Messages that fail and name further keys in their headers.
    Cc,
    /// Messages, emissions and requests that are larger than a limit.
    Oversized,
    /// The daemon's user may not publish to some keys, or may do nothing at all, for a while.
    Permission,
    /// SIGSTOP of the RabbitMQ node, and SIGCONT after a while.
    BrokerFreeze,
    /// The broker takes back deliveries that are in work for longer than `consumer_timeout`.
    ConsumerTimeout,
    /// Events emit to a full queue and to a free one.
    FullBesideFree,
    /// The messages of a dead-letter queue are fetched and returned 21 times.
    DeadLetterLooks,
}

/// The broker of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerKind {
    /// The embedded broker.
    Embedded,
    /// A private RabbitMQ node behind the proxy.
    Amqp,
}

impl Kind {
    /// The rows of FAULTS.md section 2 for this kind.
    #[must_use]
    pub const fn rows(self) -> &'static [&'static str] {
        match self {
            Self::Cut | Self::CloseConnections => &["B16"],
            Self::Refuse => &["B3", "B16"],
            Self::Hole | Self::HoleToBroker => &["B4"],
            Self::HoleFromBroker => &["B4", "B19"],
            Self::Latency | Self::Throttle | Self::Slice => &["B6"],
            Self::BrokerKill => &["B1"],
            Self::BrokerStop => &["B2"],
            Self::MemoryAlarm => &["B8"],
            Self::DeleteTarget => &["B12"],
            Self::DaemonKill | Self::SyncKill | Self::WriteKill => &["H1"],
            Self::DaemonTerm => &["H2"],
            Self::DaemonPause => &["H13"],
            Self::SyncError | Self::WriteError => &["H6"],
            Self::Malformed => &["M7", "M1"],
            Self::Cc => &["M11"],
            Self::Oversized => &["M3", "M9"],
            Self::Permission => &["B17"],
            Self::BrokerFreeze => &["B7"],
            Self::ConsumerTimeout => &["B10"],
            Self::FullBesideFree => &["B13"],
            Self::DeadLetterLooks => &["B20"],
        }
    }

    /// True when work may be repeated after the fault. An orderly end and hostile messages repeat nothing.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        !matches!(self, Self::DaemonTerm | Self::Malformed | Self::Cc | Self::FullBesideFree | Self::DeadLetterLooks)
    }

    /// True when the fault only slows the daemon down, or may be too short to be noticed. Its effect is then the
    /// proxy's count.
    #[must_use]
    pub const fn may_go_unnoticed(self) -> bool {
        self.is_hole() || matches!(self, Self::Latency | Self::Throttle | Self::Slice | Self::DaemonPause)
    }

    /// True when the daemon must start again or make a new session.
    #[must_use]
    pub const fn ends_sessions(self) -> bool {
        !matches!(
            self,
            Self::Hole
                | Self::HoleFromBroker
                | Self::HoleToBroker
                | Self::Latency
                | Self::Throttle
                | Self::Slice
                | Self::MemoryAlarm
                | Self::DeleteTarget
                | Self::DaemonPause
                | Self::Malformed
                | Self::Cc
                | Self::Oversized
                | Self::Permission
                | Self::BrokerFreeze
                | Self::FullBesideFree
                | Self::DeadLetterLooks
        )
    }

    /// True when no bytes are forwarded during the fault.
    #[must_use]
    pub const fn is_hole(self) -> bool {
        matches!(self, Self::Hole | Self::HoleFromBroker | Self::HoleToBroker | Self::BrokerFreeze)
    }

    /// The kinds that fit a broker. Kinds with strace are included only when strace is installed.
    #[must_use]
    pub fn of(broker: BrokerKind, has_strace: bool) -> Vec<Self> {
        use Kind::{
            BrokerFreeze, BrokerKill, BrokerStop, Cc, CloseConnections, ConsumerTimeout, Cut, DaemonKill, DaemonPause,
            DaemonTerm, DeadLetterLooks, DeleteTarget, FullBesideFree, Hole, HoleFromBroker, HoleToBroker, Latency,
            Malformed, MemoryAlarm, Oversized, Permission, Refuse, Slice, SyncError, SyncKill, Throttle, WriteError,
            WriteKill,
        };
        let process = [DaemonKill, DaemonTerm, DaemonPause];
        let messages = [Malformed, Cc, Oversized, FullBesideFree, DeadLetterLooks];
        let own: &[Self] = match broker {
            BrokerKind::Amqp => &[
                Cut,
                Refuse,
                Hole,
                HoleFromBroker,
                HoleToBroker,
                Latency,
                Throttle,
                Slice,
                BrokerKill,
                BrokerStop,
                BrokerFreeze,
                CloseConnections,
                MemoryAlarm,
                DeleteTarget,
                Permission,
                ConsumerTimeout,
            ],
            BrokerKind::Embedded if has_strace => &[SyncError, SyncKill, WriteError, WriteKill],
            BrokerKind::Embedded => &[],
        };
        own.iter().copied().chain(process).chain(messages).collect()
    }

    /// The name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
