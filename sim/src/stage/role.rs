//! Somebody's handler on a stage where all handlers have one type: connection states and messages are put into boxes.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use reactor::sys::Errno;
use reactor::timer::TimerToken;
use reactor::{CloseReason, Config, Context, Handler, Origin, Pressure, Token};

use crate::workload::{Breach, Numbered, Party};

/// Messages that are to be posted to a handler, by the number of their post.
pub(super) type Posted<M> = Rc<RefCell<BTreeMap<u32, M>>>;

type Begin<H> = Box<dyn Fn(&mut H, &mut Context<'_>)>;

/// What a stage knows of a handler beside the handler itself.
pub(super) struct Hooks<H> {
    pub(super) begin: Option<Begin<H>>,
    pub(super) is_done: Box<dyn Fn(&H) -> bool>,
    /// Said when the run cannot go on before it is done.
    pub(super) missing: Box<dyn Fn(&H) -> String>,
    pub(super) breach: fn(&H) -> Option<&Breach>,
}

/// A handler and its hooks, behind one face.
trait Faced {
    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> Box<dyn Any>;
    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno);
    fn on_data(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Box<dyn Any>,
        bytes: &[u8],
    ) -> usize;
    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut Box<dyn Any>, unconsumed: usize);
    fn on_pressure(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Box<dyn Any>,
        pressure: Pressure,
    );
    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, state: Box<dyn Any>, reason: CloseReason);
    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64);
    fn on_message(&mut self, ctx: &mut Context<'_>, message: Numbered);
    fn begin(&mut self, ctx: &mut Context<'_>);
    fn is_done(&self) -> bool;
    fn missing(&self) -> String;
    fn breach(&self) -> Option<&Breach>;
    fn handler(&self) -> &dyn Any;
}

struct Face<H: Handler> {
    handler: H,
    hooks: Rc<Hooks<H>>,
    posted: Posted<H::Message>,
    /// Whether a post may be lost with its process.
    mortal: bool,
}

/// The state is what this very handler answered when the connection opened.
fn opened<C: 'static>(state: &mut Box<dyn Any>) -> &mut C {
    state.downcast_mut().expect("the state of a connection is of its handler's type")
}

impl<H> Faced for Face<H>
where
    H: Handler + 'static,
    H::Connection: 'static,
{
    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> Box<dyn Any> {
        Box::new(self.handler.on_open(ctx, token, origin))
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        self.handler.on_connect_failed(ctx, token, tag, error);
    }

    fn on_data(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Box<dyn Any>,
        bytes: &[u8],
    ) -> usize {
        self.handler.on_data(ctx, token, opened(state), bytes)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut Box<dyn Any>, unconsumed: usize) {
        self.handler.on_end(ctx, token, opened(state), unconsumed);
    }

    fn on_pressure(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Box<dyn Any>,
        pressure: Pressure,
    ) {
        self.handler.on_pressure(ctx, token, opened(state), pressure);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, state: Box<dyn Any>, reason: CloseReason) {
        let state = state.downcast().expect("the state of a connection is of its handler's type");
        self.handler.on_close(ctx, token, *state, reason);
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64) {
        self.handler.on_timer(ctx, timer, tag);
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: Numbered) {
        let posted = self.posted.borrow_mut().remove(&message.producer);
        if let Some(message) = posted {
            self.handler.on_message(ctx, message);
        }
    }

    fn begin(&mut self, ctx: &mut Context<'_>) {
        if let Some(begin) = &self.hooks.begin {
            begin(&mut self.handler, ctx);
        }
    }

    fn is_done(&self) -> bool {
        (self.mortal || self.posted.borrow().is_empty()) && (self.hooks.is_done)(&self.handler)
    }

    fn missing(&self) -> String {
        match self.posted.borrow().len() {
            left if left > 0 && !self.mortal => format!("{left} of the messages posted to it have not come"),
            _ => (self.hooks.missing)(&self.handler),
        }
    }

    fn breach(&self) -> Option<&Breach> {
        (self.hooks.breach)(&self.handler)
    }

    fn handler(&self) -> &dyn Any {
        &self.handler
    }
}

/// Makes a handler, on a fresh stage.
type Make = Box<dyn Fn() -> Role>;

/// One role of a stage: who plays it, and on which loop.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) config: Config,
    make: Make,
}

impl Part {
    pub(super) fn new<H>(
        name: &str,
        config: Config,
        handler: impl Fn() -> H + 'static,
        hooks: Hooks<H>,
        posted: Posted<H::Message>,
        mortal: bool,
    ) -> Part
    where
        H: Handler + 'static,
        H::Connection: 'static,
    {
        let (shown, hooks) = (name.to_owned(), Rc::new(hooks));
        let make = move || Role {
            name: shown.clone(),
            face: Box::new(Face {
                handler: handler(),
                hooks: Rc::clone(&hooks),
                posted: Rc::clone(&posted),
                mortal,
            }),
            calls: 0,
        };
        Part { name: name.to_owned(), config, make: Box::new(make) }
    }

    pub(super) fn play(&self) -> Role {
        (self.make)()
    }
}

/// A handler that plays its part.
pub struct Role {
    name: String,
    face: Box<dyn Faced>,
    /// Times that bytes were given to it.
    calls: u64,
}

impl Role {
    /// The handler itself, for the checks at the end.
    pub(super) fn handler(&self) -> &dyn Any {
        self.face.handler()
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Handler for Role {
    type Connection = Box<dyn Any>;
    type Message = Numbered;

    fn on_open(&mut self, ctx: &mut Context<'_>, token: Token, origin: Origin) -> Box<dyn Any> {
        self.face.on_open(ctx, token, origin)
    }

    fn on_connect_failed(&mut self, ctx: &mut Context<'_>, token: Token, tag: u64, error: Errno) {
        self.face.on_connect_failed(ctx, token, tag, error);
    }

    fn on_data(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Box<dyn Any>,
        bytes: &[u8],
    ) -> usize {
        self.calls += 1;
        self.face.on_data(ctx, token, state, bytes)
    }

    fn on_end(&mut self, ctx: &mut Context<'_>, token: Token, state: &mut Box<dyn Any>, unconsumed: usize) {
        self.face.on_end(ctx, token, state, unconsumed);
    }

    fn on_pressure(
        &mut self,
        ctx: &mut Context<'_>,
        token: Token,
        state: &mut Box<dyn Any>,
        pressure: Pressure,
    ) {
        self.face.on_pressure(ctx, token, state, pressure);
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, state: Box<dyn Any>, reason: CloseReason) {
        self.face.on_close(ctx, token, state, reason);
    }

    fn on_timer(&mut self, ctx: &mut Context<'_>, timer: TimerToken, tag: u64) {
        self.face.on_timer(ctx, timer, tag);
    }

    fn on_message(&mut self, ctx: &mut Context<'_>, message: Numbered) {
        self.face.on_message(ctx, message);
    }
}

impl Party for Role {
    fn begin(&mut self, ctx: &mut Context<'_>) {
        self.face.begin(ctx);
    }

    fn is_finished(&self) -> bool {
        self.face.is_done()
    }

    fn missing(&self) -> Breach {
        Breach::new("liveness", format!("{} is not done: {}", self.name, self.face.missing()))
    }

    fn breach(&self) -> Option<&Breach> {
        self.face.breach()
    }

    fn messages(&self) -> u64 {
        self.calls
    }
}
