//! The kernels that a script can run on.

use std::net::Ipv4Addr;

#[cfg(target_os = "linux")]
use super::capability::Capability;
use super::driver::{Driver, Failure};
use super::simulated::synchronous;
use super::step::{Only, Script};
use crate::kernel::Kernel;

/// How a script ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every step answered what it must.
    Passed,
    /// It was not run, for this reason.
    Skipped(String),
    /// A step answered something else.
    Failed(Failure),
}

/// Which kernel runs a script.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The simulated kernel of this kind.
    Simulated(Kernel),
    /// The kernel of this machine, which must be Linux.
    Live,
}

impl Subject {
    /// Every subject.
    pub const ALL: [Subject; 4] = [
        Subject::Live,
        Subject::Simulated(Kernel::Linux),
        Subject::Simulated(Kernel::Freebsd),
        Subject::Simulated(Kernel::Macos),
    ];

    /// As it is written in options and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Subject::Live => "live",
            Subject::Simulated(Kernel::Linux) => "linux",
            Subject::Simulated(Kernel::Freebsd) => "freebsd",
            Subject::Simulated(Kernel::Macos) => "macos",
        }
    }

    /// The subject with this name.
    pub fn from_name(name: &str) -> Option<Subject> {
        Subject::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// Whether the script speaks of this kernel at all.
    pub fn concerns(self, script: &Script) -> bool {
        match self {
            Subject::Live => script.is_on(Kernel::Linux),
            Subject::Simulated(kernel) => script.is_on(kernel),
        }
    }

    /// Runs the script; its sockets live at `host`, an address of 127.0.0.0/8 that no other script uses meanwhile.
    pub fn run(self, script: &Script, host: Ipv4Addr) -> Verdict {
        match (self, &script.only) {
            (Subject::Live, Some(Only::Simulated(reason)))
            | (Subject::Simulated(_), Some(Only::Live(reason))) => Verdict::Skipped(reason.clone()),
            (Subject::Simulated(kernel), _) => {
                let mut probe = synchronous(kernel);
                verdict(Driver::new(&mut probe, host).run(script))
            }
            (Subject::Live, _) => run_live(script, host),
        }
    }
}

fn verdict(result: Result<(), Failure>) -> Verdict {
    result.map_or_else(Verdict::Failed, |()| Verdict::Passed)
}

#[cfg(target_os = "linux")]
fn run_live(script: &Script, host: Ipv4Addr) -> Verdict {
    let needed = Capability::needed_by(script);
    for capability in &needed {
        if let Some(reason) = capability.missing() {
            return Verdict::Skipped(format!("{} is missing: {reason}", capability.name()));
        }
    }
    let run = || match super::live::Live::new() {
        Ok(mut probe) => verdict(Driver::new(&mut probe, host).run(script)),
        Err(error) => Verdict::Skipped(format!("the live kernel cannot be probed: {error}")),
    };
    if needed.contains(&Capability::NetworkNamespace) { super::live::apart(run) } else { run() }
}

#[cfg(not(target_os = "linux"))]
fn run_live(_: &Script, _: Ipv4Addr) -> Verdict {
    Verdict::Skipped("this machine does not run Linux".to_owned())
}

/// Runs a script about kqueue on the live kernel with the kqueues of the C library `libkqueue`: a third opinion beside the two simulated kernels.
#[cfg(all(target_os = "linux", feature = "libkqueue"))]
pub fn run_over_libkqueue(script: &Script, host: Ipv4Addr) -> Verdict {
    if let Some(problem) = reactor::sys::libkqueue::missing() {
        return Verdict::Skipped(format!("libkqueue is not here: {problem}"));
    }
    match super::live::Live::over_libkqueue() {
        Ok(mut probe) => verdict(Driver::new(&mut probe, host).run(script)),
        Err(error) => Verdict::Skipped(format!("the live kernel cannot be probed: {error}")),
    }
}
