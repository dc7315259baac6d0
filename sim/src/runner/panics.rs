//! Panics inside a run: caught, kept quiet, and remembered with their place.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::guard;
use crate::kernel::syscalls::Killed;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `act`; answers a panic's message and place as the error.
pub(crate) fn catch<R>(act: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if guard::is_inside() {
                LAST.with_borrow_mut(|last| *last = Some(describe(info)));
            } else {
                before(info);
            }
        }));
    });
    // What a panic leaves half done is dropped with the run; only counters of the world are looked at afterwards.
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| {
        LAST.with_borrow_mut(Option::take).unwrap_or_else(|| "a panic without a message".to_owned())
    })
}

/// Runs `act`; answers `None` when the process that it was part of was killed in the middle of it.
pub(super) fn until_killed<R>(act: impl FnOnce() -> R) -> Option<R> {
    // What the dead process leaves half done is its own memory, which is dropped unseen.
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => Some(result),
        Err(payload) if payload.is::<Killed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    match info.location() {
        Some(place) => format!("{message} ({}:{})", place.file(), place.line()),
        None => message.to_owned(),
    }
}
