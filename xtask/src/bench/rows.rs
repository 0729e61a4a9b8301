//! The rows of the benchmark.

mod embedded;
mod growth;
pub(super) mod instructions;
mod invoke;
mod latency;
mod loading;
mod memory;
mod rabbitmq;
mod topology;

use anyhow::{Result, bail};

use super::context::BenchContext;
use super::figures::Figure;
use super::svg::Plot;

/// The result of a row.
pub(crate) struct RowResult {
    pub(crate) figures: Vec<Figure>,
    /// The plots, each with the name of its file.
    pub(crate) plots: Vec<(&'static str, Plot)>,
}

/// A row of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// The daemon on RabbitMQ against lapin, amqplib, aio-pika and FastStream.
    Rabbitmq,
    /// The daemon against lapin, beside busy processes.
    Busy,
    /// The latency of the daemon against lapin at fixed rates.
    Latency,
    /// Batches through a plugin on the embedded broker.
    Embedded,
    /// Single posts on the embedded broker.
    Posts,
    /// A fresh instance and a call of a plugin.
    Invoke,
    /// The queues that a route adds on RabbitMQ.
    Queues,
    /// The time until many routes are up.
    Routes,
    /// The memory of a daemon with 20 plugins.
    Memory,
    /// The loading of plugins.
    Load,
    /// How the cost grows, as plots.
    Growth,
    /// The instructions for a message.
    Instructions,
}

impl Row {
    pub(crate) const ALL: [Self; 12] = [
        Self::Rabbitmq,
        Self::Busy,
        Self::Latency,
        Self::Embedded,
        Self::Posts,
        Self::Invoke,
        Self::Queues,
        Self::Routes,
        Self::Memory,
        Self::Load,
        Self::Growth,
        Self::Instructions,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Busy => "busy",
            Self::Latency => "latency",
            Self::Embedded => "embedded",
            Self::Posts => "posts",
            Self::Invoke => "invoke",
            Self::Queues => "queues",
            Self::Routes => "routes",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Growth => "growth",
            Self::Instructions => "instructions",
        }
    }

    /// The row with a name.
    pub(crate) fn of(name: &str) -> Result<Self> {
        let Some(row) = Self::ALL.into_iter().find(|row| row.name() == name) else {
            let known = Self::ALL.map(Self::name).join(", ");
            bail!("`{name}` is not one of the rows: {known}");
        };
        Ok(row)
    }

    pub(crate) fn run(self, context: &BenchContext) -> Result<RowResult> {
        let figures = match self {
            Self::Rabbitmq => rabbitmq::alone(context),
            Self::Busy => rabbitmq::busy(context),
            Self::Latency => latency::run(context),
            Self::Embedded => embedded::batches(context),
            Self::Posts => embedded::posts(context),
            Self::Invoke => invoke::run(),
            Self::Queues => topology::queues(context),
            Self::Routes => topology::many(context),
            Self::Memory => memory::run(context),
            Self::Load => loading::run(context),
            Self::Growth => return growth::run(context),
            Self::Instructions => instructions::run(),
        };
        Ok(RowResult { figures: figures?, plots: Vec::new() })
    }
}
