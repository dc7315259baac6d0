//! A client in a few lines: what it sends, and what it expects to be sent.

use std::time::Duration;

/// One step of a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Send(Vec<u8>),
    Expect(Vec<u8>),
    ExpectLine(String),
    SkipToLine(String),
    ExpectLinesInAnyOrder(Vec<String>),
    ExpectEnd,
    Pause(Duration),
    End,
    Abort,
}

/// What a client says and hears, in order, over one connection; at its end the client closes. Bytes may come in any pieces:
/// a step waits until it has what it expects, or can no longer have it. What comes after the last step is kept, and judged by
/// nobody but your checks.
///
/// ```
/// use std::time::Duration;
/// let greeting = sim::Conversation::new()
///     .expect_line("name?")
///     .send("ann\n")
///     .expect_line("hello ann")
///     .pause(Duration::from_millis(20))
///     .send("bye\n")
///     .expect_end();
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conversation {
    pub(super) steps: Vec<Step>,
}

impl Conversation {
    /// One without steps: connects, and closes.
    pub fn new() -> Conversation {
        Conversation::default()
    }

    fn with(mut self, step: Step) -> Conversation {
        self.steps.push(step);
        self
    }

    /// Sends these bytes.
    #[must_use]
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Conversation {
        self.with(Step::Send(bytes.as_ref().to_vec()))
    }

    /// The next bytes are exactly these.
    #[must_use]
    pub fn expect(self, bytes: impl AsRef<[u8]>) -> Conversation {
        self.with(Step::Expect(bytes.as_ref().to_vec()))
    }

    /// The next line is exactly this one, which is given without its end: `\n`, or `\r\n`.
    #[must_use]
    pub fn expect_line(self, line: impl Into<String>) -> Conversation {
        self.with(Step::ExpectLine(line.into()))
    }

    /// Takes lines until one of them is exactly this.
    #[must_use]
    pub fn skip_to_line(self, line: impl Into<String>) -> Conversation {
        self.with(Step::SkipToLine(line.into()))
    }

    /// The next lines are these, each once, in any order.
    #[must_use]
    pub fn expect_lines_in_any_order<L: Into<String>>(
        self,
        lines: impl IntoIterator<Item = L>,
    ) -> Conversation {
        self.with(Step::ExpectLinesInAnyOrder(lines.into_iter().map(Into::into).collect()))
    }

    /// The peer sends nothing more, and ends its side.
    #[must_use]
    pub fn expect_end(self) -> Conversation {
        self.with(Step::ExpectEnd)
    }

    /// Does nothing for a while, of virtual time. Before anything else it puts off the connect.
    #[must_use]
    pub fn pause(self, length: Duration) -> Conversation {
        self.with(Step::Pause(length))
    }

    /// Ends this side: the peer reads the end of the stream after everything that was sent. What the peer sends is still
    /// expected.
    #[must_use]
    pub fn end(self) -> Conversation {
        self.with(Step::End)
    }

    /// Resets the connection, and with it what was not yet sent. Nothing can follow.
    #[must_use]
    pub fn abort(self) -> Conversation {
        self.with(Step::Abort)
    }
}
