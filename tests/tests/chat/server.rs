//! A chat of lines. The first line of a client is its name; every other one goes to everybody, itself included.

use reactor::{CloseReason, Context, Handler, Origin, Token};

/// A client that cannot end its line by then is no client of ours.
const LINE_BYTES_MAX: usize = 400;

/// The service: who is here, by their tokens.
#[derive(Debug, Default)]
pub struct Chat {
    members: Vec<(Token, String)>,
    /// Bytes that came without the end of their line.
    pub partial_lines: u64,
    /// Takes whatever one read gives for whole lines: the bug that the test finds.
    takes_reads_for_lines: bool,
}

impl Chat {
    /// The first attempt, which worked whenever it was tried by hand.
    pub fn first_attempt() -> Chat {
        Chat { takes_reads_for_lines: true, ..Chat::default() }
    }

    /// How many members are here.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    fn tell_everybody(&self, ctx: &mut Context<'_>, line: &str) {
        for (member, _) in &self.members {
            // Refused only by a member that is about to leave, as on_close tells.
            let _ = ctx.write(*member, format!("{line}\n").as_bytes());
        }
    }

    fn hear(&mut self, ctx: &mut Context<'_>, from: Token, line: &str) {
        match self.members.iter().find(|(member, _)| *member == from) {
            Some((_, name)) => self.tell_everybody(ctx, &format!("{name}: {line}")),
            None => {
                self.members.push((from, line.to_owned()));
                self.tell_everybody(ctx, &format!("* {} here", self.members.len()));
            }
        }
    }
}

impl Handler for Chat {
    type Connection = ();
    type Message = ();

    fn on_open(&mut self, _: &mut Context<'_>, _: Token, _: Origin) {}

    fn on_data(&mut self, ctx: &mut Context<'_>, token: Token, (): &mut (), bytes: &[u8]) -> usize {
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let taken = if self.takes_reads_for_lines { bytes.len() } else { whole };
        for line in String::from_utf8_lossy(&bytes[..taken]).lines() {
            self.hear(ctx, token, line);
        }
        if whole < bytes.len() {
            self.partial_lines += 1;
        }
        if bytes.len() - taken > LINE_BYTES_MAX {
            ctx.abort(token);
        }
        taken
    }

    fn on_close(&mut self, ctx: &mut Context<'_>, token: Token, (): (), _: CloseReason) {
        self.members.retain(|(member, _)| *member != token);
        self.tell_everybody(ctx, &format!("* {} here", self.members.len()));
    }
}
