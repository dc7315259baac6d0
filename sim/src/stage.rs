//! Stages: your own handlers, clients and checks under simulation, from a `#[test]`.
//!
//! A stage is built anew for every run: who serves, who connects and what they say, and what must be true at the end. Handlers
//! are the ones that you ship; they only implement [`reactor::Handler`]. What differs from run to run is drawn with
//! [`Stage::draw`], so that the seed decides it, and the shrinker can make it smaller.
//!
//! ```
//! use reactor::{Config, Context, Handler, Origin, Token};
//! use sim::{Conversation, Stage};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Connection = ();
//!     type Message = ();
//!     fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {}
//!     fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, _: &mut (), bytes: &[u8]) -> usize {
//!         let _ = ctx.write(token, bytes);
//!         bytes.len()
//!     }
//! }
//!
//! // In a test: #[test] fn lines_come_back() { ... }
//! sim::check("echo-of-lines", |stage: &mut Stage<'_>| {
//!     let server = stage.serve("the echo", Config::default(), || Echo);
//!     for number in 0..stage.draw("clients", 1..=3) {
//!         let line = format!("line of {number}");
//!         let talk = Conversation::new().send(format!("{line}\n")).expect_line(line);
//!         stage.client(&format!("client {number}"), server.address(), talk);
//!     }
//! });
//! ```
//!
//! A run passes when every client has come to the end of its part, nobody panicked, the loop's own oracles saw nothing, and all
//! checks hold. [`Check`] says how many runs there are and what a failing one leaves behind; [`Environment`] lists the
//! variables `SIM_SEED`, `SIM_RUNS` ... that do the same for one `cargo test`.
//!
//! # What is kept from you, and how to ask for it
//!
//! Faults that a correct service cannot notice - segments cut anywhere, full buffers, late and interrupted waits, tiny
//! budgets - are always on. Those that break a connection, as networks do, are on after [`Check::connections_may_break`],
//! and processes are killed and started again after [`Check::processes_may_die`]; your checks then have to allow for clients
//! that [were cut off](Talker::was_cut_off).
//!
//! Not here: several listeners of one loop, a service that shares its loop with a client, handlers that keep a
//! [`reactor::Sender`] of their own loop.

mod builder;
mod check;
mod conversation;
mod ended;
mod environment;
mod failed;
mod keep;
mod name;
mod replay;
mod role;
mod talker;

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use reactor::time::duration_ns;
use reactor::{Config, Context, Handler};

use crate::decision::{Decisions, Domain, Ratio, Site};
use crate::kernel::Kernel;
use crate::runner::drive::PORT;
use crate::runner::setup::Setup;
use crate::weather::Weather;
use crate::world::address_of_host;

pub use builder::{Play, StageBuilder};
pub use check::{Check, Summary, check};
pub use conversation::Conversation;
pub use ended::Ended;
pub use environment::{Environment, EnvironmentError};
pub use failed::{Failed, Reason};
pub use name::{StageName, StageNameError};
pub use role::Role;
pub use talker::Talker;

use ended::NamedCheck;
use role::{Hooks, Part, Posted};
use talker::Breaks;

/// A message that comes to a server's loop from another thread.
#[derive(Copy, Clone, Debug)]
struct Post {
    server: usize,
    delay_ns: u64,
}

/// What a run is made of, while it is being built. See the module.
pub struct Stage<'a> {
    decisions: &'a mut Decisions,
    kernel: Kernel,
    weather: Weather,
    mortal: bool,
    breaks: Breaks,
    servers: Vec<Part>,
    clients: Vec<Part>,
    posts: Vec<Post>,
    checks: Vec<NamedCheck>,
    sometimes: Vec<Sometimes>,
}

impl fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |parts: &[Part]| parts.iter().map(|part| part.name.clone()).collect::<Vec<_>>();
        f.debug_struct("Stage")
            .field("kernel", &self.kernel)
            .field("weather", &self.weather)
            .field("servers", &names(&self.servers))
            .field("clients", &names(&self.clients))
            .finish_non_exhaustive()
    }
}

