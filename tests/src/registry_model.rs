//! The registry against a map of tokens: a token that has died never names anybody again.

use std::collections::BTreeMap;
use std::fmt::Write;

use reactor::Token;
use reactor::parts::Tenants;

use crate::account::{Account, Ending, quietly, same};
use crate::operands::Operands;

/// Operations of one run; further bytes are ignored.
const STEPS_MAX: usize = 1000;

/// Carries out the operations that the bytes stand for.
///
/// # Panics
/// When registry and model differ, with everything that was done until then.
pub fn check(bytes: &[u8]) {
    carry_out(bytes).check("registry");
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
    tenants: Tenants,
    slots_max: usize,
    /// Every token ever given out, and the tag of its tenant while it lives.
    issued: BTreeMap<Token, Option<u64>>,
    /// The same tokens in the order in which they were given out.
    order: Vec<Token>,
    live: usize,
    live_peak: usize,
    story: String,
}

impl<'a> Run<'a> {
    fn new(mut input: Operands<'a>) -> Run<'a> {
        let slots_max = input.pick(&[4, 0, 1, 2, 16, 255]);
        let generation = input.pick(&[0, u32::MAX, u32::MAX - 2, 1 << 31]);
        let story = format!("A registry of at most {slots_max} slots, generations from {generation}.\n");
        Run {
            input,
            tenants: Tenants::new(slots_max, generation),
            slots_max: slots_max as usize,
            issued: BTreeMap::new(),
            order: Vec::new(),
            live: 0,
            live_peak: 0,
            story,
        }
    }

    fn steps(&mut self) -> Ending {
        self.compare()?;
        for _ in 0..STEPS_MAX {
            if self.input.is_empty() {
                break;
            }
            match self.input.byte() % 8 {
                0..=2 => self.insert()?,
                3 | 4 => self.remove(),
                5 => self.look_up()?,
                6 => self.change()?,
                7 => self.stranger()?,
                _ => unreachable!(),
            }
            self.compare()?;
        }
        for token in self.tenants.tokens() {
            self.tenants.remove(token);
            self.issued.insert(token, None);
            self.live -= 1;
        }
        self.compare()
    }

    fn insert(&mut self) -> Ending {
        let tag = self.order.len() as u64;
        let answer = self.tenants.insert(tag);
        let _ = writeln!(self.story, "- let somebody in: {answer:?}");
        same("whether there is room", answer.is_some(), self.live < self.slots_max)?;
        let Some(token) = answer else { return Ok(()) };
        same("whether the token was given out before", self.issued.contains_key(&token), false)?;
        self.issued.insert(token, Some(tag));
        self.order.push(token);
        self.live += 1;
        self.live_peak = self.live_peak.max(self.live);
        // Slots are reused before a new one is taken.
        same("whether the slot was needed", (token.slot() as usize) < self.live_peak, true)
    }

    fn remove(&mut self) {
        let living: Vec<Token> = self.living().map(|(token, _)| token).collect();
        if living.is_empty() {
            return;
        }
        let token = living[self.input.byte() as usize % living.len()];
        let _ = writeln!(self.story, "- {token:?} left");
        self.tenants.remove(token);
        self.issued.insert(token, None);
        self.live -= 1;
    }

    /// Some token that was given out, living or dead.
    fn pick(&mut self) -> Option<Token> {
        let place = self.input.byte() as usize;
        (!self.order.is_empty()).then(|| self.order[place % self.order.len()])
    }

    fn look_up(&mut self) -> Ending {
        let Some(token) = self.pick() else { return Ok(()) };
        let answer = self.tenants.tag(token);
        let _ = writeln!(self.story, "- looked up {token:?}: {answer:?}");
        same("the tag of a token", answer, self.issued[&token])
    }

    fn change(&mut self) -> Ending {
        let Some(token) = self.pick() else { return Ok(()) };
        let tag = 1 << 32 | self.input.byte();
        let answer = self.tenants.set_tag(token, tag);
        let _ = writeln!(self.story, "- gave {token:?} the tag {tag:#x}: {answer}");
        let living = self.issued.get_mut(&token).and_then(Option::as_mut);
        same("whether a token lives", answer, living.is_some())?;
        if let Some(known) = living {
            *known = tag;
        }
        Ok(())
    }

    /// A word that the kernel might return, and that nobody was given.
    fn stranger(&mut self) -> Ending {
        let (slot, generation) = (self.input.byte(), self.input.byte());
        let slot = if slot < 0x80 { slot } else { u64::from(u32::MAX) - (slot & 0x7f) };
        let generation =
            if generation < 0x80 { generation } else { u64::from(u32::MAX) - (generation & 0x7f) };
        let token = Token::from_word(slot << 32 | generation);
        let known = self.issued.get(&token).copied().flatten();
        let answer = self.tenants.tag(token);
        let _ = writeln!(self.story, "- looked up the word of {token:?}: {answer:?}");
        same("the tag of a word", answer, known)
    }

    fn living(&self) -> impl Iterator<Item = (Token, u64)> {
        self.issued.iter().filter_map(|(&token, &tag)| Some((token, tag?)))
    }

    fn compare(&self) -> Ending {
        self.tenants.assert_invariants();
        same("live", self.tenants.live(), self.live)?;
        let living: Vec<Token> = self.living().map(|(token, _)| token).collect();
        same("tokens", self.tenants.tokens(), living)?;
        let wrong = self.issued.iter().find(|&(&token, &tag)| self.tenants.tag(token) != tag);
        same("the first token with a wrong answer", wrong, None)
    }
}
