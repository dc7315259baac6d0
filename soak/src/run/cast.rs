//! Everybody of an episode, and how each of them begins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use reactor::Config;
use reactor::sys::Syscalls;
use sim::member::Role;
use sim::workload::load::OVER;
use sim::workload::{Accounts, Breach, Party, Workload};

use super::episode::{Episode, blame, pause};
use super::options::Plant;
use crate::Failure;
use crate::chaos::Turmoil;
use crate::episode_record::EpisodeRecord;
use crate::gauge::Gauge;
use crate::member::{Member, Place, spawn, start};

/// Everybody of an episode, or those of them that are in this process.
pub(super) struct Cast<W: Workload> {
    pub(super) services: Vec<Member<W::Service>>,
    pub(super) clients: Vec<Member<W::Client>>,
    pub(super) producers: Vec<JoinHandle<()>>,
}

/// Which life of a loop begins, and where.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seat {
    /// Counted from 0: of those that share an address, or follow one that was killed.
    pub(crate) incarnation: u32,
    /// Where a service listens beside others; `None` for a port of its own.
    pub(crate) shared: Option<SocketAddr>,
}

/// What loops begin with.
pub(super) struct Scene<'a> {
    /// Of each service, as far as it is known.
    pub(super) addresses: Vec<SocketAddr>,
    /// Nobody listens there.
    pub(super) nobody: SocketAddr,
    pub(super) record: Option<&'a EpisodeRecord>,
}

impl<W: Workload> Default for Cast<W> {
    fn default() -> Cast<W> {
        Cast { services: Vec::new(), clients: Vec::new(), producers: Vec::new() }
    }
}

impl<W: Workload> Cast<W> {
    pub(super) fn gauges(&self) -> Vec<Arc<Gauge>> {
        let clients = self.clients.iter().map(|member| &member.gauge);
        clients.chain(self.services.iter().map(|member| &member.gauge)).map(Arc::clone).collect()
    }

    /// Whether nobody owes or awaits anything.
    ///
    /// # Errors
    /// Liveness: a loop has ended before its time.
    pub(super) fn is_finished(&self) -> Result<bool, Failure> {
        let (mut all_finished, mut any_died) = (true, false);
        for member in &self.clients {
            let (finished, ended) = (member.gauge.is_finished(), member.thread.is_finished());
            // A client that has finished ends by itself.
            all_finished &= finished && ended;
            any_died |= ended && !finished;
        }
        for member in &self.services {
            all_finished &= member.gauge.is_finished();
            any_died |= member.thread.is_finished();
        }
        all_finished &= self.producers.iter().all(JoinHandle::is_finished);
        if any_died {
            return Err(Failure::Liveness("a loop ended before its time".to_owned()));
        }
        Ok(all_finished)
    }

    /// Tells every loop that the time of its load is over.
    pub(super) fn hurry(&self) {
        let clients = self.clients.iter().map(|member| &member.sender);
        for sender in clients.chain(self.services.iter().map(|member| &member.sender)) {
            // A full mailbox belongs to a loop whose end comes by its own timer.
            let _ = sender.send(OVER);
        }
    }

    /// What is said when the episode does not end, with what each loop still waits for.
    pub(super) fn does_not_end(&self, record: Option<&EpisodeRecord>, beyond: Duration) -> Failure {
        if let Some(record) = record {
            record.set_late();
        }
        let gauges = self.gauges();
        gauges.iter().for_each(|gauge| gauge.ask());
        pause(Duration::from_millis(100));
        let dumps: Vec<String> =
            gauges.iter().filter(|gauge| !gauge.is_finished()).map(|gauge| gauge.dump()).collect();
        let details = format!("the episode does not end, {} s after its load", beyond.as_secs());
        blame(record, &Breach::new("liveness", details.clone()), None);
        Failure::Liveness(format!("{details}\n{}", dumps.join("\n")))
    }
}

impl Episode {
    pub(super) fn begin_service<S, W>(
        &self,
        plan: &Arc<W>,
        index: usize,
        seat: Seat,
        scene: &Scene<'_>,
        turmoil: &Option<Turmoil>,
    ) -> Result<Member<W::Service>, Failure>
    where
        S: Syscalls + Default + 'static,
        W: Accounts,
    {
        let (plan, known, limits) = (Arc::clone(plan), scene.addresses.clone(), Config::default());
        self.begin_loop::<S, _>((Role::Service, index, seat), scene, turmoil, move || {
            match seat.incarnation {
                0 => plan.service(index, &known, &limits),
                incarnation => plan.service_again(index, incarnation, &known, &limits),
            }
        })
    }

    pub(super) fn begin_client<S, W>(
        &self,
        plan: &Arc<W>,
        index: usize,
        seat: Seat,
        scene: &Scene<'_>,
        turmoil: &Option<Turmoil>,
    ) -> Result<Member<W::Client>, Failure>
    where
        S: Syscalls + Default + 'static,
        W: Accounts,
    {
        let (plan, addresses, nobody) = (Arc::clone(plan), scene.addresses.clone(), scene.nobody);
        self.begin_loop::<S, _>((Role::Client, index, seat), scene, turmoil, move || match seat.incarnation {
            0 => plan.client(index, &addresses, nobody),
            incarnation => plan.client_again(index, incarnation, &addresses, nobody),
        })
    }

    fn begin_loop<S, P>(
        &self,
        (role, index, seat): (Role, usize, Seat),
        scene: &Scene<'_>,
        turmoil: &Option<Turmoil>,
        make: impl FnOnce() -> P + Send + 'static,
    ) -> Result<Member<P>, Failure>
    where
        S: Syscalls + Default + 'static,
        P: Party + Send + 'static,
    {
        let name = format!("{}, {} {index}", self.name_with_plan(), role.name());
        let gauge = self.roster.enter(self.workload, role, name);
        let exposure = turmoil.as_ref().map(Turmoil::exposure).map(|exposure| match self.plant {
            Some(Plant::ForgetCuts) => exposure.without_excuses(),
            _ => exposure,
        });
        let journal = scene.record.map(|record| record.journal(role, index, seat, &scene.addresses));
        let (config, clock_shift_ns) = (Config::default(), self.clock_shift_ns);
        let shared = seat.shared;
        let place =
            Place { role, config, gauge: Arc::clone(&gauge), clock_shift_ns, shared, journal, exposure };
        start::<S, _>(place, make).inspect_err(|_| self.roster.leave(self.workload, &gauge))
    }

    pub(super) fn begin_producers<W>(&self, plan: &Arc<W>, cast: &mut Cast<W>) -> Result<(), Failure>
    where
        W: Accounts,
    {
        for index in 0..plan.producers() {
            let sender = cast.services[plan.fed_by(index)].sender.clone();
            let (plan, cut) = (Arc::clone(plan), Arc::clone(&self.cut));
            let stalls = self.plant == Some(Plant::Stall);
            cast.producers.push(spawn("producer", move || {
                let mut producer = plan.producer(index, sender);
                let mut steps = 0u64;
                while let Some(pause_ns) = producer.step() {
                    steps += 1;
                    if cut.load(Ordering::Relaxed) {
                        return;
                    }
                    if stalls && steps > 200 {
                        pause(Duration::from_millis(50));
                        continue_until(&cut);
                        return;
                    }
                    pause(Duration::from_nanos(pause_ns));
                }
            })?);
        }
        Ok(())
    }
}

fn continue_until(cut: &AtomicBool) {
    while !cut.load(Ordering::Relaxed) {
        pause(Duration::from_millis(20));
    }
}
