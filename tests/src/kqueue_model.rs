//! The kqueue poller between arbitrary requests and arbitrary event lists: what it hands to the kernel, and what it makes of
//! what comes back.

mod kernel;

use std::fmt::Write;

use reactor::Token;
use reactor::parts::{Translated, Translation, Watched};
use reactor::sys::{Errno, Fd, Filter, Kevent, KeventFlags, Note, Wait};

use self::kernel::ListKernel;
use crate::account::{Account, Ending, quietly, same};
use crate::operands::Operands;

/// Operations of one run; further bytes are ignored.
const STEPS_MAX: usize = 500;

/// Carries out the operations that the bytes stand for.
///
/// # Panics
/// When poller and model differ, with everything that was done until then.
pub fn check(bytes: &[u8]) {
    carry_out(bytes).check("kqueue poller");
}

/// What the bytes do, in words.
pub fn tell(bytes: &[u8]) -> String {
    carry_out(bytes).to_string()
}

fn carry_out(bytes: &[u8]) -> Account {
    let mut run = Run::new(Operands::new(bytes));
    let ended = quietly(|| run.steps());
    Account::new(run.story, ended)
}

struct Run<'a> {
    input: Operands<'a>,
    kernel: ListKernel,
    poller: Translation,
    events_per_wait: usize,
    /// What the next wait has to hand over, in order.
    changes: Vec<Kevent>,
    story: String,
}

