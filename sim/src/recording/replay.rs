//! An episode again, from its recording: one loop after the other, on one thread, then the verdict over all of them.

use std::fmt;
use std::rc::Rc;

use reactor::{Config, Turn};

use super::entry::End;
use super::log::LoopLog;
use super::plan::PlanUse;
use super::playback::{Difference, Over, Playback};
use super::{Failure, Recording};
use crate::audit::Audited;
use crate::guard::Inside;
use crate::member::{Descriptors, Member, Role};
use crate::runner::panics;
use crate::workload::{Accounts, Breach, Party};

/// How the replay of a loop ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoopEnd {
    /// As it was recorded.
    AsRecorded(End),
    /// The log ends while the loop waits: it sleeps for ever.
    Asleep,
    /// The log ends elsewhere: it was cut off, or was not to be played further.
    LogEnds,
    /// It did something else.
    Parted(Difference),
    /// The plan has no such loop: the file, or the workload, is another one than that of the episode.
    Foreign,
}

impl fmt::Display for LoopEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoopEnd::AsRecorded(end) => end.fmt(f),
            LoopEnd::Asleep => f.write_str("it waits, and nothing more was recorded"),
            LoopEnd::LogEnds => f.write_str("the log ends here"),
            LoopEnd::Parted(difference) => difference.fmt(f),
            LoopEnd::Foreign => f.write_str("its plan has no such loop"),
        }
    }
}

/// What came of a loop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoopReplay {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub end: LoopEnd,
    /// What was wrong when it had ended as it was recorded: what it left behind.
    pub left_behind: Option<Breach>,
    /// How many entries of its log it has reached.
    pub entries: u64,
    /// What its party was in the end, in full.
    pub party: Option<String>,
}

/// What came of an episode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Each loop.
    pub loops: Vec<LoopReplay>,
    /// What was wrong.
    pub failure: Option<Failure>,
}

impl Replay {
    /// The first difference, with the loop that made it.
    pub fn difference(&self) -> Option<(&LoopReplay, &Difference)> {
        self.loops.iter().find_map(|replayed| match &replayed.end {
            LoopEnd::Parted(difference) => Some((replayed, difference)),
            _ => None,
        })
    }

    /// Whether every loop did what was recorded of it.
    pub fn is_faithful(&self) -> bool {
        !self.loops.iter().any(|one| matches!(one.end, LoopEnd::Parted(_) | LoopEnd::Foreign))
    }
}

/// What is wanted of a replay.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Plays no more than so many entries of each loop.
    pub until: Option<u64>,
    /// Whether parties are described in full.
    pub parties: bool,
}

/// Plays an episode. `None` for a recording of a stage.
pub fn replay(recording: &Recording, options: Options) -> Option<Replay> {
    recording.plan.draw(Episode { recording, options })
}

struct Episode<'a> {
    recording: &'a Recording,
    options: Options,
}

/// A party after its replay.
struct Played<P> {
    audited: Audited<P>,
    role_lost_at_accept: bool,
    end: LoopEnd,
    left_behind: Option<Breach>,
    entries: u64,
}

impl PlanUse for Episode<'_> {
    type Output = Replay;

    fn with<W>(self, plan: W) -> Replay
    where
        W: Accounts,
    {
        let Episode { recording, options: Options { until, parties } } = self;
        let Recording { config, nobody, loops, .. } = recording;
        let mut replayed = Vec::new();
        let (mut services, mut clients) = (Vec::new(), Vec::new());
        for log in loops {
            let index = log.index as usize;
            let most = if log.role == Role::Service { plan.services() } else { plan.clients() };
            if index >= most || log.addresses.len() != plan.services() {
                let (name, end) = (log.name(), LoopEnd::Foreign);
                replayed.push(LoopReplay { name, end, left_behind: None, entries: 0, party: None });
                continue;
            }
            let shared = Rc::new(log.clone());
            let one = match log.role {
                Role::Service => {
                    let party = match log.incarnation {
                        0 => plan.service(index, &log.addresses, config),
                        incarnation => plan.service_again(index, incarnation, &log.addresses, config),
                    };
                    let played = play(&shared, config, until, party);
                    services.push(played);
                    told(&services, parties)
                }
                Role::Client => {
                    let party = match log.incarnation {
                        0 => plan.client(index, &log.addresses, *nobody),
                        incarnation => plan.client_again(index, incarnation, &log.addresses, *nobody),
                    };
                    let played = play(&shared, config, until, party);
                    clients.push(played);
                    told(&clients, parties)
                }
            };
            replayed.push(LoopReplay { name: log.name(), ..one });
        }
        // Each of several processes has all services.
        let lives = services.len() / plan.services();
        let whole = lives > 0 && services.len() == lives * plan.services() && clients.len() == plan.clients();
        // Of a file that was cut off nobody knows whether anything was still to come.
        let late = recording.verdict.as_ref().is_some_and(|verdict| verdict.late);
        let failure = first_breach(&replayed).or_else(|| {
            if late {
                return missing(&clients).or_else(|| missing(&services));
            }
            let judged = whole && replayed.iter().all(|one| one.end == LoopEnd::AsRecorded(End::Stopped));
            let lost_at_accept = services.iter().any(|played| played.role_lost_at_accept);
            if !judged {
                return None;
            }
            let services = services.iter().map(|played| W::service_ledger(played.audited.party()));
            let clients = clients.iter().map(|played| W::client_ledger(played.audited.party()));
            let (services, clients) = (services.collect::<Vec<_>>(), clients.collect::<Vec<_>>());
            plan.judge_ledgers(&services, &clients, lost_at_accept).err().map(|breach| failure_of(&breach))
        });
        Replay { loops: replayed, failure }
    }
}

