//! The tables of the store.

use redb::TableDefinition;

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const QUEUES: TableDefinition<'_, &str, u32> = TableDefinition::new("queues");
pub(crate) const MESSAGES: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("messages");
/// Delayed messages by the time at which they are due and a number that keeps their order.
pub(crate) const DELAYED: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("delayed");
/// Queues of streams by name. The table's name is part of the format.
pub(crate) const STREAMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("taps");
/// Number of the tables above and the two tables of the dedupe records.
pub(crate) const TABLES: usize = 7;
pub(crate) const FORMAT: u64 = 1;
/// Size of redb's page cache; the rest of a backlog stays on disk.
pub(crate) const CACHE_BYTES: usize = 32 << 20;
/// Keys of the anchor of the store's clock: the time of the store, and the readings of the system's clocks at that time.
pub(crate) const CLOCK: [&str; 4] = ["clock-store-ms", "clock-wall-ms", "clock-boot-ms", "clock-boot"];
