//! Which readiness calls the loops of a soak make: the system's own, or kqueue on Linux through the C library `libkqueue`.

use reactor::sys::{Readiness, Syscalls, System};

use crate::Failure;

/// A family of readiness calls, by its name on the command line.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum PollerKind {
    /// `epoll(7)`.
    Epoll,
    /// `kqueue(2)`.
    Kqueue,
}

impl PollerKind {
    /// Every kind.
    const ALL: [PollerKind; 2] = [PollerKind::Epoll, PollerKind::Kqueue];

    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            PollerKind::Epoll => "epoll",
            PollerKind::Kqueue => "kqueue",
        }
    }

    fn of_this_system() -> PollerKind {
        match System::new().readiness() {
            Readiness::Epoll => PollerKind::Epoll,
            Readiness::Kqueue => PollerKind::Kqueue,
        }
    }
}

/// What the loops of a soak make their system calls on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Backend {
    /// The system's own calls.
    Own(PollerKind),
    /// The kqueue backend on a Linux kernel.
    #[cfg(all(target_os = "linux", feature = "libkqueue"))]
    Libkqueue,
}

impl Backend {
    /// The backend with the poller of this name; without a name, the system's own.
    ///
    /// # Errors
    /// Usage: there is no such poller, or this program has none on this system. Machine: it needs a library that is not here.
    pub(crate) fn with_poller(name: Option<&str>) -> Result<Backend, Failure> {
        let own = PollerKind::of_this_system();
        let Some(name) = name else { return Ok(Backend::Own(own)) };
        match PollerKind::ALL.into_iter().find(|kind| kind.name() == name) {
            None => {
                let names = PollerKind::ALL.map(PollerKind::name).join(", ");
                Err(Failure::Usage(format!("there is no poller {name}; there are {names}")))
            }
            Some(kind) if kind == own => Ok(Backend::Own(own)),
            Some(PollerKind::Kqueue) => libkqueue(),
            Some(PollerKind::Epoll) => {
                Err(Failure::Usage(format!("this system has no epoll; its own poller is {}", own.name())))
            }
        }
    }

    /// The poller on top of it.
    pub(crate) const fn poller(self) -> PollerKind {
        match self {
            Backend::Own(kind) => kind,
            #[cfg(all(target_os = "linux", feature = "libkqueue"))]
            Backend::Libkqueue => PollerKind::Kqueue,
        }
    }
}

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
fn libkqueue() -> Result<Backend, Failure> {
    match reactor::sys::libkqueue::missing() {
        None => Ok(Backend::Libkqueue),
        Some(problem) => Err(Failure::Machine(format!(
            "--poller kqueue needs the C library libkqueue on this system: {problem}; build it (CONTRIBUTING.md says how) and \
             point LD_LIBRARY_PATH at its folder"
        ))),
    }
}

#[cfg(not(all(target_os = "linux", feature = "libkqueue")))]
fn libkqueue() -> Result<Backend, Failure> {
    Err(Failure::Usage(
        "--poller kqueue needs the C library libkqueue on this system, and this program was built without it; build it with \
         `cargo build -p soak --features libkqueue`"
            .to_owned(),
    ))
}