impl<'a> Run<'a> {
    fn new(mut input: Operands<'a>) -> Run<'a> {
        let events_per_wait = input.pick(&[4, 1, 2, 64]);
        let mut kernel = ListKernel::default();
        let poller = Translation::new(&mut kernel, events_per_wait).expect("this kernel refuses nothing");
        let story = format!("A poller that takes {events_per_wait} events at a time.\n");
        Run { input, kernel, poller, events_per_wait, changes: Vec::new(), story }
    }

    fn steps(&mut self) -> Ending {
        let waker = self.kernel.seen.pop().ok_or("no waker was added")?;
        same("changes that make a poller", waker.len(), 1)?;
        same("the waker's filter", waker[0].filter, Filter::User)?;
        // CLEAR, or it would be reported for ever (K45).
        same("the waker's flags", waker[0].flags, KeventFlags::ADD | KeventFlags::CLEAR)?;
        for _ in 0..STEPS_MAX {
            if self.input.is_empty() {
                break;
            }
            match self.input.byte() % 8 {
                0 | 1 => self.register()?,
                2 => self.arm_write(),
                3 => self.forget(),
                4..=7 => self.wait()?,
                _ => unreachable!(),
            }
        }
        self.wait()
    }

    fn who(&mut self) -> (Fd, Token) {
        let (number, generation) = (self.input.byte() % 8, self.input.byte() % 4);
        (Fd::from_raw(number as i32 + 3), Token::from_word(number << 32 | generation))
    }

    fn expect(&mut self, fd: Fd, filter: Filter, flags: KeventFlags, token: Token) {
        let ident = u64::try_from(fd.as_raw()).unwrap_or_default();
        self.changes.push(Kevent { ident, filter, flags, udata: token.as_word(), ..Kevent::EMPTY });
    }

    fn register(&mut self) -> Ending {
        let (fd, token) = self.who();
        let what = self.input.pick(&[Watched::Stream, Watched::Connecting, Watched::Listener]);
        let _ = writeln!(self.story, "- watch descriptor {} of {token:?}: {what:?}", fd.as_raw());
        let answer = self.poller.register(&mut self.kernel, fd, token, what);
        self.expect(fd, Filter::Read, KeventFlags::ADD | KeventFlags::CLEAR, token);
        if what == Watched::Connecting {
            self.expect_write(fd, token);
        }
        same("register", answer, Ok(()))
    }

    fn expect_write(&mut self, fd: Fd, token: Token) {
        // DISPATCH: one report, and then silence until it is asked for again (K8, K10).
        let flags = KeventFlags::ADD | KeventFlags::ENABLE | KeventFlags::DISPATCH;
        self.expect(fd, Filter::Write, flags, token);
    }

    fn arm_write(&mut self) {
        let (fd, token) = self.who();
        let _ = writeln!(self.story, "- tell when descriptor {} of {token:?} has room", fd.as_raw());
        self.poller.arm_write(fd, token);
        self.expect_write(fd, token);
    }

    fn forget(&mut self) {
        let (fd, _) = self.who();
        let _ = writeln!(self.story, "- descriptor {} is about to be closed", fd.as_raw());
        self.poller.forget(fd);
        self.changes.retain(|change| change.ident != fd.as_raw() as u64);
    }

    fn wait(&mut self) -> Ending {
        let room = self.events_per_wait.max(self.changes.len());
        let count = (self.input.byte() as usize % 8).min(room);
        let events: Vec<Kevent> = (0..count).map(|_| self.event()).collect();
        let timeout_ns = self.input.pick(&[None, Some(0), Some(1), Some(u64::MAX)]);
        self.kernel.answer = match self.input.byte() {
            0x80.. if count == 0 => {
                Err(self.input.pick(&[Errno::EINTR, Errno::ENOMEM, Errno::Unlisted(255)]))
            }
            0x40.. if count == 0 => Ok(Wait::Parked),
            _ => Ok(Wait::Ready(count)),
        };
        self.kernel.events.clone_from(&events);
        let answer = self.poller.wait(&mut self.kernel, timeout_ns);
        let _ = writeln!(self.story, "- waited for {timeout_ns:?} ns: {answer:?}");
        same("the kernel's answer", answer, self.kernel.answer)?;
        same("the timeout", self.kernel.timeout_ns, timeout_ns)?;
        let changes = self.kernel.seen.pop().ok_or("no call was made")?;
        same("calls of one wait", self.kernel.seen.len(), 0)?;
        same("changes handed over", &changes, &self.changes)?;
        // K16: a change that fails has to have room to say so, beside the events that a wait may bring.
        let enough = self.kernel.room >= self.events_per_wait.max(changes.len());
        same("whether every change has room for its error", enough, true)?;
        self.changes.clear();
        for (index, event) in events.iter().enumerate() {
            let report = self.poller.report(index);
            let _ = writeln!(self.story, "  {event:?} -> {report:?}");
            check_report(event, report)?;
        }
        Ok(())
    }

    /// Any entry at all; no kernel promises less than that it has this form.
    fn event(&mut self) -> Kevent {
        let shape = self.input.byte();
        let word = self.input.byte();
        let flags = self.input.pick(&[
            KeventFlags::empty(),
            KeventFlags::EOF,
            KeventFlags::ERROR,
            KeventFlags::CLEAR,
            KeventFlags::EOF | KeventFlags::ERROR,
            KeventFlags::EOF | KeventFlags::CLEAR,
            KeventFlags::EOF | KeventFlags::DISPATCH | KeventFlags::DISABLE,
            KeventFlags::all(),
        ]);
        let error = self.input.pick(Errno::LISTED);
        let note = [Note::None, Note::Error(error), Note::Trigger, Note::Error(Errno::Unlisted(-1))];
        Kevent {
            ident: word,
            filter: [Filter::Read, Filter::Write, Filter::User][shape as usize % 3],
            flags,
            note: note[shape as usize / 3 % 4],
            data: [0, i64::MIN, i64::MAX, word.cast_signed()][shape as usize / 12 % 4],
            udata: if shape & 0x80 == 0 { ((word % 8) << 32) | (word / 8 % 4) } else { u64::MAX - word },
        }
    }
}

/// What the facts about kqueue say of an entry.
fn check_report(event: &Kevent, report: Translated) -> Ending {
    same("whom it is for", report.token.as_word(), event.udata)?;
    let silent = [report.readable, report.writable, report.hangup, report.failed] == [false; 4];
    if event.flags.contains(KeventFlags::ERROR) {
        // The answer to a change (K16, K17): it says nothing about the source.
        let refused = match event.note {
            Note::Error(error) => Some(error),
            Note::None | Note::Trigger => None,
        };
        same("the refusal", report.refused, refused)?;
        return same("whether an answer to a change leaves readiness alone", silent, true);
    }
    same("the refusal of an event", report.refused, None)?;
    same("whether an event says nothing", silent, false)?;
    let ended = event.flags.contains(KeventFlags::EOF);
    let broken = ended && matches!(event.note, Note::Error(_));
    // K27: the error that ended a direction is the connection's.
    same("failed", report.failed, broken)?;
    // K26, K29: the end of the write filter says nothing of the peer.
    same("hangup", report.hangup, broken || ended && event.filter == Filter::Read)?;
    same("writable", report.writable, broken || event.filter == Filter::Write)?;
    same("readable", report.readable, broken || event.filter != Filter::Write)
}
