//! A run with very many connections, all of them open at the same time: how the simulator scales.
//!
//! It is the workload `echo` with a plan of its own, so that every byte is checked and the oracles watch as in any other run;
//! only what the kernel owes is not derived a second time, which after each wait would look at each set again. The connections come at a steady pace, exchange a message each, think for a time of their own that lasts until
//! the last one has come, exchange two more in an order that the seed decides, and close.
//!
//! What happens in a virtual second is the same for every size, and so is the number of loops: figures of two sizes
//! differ by what the number of connections costs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::decision::{Decisions, Domain, Site};
use crate::kernel::Kernel;
use crate::obligation::ObligationCheck;
use crate::runner::setup::Setup;
use crate::runner::{Outcome, RunOptions, run_plan};
use crate::weather::Weather;
use crate::workload::WorkloadKind;
use crate::workload::echo::Echo;
use crate::workload::stream_plan::{Appetite, Ending, StreamPlan};

/// Messages that each connection sends, and hears back.
pub const MESSAGES: u64 = 3;
/// Bytes of each.
const MESSAGE_BYTES: u64 = 64;
/// From one connection to the next.
const PACE_NS: u64 = 10_000;
/// For handshakes, and for a queue that is long for a moment.
const MARGIN_NS: u64 = 100_000_000;
const LOOPS_MIN: u32 = 20;
/// A host has about 28,000 ports to connect from.
const CONNECTIONS_PER_LOOP: u32 = 20_000;
/// No trouble at all lasts longer than this: a virtual day.
const TROUBLE_NS: u64 = 86_400_000_000_000;
/// Several times what a connection takes.
const CALLS_PER_CONNECTION_MAX: u64 = 400;

/// How many connections, on which kernel.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Crowd {
    /// Connections that are open at once; 1 to [`Crowd::CONNECTIONS_MAX`].
    pub connections: u32,
    /// The kernel of every host.
    pub kernel: Kernel,
}

impl Crowd {
    /// The most connections of a run: half of what a process may have descriptors for.
    pub const CONNECTIONS_MAX: u32 = 4_000_000;

    /// Messages that the clients will have handled in the end.
    pub fn messages_of_clients(&self) -> u64 {
        u64::from(self.connections) * MESSAGES
    }

    /// Runs once, without faults. The same decisions give the same outcome on every machine. `progress` is told how many
    /// messages the clients have handled.
    ///
    /// # Panics
    /// When the number of connections is out of range.
    pub fn run(&self, mut decisions: Decisions, progress: Option<Arc<AtomicU64>>) -> Outcome {
        assert!((1..=Crowd::CONNECTIONS_MAX).contains(&self.connections), "{self:?} is out of range");
        let (kind, weather) = (WorkloadKind::Echo, Weather::Calm);
        let options = RunOptions {
            workload: Some(kind),
            kernel: Some(self.kernel),
            weather: Some(weather),
            obligations: ObligationCheck::Never,
            progress,
            ..RunOptions::default()
        };
        let mut setup = Setup::plain(kind, self.kernel, weather);
        // The loop's own descriptors, listeners and reserves come on top.
        let most = self.connections + 64;
        setup.service.connections_max = most;
        setup.client.connections_max = most;
        setup.descriptor_limit = most as usize;
        setup.backlog = 4_096;
        setup.trouble_ns = TROUBLE_NS;
        setup.calls_max = u64::from(most) * CALLS_PER_CONNECTION_MAX;
        let plan = self.plan(&mut decisions);
        run_plan(&plan, setup, &options, decisions)
    }

    fn plan(&self, decisions: &mut Decisions) -> Echo {
        let count = self.connections;
        let loops = LOOPS_MIN.max(count.div_ceil(CONNECTIONS_PER_LOOP));
        let all_come_ns = u64::from(count) * PACE_NS;
        let mut streams = vec![Vec::with_capacity(count.div_ceil(loops) as usize); loops as usize];
        for index in 0..count {
            let site = Site("think time in a crowd");
            let think_ns = MARGIN_NS + all_come_ns + decisions.draw(Domain::Workload, site, 0, all_come_ns);
            streams[(index % loops) as usize].push(StreamPlan {
                start_ns: u64::from(index) * PACE_NS,
                to_nobody: false,
                messages: MESSAGES,
                message_bytes: MESSAGE_BYTES,
                pipeline: 1,
                think_ns,
                ending: Ending::CloseAfterAll,
                appetite: Appetite::Everything,
                retries: 0,
            });
        }
        Echo::of_loops(streams)
    }
}