/// What came of the loop that was played last; without its name.
fn told<P: Party + fmt::Debug>(played: &[Played<P>], in_full: bool) -> LoopReplay {
    let Played { audited, end, left_behind, entries, .. } = played.last().expect("one was just played");
    let party = in_full.then(|| format!("{:?}", audited.party()));
    let (end, left_behind) = (end.clone(), left_behind.clone());
    LoopReplay { name: String::new(), end, left_behind, entries: *entries, party }
}

fn failure_of(breach: &Breach) -> Failure {
    Failure { invariant: breach.invariant.to_owned(), details: breach.details.clone(), culprit: None }
}

/// Clients are asked first, as `soak` does.
fn first_breach(replayed: &[LoopReplay]) -> Option<Failure> {
    let of = |role: Role| replayed.iter().filter(move |one| one.name.starts_with(role.name()));
    of(Role::Client).chain(of(Role::Service)).find_map(|one| {
        let (invariant, details) = match &one.end {
            LoopEnd::AsRecorded(End::Breach { invariant, details }) => (invariant.clone(), details.clone()),
            LoopEnd::AsRecorded(End::Panic { message }) => ("panic".to_owned(), message.clone()),
            _ => {
                let Breach { invariant, details } = one.left_behind.as_ref()?;
                ((*invariant).to_owned(), details.clone())
            }
        };
        Some(Failure { invariant, details, culprit: Some(one.name.clone()) })
    })
}

fn missing<P: Party>(played: &[Played<P>]) -> Option<Failure> {
    let unfinished = played.iter().find(|played| !played.audited.party().is_finished())?;
    Some(failure_of(&unfinished.audited.party().missing()))
}

fn play<P: Party>(log: &Rc<LoopLog>, config: &Config, until: Option<u64>, party: P) -> Played<P> {
    // Messages may have come while others were taken out, so that more of them were handed over than there is room for.
    let room = config.mailbox_messages_max.max(config.messages_per_turn as usize + 1);
    let config = Config { mailbox_messages_max: room, ..config.clone() };
    let playback = Playback::new(Rc::clone(log), config.messages_per_turn, until);
    let mut audited = Audited::new(party, &config, Some(Box::new(playback.clone())));
    let mut lost_at_accept = false;
    let inside = Inside::enter();
    let driven = panics::catch(|| {
        let mut member = Member::open(playback.clone(), &config, log.role, log.shared, &mut audited)
            .map_err(|error| Breach::new("turn-error", format!("a loop could not be made: {error}")))?;
        let ended = drive(&mut member, &playback);
        let counters = member.counters();
        lost_at_accept = counters.shed > 0 || counters.accept_errors > 0;
        playback.begin_drop();
        ended
    });
    drop(inside);
    let end = match (playback.over(), driven) {
        (Some(Over::Parted(difference)), _) => Err(difference),
        (Some(Over::Asleep), _) => Ok(LoopEnd::Asleep),
        (Some(Over::LogEnds), _) => Ok(LoopEnd::LogEnds),
        (_, driven) => {
            let end = match driven {
                Ok(Ok(())) => End::Stopped,
                Ok(Err(Breach { invariant, details })) => {
                    End::Breach { invariant: invariant.to_owned(), details }
                }
                Err(message) => End::Panic { message },
            };
            playback.ended(&end).map_or(Ok(LoopEnd::AsRecorded(end)), Err)
        }
    };
    let end = end.unwrap_or_else(LoopEnd::Parted);
    let has_stopped = end == LoopEnd::AsRecorded(End::Stopped);
    let left_behind = if has_stopped { playback.check_end().err() } else { None };
    Played { audited, role_lost_at_accept: lost_at_accept, end, left_behind, entries: playback.entries() }
}

fn drive<P: Party>(member: &mut Member<'_, Playback, P>, playback: &Playback) -> Result<(), Breach> {
    let descriptors = Descriptors::of_new_loop(playback.open(), member.live());
    playback.post_to(member.sender());
    member.begin();
    loop {
        if let Some(within) = playback.take_stop() {
            member.stop(within);
        }
        let turn = member.turn()?;
        if playback.has_leaked_then() {
            descriptors.check(playback.open(), member.live())?;
        }
        match turn {
            Turn::Ran => {}
            Turn::Parked | Turn::Stopped => return Ok(()),
        }
    }
}
