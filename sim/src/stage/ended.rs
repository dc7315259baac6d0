//! What checks look at: everybody as they were when the run ended.

use std::any::Any;
use std::fmt;

use reactor::Handler;

use super::{Client, Role, Server};
use crate::oracle::Oracle;
use crate::runner::panics;
use crate::workload::Breach;

/// A run that has ended: all loops have stopped, and all descriptors are closed.
#[derive(Debug)]
pub struct Ended<'a> {
    pub(super) servers: &'a [&'a Role],
    pub(super) clients: &'a [&'a Role],
    pub(super) cut_off: bool,
}

fn of_type<H: 'static>(handler: &dyn Any) -> &H {
    handler.downcast_ref().expect("a handle names a handler of its own stage")
}

impl Ended<'_> {
    /// The handler of a server. If its process was started again, the last one.
    ///
    /// # Panics
    /// When the handle is one of another stage.
    pub fn server<H: Handler + 'static>(&self, server: &Server<H>) -> &H {
        of_type(self.servers[server.index].handler())
    }

    /// The handler of a client.
    ///
    /// # Panics
    /// When the handle is one of another stage.
    pub fn client<H: 'static>(&self, client: &Client<H>) -> &H {
        of_type(self.clients[client.index].handler())
    }

    /// Whether the world broke the connection of any client that holds a conversation.
    pub fn was_anybody_cut_off(&self) -> bool {
        self.cut_off
    }
}

/// A check and what it is called.
pub(super) struct NamedCheck {
    name: String,
    check: Box<dyn Fn(&Ended<'_>)>,
}

impl NamedCheck {
    pub(super) fn new(name: &str, check: impl Fn(&Ended<'_>) + 'static) -> NamedCheck {
        NamedCheck { name: name.to_owned(), check: Box::new(check) }
    }

    pub(super) fn holds(&self, ended: &Ended<'_>) -> Result<(), Breach> {
        panics::catch(|| (self.check)(ended)).map_err(|message| {
            let lines: Vec<&str> = message.lines().map(str::trim).collect();
            Breach::new(Oracle::Check.name(), format!("{}: {}", self.name, lines.join("; ")))
        })
    }
}

impl fmt::Debug for NamedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedCheck").field("name", &self.name).finish_non_exhaustive()
    }
}