/// A server of a stage, with a handler of type `H`.
pub struct Server<H: Handler> {
    index: usize,
    address: SocketAddr,
    posted: Posted<H::Message>,
}

impl<H: Handler> Server<H> {
    /// Where it listens, for clients, and for handlers that connect to it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl<H: Handler> Clone for Server<H> {
    fn clone(&self) -> Server<H> {
        Server { index: self.index, address: self.address, posted: Rc::clone(&self.posted) }
    }
}

impl<H: Handler> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("index", &self.index).field("address", &self.address).finish()
    }
}

/// A client of a stage, with a handler of type `H`: a [`Talker`], or your own.
pub struct Client<H> {
    index: usize,
    of: std::marker::PhantomData<fn() -> H>,
}

impl<H> Copy for Client<H> {}

impl<H> Clone for Client<H> {
    fn clone(&self) -> Client<H> {
        *self
    }
}

impl<H> fmt::Debug for Client<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("index", &self.index).finish()
    }
}

/// Something that has to happen in some run of a [`Check`], see [`Stage::sometimes`].
#[derive(Clone, Debug)]
pub struct Sometimes {
    what: Rc<str>,
    met: Rc<Cell<bool>>,
}

impl Sometimes {
    /// It has happened, if `condition` holds.
    pub fn when(&self, condition: bool) {
        if condition {
            self.met.set(true);
        }
    }
}

impl<'a> Stage<'a> {
    fn new(setup: &Setup, decisions: &'a mut Decisions, breaks_are_legal: bool, mortal: bool) -> Stage<'a> {
        Stage {
            decisions,
            kernel: setup.kernel,
            weather: setup.weather,
            mortal,
            breaks: Breaks { are_legal: breaks_are_legal, seen: Rc::default() },
            servers: Vec::new(),
            clients: Vec::new(),
            posts: Vec::new(),
            checks: Vec::new(),
            sometimes: Vec::new(),
        }
    }

    /// A number of this range, drawn by the seed. The first is the simplest: what the shrinker goes towards. `site` says what
    /// is decided, in words that a story can use.
    ///
    /// # Panics
    /// When the range is empty, or has all of the numbers that there are.
    pub fn draw(&mut self, site: &'static str, range: RangeInclusive<u64>) -> u64 {
        let (from, to) = range.into_inner();
        assert!(from <= to, "{site}: {from}..={to} has no number");
        let bound = (to - from).checked_add(1).expect("a range with all numbers has no bound");
        from + self.decisions.draw(Domain::Workload, Site(site), 0, bound)
    }

    /// One of these, drawn by the seed; the first is the simplest.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Clone>(&mut self, site: &'static str, choices: &[T]) -> T {
        assert!(!choices.is_empty(), "{site}: there is nothing to pick from");
        choices[self.draw(site, 0..=choices.len() as u64 - 1) as usize].clone()
    }

    /// Whether something happens that does so `numerator` times out of `denominator`; `false` is the simplest.
    pub fn chance(&mut self, site: &'static str, numerator: u32, denominator: u32) -> bool {
        self.decisions.chance(Domain::Workload, Site(site), 0, Ratio::new(numerator, denominator))
    }

    /// The kernel of every host of this run.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The weather of this run.
    pub fn weather(&self) -> Weather {
        self.weather
    }

