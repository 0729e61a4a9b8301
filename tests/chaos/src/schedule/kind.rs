//! The kinds of faults, what they stand for in FAULTS.md, and where they fit.

use serde::Serialize;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Every connection of the daemon to the broker is reset.
    Cut,
    /// Reset, and new ones are refused for a while.
    Refuse,
    /// Nothing is forwarded, in both directions, and nobody is told.
    Hole,
    /// Nothing from the broker arrives.
    HoleFromBroker,
    /// Nothing from the daemon arrives.
    HoleToBroker,
    /// Everything arrives late.
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
    /// SIGKILL of the daemon in its n-th write to the store: what was to be written is not even in the page cache.
    WriteKill,
}

/// Where the daemon keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerKind {
    /// In itself.
    Embedded,
    /// On a private RabbitMQ node, reached through the fault proxy.
    Amqp,
}

impl Kind {
    /// The rows of FAULTS.md section 2 that it stands for.
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
        }
    }

    /// Whether work may be repeated after it.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        !matches!(self, Self::DaemonTerm)
    }

    /// Whether the daemon cannot but start again or make another session.
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
        )
    }

    /// Whether bytes stand still while it lasts.
    #[must_use]
    pub const fn is_hole(self) -> bool {
        matches!(self, Self::Hole | Self::HoleFromBroker | Self::HoleToBroker)
    }

    /// The kinds that fit a broker; those with strace only where there is one.
    #[must_use]
    pub fn of(broker: BrokerKind, has_strace: bool) -> Vec<Self> {
        use Kind::{
            BrokerKill, BrokerStop, CloseConnections, Cut, DaemonKill, DaemonPause, DaemonTerm, DeleteTarget, Hole,
            HoleFromBroker, HoleToBroker, Latency, MemoryAlarm, Refuse, Slice, SyncError, SyncKill, Throttle,
            WriteError, WriteKill,
        };
        match broker {
            BrokerKind::Amqp => vec![
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
                CloseConnections,
                MemoryAlarm,
                DeleteTarget,
                DaemonKill,
                DaemonTerm,
                DaemonPause,
            ],
            BrokerKind::Embedded if has_strace => {
                vec![DaemonKill, DaemonTerm, DaemonPause, SyncError, SyncKill, WriteError, WriteKill]
            }
            BrokerKind::Embedded => vec![DaemonKill, DaemonTerm, DaemonPause],
        }
    }

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
