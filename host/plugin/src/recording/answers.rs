//! The place from which a call gets the host's answers.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use wasmtime_wasi::{HostWallClock, WasiCtxBuilder};

use super::contents::{RandomSeeds, Recording};

/// The place from which a call gets the answers of `http` and `kv`, its times and its random numbers.
#[derive(Clone, Default)]
pub enum HostAnswers {
    /// The host answers.
    #[default]
    Live,
    /// The host answers, and the recording keeps the answers.
    LiveRecorded(Recording),
    /// The recording answers, and the call has no effect outside.
    Recorded(Recording),
}

impl HostAnswers {
    /// Sets the clock and the random numbers of a call.
    pub(crate) fn configure(&self, wasi: &mut WasiCtxBuilder) {
        let recording = match self {
            Self::Live => return,
            Self::LiveRecorded(recording) => {
                wasi.wall_clock(RecordingClock(recording.clone()));
                recording
            }
            Self::Recorded(recording) => {
                wasi.wall_clock(RecordedClock(recording.clone()));
                recording
            }
        };
        let RandomSeeds { secure, insecure, hashes } = recording.seeds();
        wasi.secure_random(StdRng::from_seed(secure))
            .insecure_random(StdRng::from_seed(insecure))
            .insecure_random_seed(hashes);
    }
}

/// The system's clock, whose readings are recorded.
struct RecordingClock(Recording);

/// The recorded readings of the clock.
struct RecordedClock(Recording);

impl HostWallClock for RecordingClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0.record_time()
    }
}

impl HostWallClock for RecordedClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0.next_time()
    }
}
