//! Signals to a soak: once to stop and sum up, twice to leave; one more for the status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::Failure;
use crate::member::spawn;

/// What signals have asked for.
#[derive(Default, Debug)]
pub(super) struct Asked {
    stop: AtomicBool,
    status: AtomicBool,
}

impl Asked {
    /// Listens to signals from now on.
    ///
    /// # Errors
    /// Machine: the system does not let it.
    pub(super) fn listen() -> Result<Arc<Asked>, Failure> {
        let asked = Arc::new(Asked::default());
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1])
            .map_err(|error| Failure::Machine(format!("signal handlers: {error}")))?;
        let told = Arc::clone(&asked);
        spawn("signals", move || {
            for signal in signals.forever() {
                if signal == SIGUSR1 {
                    told.status.store(true, Ordering::SeqCst);
                } else if told.stop.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
            }
        })?;
        Ok(asked)
    }

    /// Whether somebody wants the run to end.
    pub(super) fn wants_stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Whether somebody wants to know how it stands; asked for once, told once.
    pub(super) fn take_status(&self) -> bool {
        self.status.swap(false, Ordering::SeqCst)
    }
}