    /// Adds a server: a loop on a host of its own, which listens. `handler` makes the handler that you ship; it is called
    /// again where a loop cannot be made at first, and for a process that follows one that died.
    ///
    /// `config` is what you ship too. In each run the seed makes some of its limits smaller: those that cut work into pieces,
    /// as the size of a read, and none that decides what becomes of a connection.
    pub fn serve<H>(&mut self, name: &str, config: Config, handler: impl Fn() -> H + 'static) -> Server<H>
    where
        H: Handler + 'static,
        H::Connection: 'static,
    {
        self.serve_until(name, config, handler, |_| true)
    }

    /// As [`Stage::serve`]; and the run does not end before `is_done` holds for the handler, though all clients have ended.
    pub fn serve_until<H>(
        &mut self,
        name: &str,
        config: Config,
        handler: impl Fn() -> H + 'static,
        is_done: impl Fn(&H) -> bool + 'static,
    ) -> Server<H>
    where
        H: Handler + 'static,
        H::Connection: 'static,
    {
        let index = self.servers.len();
        // Hosts of servers are the first ones.
        let address = SocketAddr::from((address_of_host(index as u32), PORT));
        let posted = Posted::<H::Message>::default();
        let hooks = Hooks {
            begin: None,
            is_done: Box::new(is_done),
            missing: Box::new(|_| "what it was to do until it is done has not come about".to_owned()),
            breach: |_| None,
        };
        self.servers.push(Part::new(name, config, handler, hooks, Rc::clone(&posted), self.mortal));
        Server { index, address, posted }
    }

    /// Adds a client that holds a conversation, on a host of its own.
    pub fn client(&mut self, name: &str, address: SocketAddr, conversation: Conversation) -> Client<Talker> {
        let (called, breaks) = (name.to_owned(), self.breaks.clone());
        let handler = move || Talker::new(&called, address, &conversation, breaks.clone());
        let hooks = Hooks {
            begin: Some(Box::new(Talker::begin)),
            is_done: Box::new(Talker::is_done),
            missing: Box::new(Talker::missing),
            breach: Talker::breach,
        };
        self.push_client(Part::new(name, Config::default(), handler, hooks, Posted::default(), self.mortal))
    }

    /// Adds a client with a handler of your own, on a loop and a host of its own. `begin` makes its first connects; the run
    /// does not end before `is_done` holds.
    pub fn client_with<H>(
        &mut self,
        name: &str,
        config: Config,
        handler: impl Fn() -> H + 'static,
        begin: impl Fn(&mut H, &mut Context<'_>) + 'static,
        is_done: impl Fn(&H) -> bool + 'static,
    ) -> Client<H>
    where
        H: Handler + 'static,
        H::Connection: 'static,
    {
        let hooks = Hooks {
            begin: Some(Box::new(begin)),
            is_done: Box::new(is_done),
            missing: Box::new(|_| "what it was to do until it is done has not come about".to_owned()),
            breach: |_| None,
        };
        self.push_client(Part::new(name, config, handler, hooks, Posted::default(), self.mortal))
    }

    fn push_client<H>(&mut self, part: Part) -> Client<H> {
        self.clients.push(part);
        Client { index: self.clients.len() - 1, of: std::marker::PhantomData }
    }

    /// Sends a message to a server's loop after `delay`, as another thread of its process does through a
    /// [`reactor::Sender`]. The run does not end before it has come, unless processes may die.
    pub fn post<H: Handler>(&mut self, server: &Server<H>, delay: Duration, message: H::Message) {
        let number = u32::try_from(self.posts.len()).expect("fewer messages than four billion");
        server.posted.borrow_mut().insert(number, message);
        self.posts.push(Post { server: server.index, delay_ns: duration_ns(delay) });
    }

    /// Says that this has to happen in some run, though not in each: a [`Check`] in none of whose runs
    /// [`Sometimes::when`] was told that it did fails at its end. So a test cannot pass because what it is about never came
    /// to be.
    pub fn sometimes(&mut self, what: &str) -> Sometimes {
        let sometimes = Sometimes { what: what.into(), met: Rc::default() };
        self.sometimes.push(sometimes.clone());
        sometimes
    }

    /// Adds a check of how the run ended. It panics, as `assert!` does, when something is wrong; `name` is what a failing run
    /// is called by, and what the shrinker holds on to.
    pub fn check(&mut self, name: &str, check: impl Fn(&Ended<'_>) + 'static) {
        self.checks.push(NamedCheck::new(name, check));
    }
}
