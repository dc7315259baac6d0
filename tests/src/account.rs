//! What became of a model and what it is held against: everything that was done, in words, and the first difference.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// Nothing, or the first difference.
pub type Ending = Result<(), String>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Account {
    story: String,
    difference: Option<String>,
}

impl Account {
    /// A story that ended so; a panic counts as a difference.
    pub fn new(story: String, ended: Result<Ending, String>) -> Account {
        let difference = match ended {
            Ok(Ok(())) => None,
            Ok(Err(difference)) => Some(difference),
            Err(panic) => Some(format!("a panic: {panic}")),
        };
        Account { story, difference }
    }

    /// Sees that there was no difference.
    ///
    /// # Panics
    /// When there was one.
    pub fn check(&self, of: &str) {
        assert!(self.difference.is_none(), "\nthe {of} and its model differ\n{self}");
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story)?;
        match &self.difference {
            None => f.write_str("All of it as it should be."),
            Some(difference) => write!(f, "BROKEN: {difference}"),
        }
    }
}

/// Compares an answer with the model's.
///
/// # Errors
/// When they are not the same.
pub fn same<T: PartialEq + fmt::Debug>(what: &str, answer: T, model: T) -> Ending {
    if answer == model {
        Ok(())
    } else {
        Err(format!("{what}: the answer is {answer:?}, the model says {model:?}"))
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `act`; a panic is the error. The panic hook - libFuzzer's would end the process - does not hear of it.
///
/// # Errors
/// The message of a panic, and its place.
pub fn quietly<R>(act: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if QUIET.get() {
                let message = info.payload_as_str().unwrap_or("without a message");
                let place = info.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
                LAST.set(Some(format!("{message}{}", place.unwrap_or_default())));
            } else {
                before(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    // What a panic leaves half done is told of, and then dropped.
    let ended = catch_unwind(AssertUnwindSafe(act));
    QUIET.set(outer);
    ended.map_err(|_| LAST.take().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        let ended = quietly(|| -> Ending { panic!("the wheel came off") });
        let account = Account::new("It rolled.\n".to_owned(), ended);
        let told = account.to_string();
        assert!(told.starts_with("It rolled.\nBROKEN: a panic: the wheel came off ("), "{told}");
        assert!(quietly(|| account.check("wheel")).is_err());
    }

    #[test]
    fn a_difference_names_both_sides() {
        let account = Account::new(String::new(), Ok(same("len", 1, 2)));
        assert_eq!(account.to_string(), "BROKEN: len: the answer is 1, the model says 2");
        Account::new(String::new(), Ok(same("len", 2, 2))).check("list");
    }
}
