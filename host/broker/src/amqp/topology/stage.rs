//! The parts of the topology in stages. The parts of one stage do not depend on each other, so several channels declare
//! them at the same time. A refusal closes only the channel of its part.
//!
//! A new quorum queue takes the broker tens of milliseconds, and the broker makes the queues of one channel one after
//! another.

use futures_util::future::join_all;
use lapin::ErrorKind;
use parking_lot::Mutex;

use super::declarer::Declarer;
use super::part::TopologyPart;
use crate::amqp::channel::closes_only_its_channel;
use trunkline_config::{QueueOwnership, Topology, TopologyMode};

/// Most channels that declare at the same time.
const CHANNELS_MAX: usize = 32;
/// The same, on a broker that makes queues no faster with more channels.
const CHANNELS_MAX_EARLIER: usize = 8;
/// Parts for which one channel is enough. Each further channel costs two round trips.
const PARTS_PER_CHANNEL: usize = 4;

/// The answer of the broker to one part: the refusal as a sentence, if there is one.
#[derive(Debug)]
struct PartAnswer {
    /// The place of the part in its stage.
    number: usize,
    refusal: Option<String>,
}

/// The parts of a topology that the daemon declares or checks. A later stage needs the parts of the earlier stages.
pub(super) fn stages(topology: &Topology) -> [Vec<TopologyPart<'_>>; 3] {
    let exchanges = topology.exchanges.iter().map(|(name, settings)| TopologyPart::Exchange(name, settings));
    let declared = topology.queues.iter().filter(|(_, settings)| settings.ownership != QueueOwnership::Others);
    let queues = declared.map(|(name, settings)| TopologyPart::Queue(name, settings));
    let bindings = match topology.mode {
        TopologyMode::Declare => topology.bindings.iter().map(TopologyPart::Binding).collect(),
        TopologyMode::Check => Vec::new(),
    };
    [exchanges.collect(), queues.collect(), bindings]
}

/// Declares or checks the parts of one stage. Returns each refusal as a sentence, in the order of the parts.
///
/// # Errors
/// When the connection is lost. On a separate connection, the parts without an answer are then declared one after another, and a
/// part after which the broker ends the connection counts as refused.
pub(super) async fn declare_stage(
    declarer: &mut Declarer<'_>,
    topology: &Topology,
    parts: &[TopologyPart<'_>],
) -> Result<Vec<String>, lapin::Error> {
    let is_faster = declarer.features().declares_on_many_channels;
    let channels_max = if is_faster { CHANNELS_MAX } else { CHANNELS_MAX_EARLIER };
    let channels = parts.len().div_ceil(PARTS_PER_CHANNEL).min(channels_max);
    let (mut answers, ended) =
        if channels > 1 { declare_beside(declarer, topology, parts, channels).await } else { (Vec::new(), Ok(())) };
    if let Err(error) = ended {
        if !declarer.is_separate() {
            return Err(error);
        }
        declarer.renew().await?;
    }
    let mut is_answered = vec![false; parts.len()];
    answers.iter().for_each(|answer| is_answered[answer.number] = true);
    for (number, part) in parts.iter().enumerate().filter(|(number, _)| !is_answered[*number]) {
        let refusal = declare_one(declarer, topology, part).await?;
        answers.push(PartAnswer { number, refusal });
    }
    answers.sort_by_key(|answer| answer.number);
    Ok(answers.into_iter().filter_map(|answer| answer.refusal).collect())
}

/// Declares parts on several channels of the declarer's connection. Returns the answers, and the loss of the connection.
async fn declare_beside(
    declarer: &Declarer<'_>,
    topology: &Topology,
    parts: &[TopologyPart<'_>],
    channels: usize,
) -> (Vec<PartAnswer>, Result<(), lapin::Error>) {
    let left = Mutex::new(parts.iter().enumerate());
    let working = (0..channels).map(|_| async {
        let mut answers = Vec::new();
        let ended = declare_some(declarer, topology, &left, &mut answers).await;
        (answers, ended)
    });
    let (answers, ended): (Vec<_>, Vec<_>) = join_all(working).await.into_iter().unzip();
    (answers.into_iter().flatten().collect(), ended.into_iter().collect())
}

/// Declares parts on one further channel while some are left. A broker that allows no further channel leaves the parts to the
/// other channels.
async fn declare_some<'t>(
    declarer: &Declarer<'_>,
    topology: &Topology,
    left: &Mutex<impl Iterator<Item = (usize, &'t TopologyPart<'t>)>>,
    answers: &mut Vec<PartAnswer>,
) -> Result<(), lapin::Error> {
    let mut beside = match declarer.beside().await {
        Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => return Ok(()),
        opened => opened?,
    };
    let next = || left.lock().next();
    while let Some((number, part)) = next() {
        let refusal = declare_one(&mut beside, topology, part).await?;
        answers.push(PartAnswer { number, refusal });
    }
    beside.close().await;
    Ok(())
}

/// Declares or checks one part. Returns the refusal, if there is one.
///
/// # Errors
/// When the connection is lost.
async fn declare_one(
    declarer: &mut Declarer<'_>,
    topology: &Topology,
    part: &TopologyPart<'_>,
) -> Result<Option<String>, lapin::Error> {
    let Err(error) = part.declare(declarer, topology.mode).await else { return Ok(None) };
    let refusal = if closes_only_its_channel(&error) {
        part.refusal(declarer, topology, &error)
    } else if declarer.is_separate() {
        format!("{part}: the broker ended the connection: {error}")
    } else {
        return Err(error);
    };
    declarer.renew().await?;
    Ok(Some(refusal))
}
