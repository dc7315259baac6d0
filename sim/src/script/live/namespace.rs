//! A network of its own for one script, in a child process: its ports and its loopback are nobody else's.

#![allow(unsafe_code, reason = "system calls")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::mem;
use std::os::fd::FromRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use reactor::sys::Errno;

use super::super::driver::Failure;
use super::super::probe::SocketKind;
use super::super::subject::Verdict;
use super::{Answer, check, descriptor, socket};

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Runs the work in a child process that has a network of its own, whose loopback is down and has no address yet.
///
/// Skipped where the machine refuses that, and in a process of several threads: after a fork the child has only one of
/// them, and what the others held stays held for ever.
pub(in crate::script) fn apart(work: impl FnOnce() -> Verdict) -> Verdict {
    let threads = fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Verdict::Skipped(format!("a process of {threads} threads cannot be forked safely"));
    }
    let (reader, writer) = match plain_pipe() {
        Ok(ends) => ends,
        Err(error) => return Verdict::Skipped(format!("no pipe to a child: {error}")),
    };
    // SAFETY: the process has one thread, so that the child is a whole copy of it.
    match unsafe { libc::fork() } {
        ..0 => Verdict::Skipped(format!("no child process: {}", super::last_error())),
        0 => {
            drop(reader);
            child(writer, work)
        }
        child => {
            drop(writer);
            let verdict = verdict_from(reader);
            // SAFETY: `child` is ours and has not been waited for; nothing is written without a place for the status.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            verdict
        }
    }
}

/// A blocking pipe.
fn plain_pipe() -> Answer<(File, File)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` has room for the two numbers that the call writes.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made both numbers for us, and nothing else knows them.
    Ok(unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) })
}

/// The whole life of the child: it never returns into what its parent was doing.
fn child(mut writer: File, work: impl FnOnce() -> Verdict) -> ! {
    let entered = || match enter() {
        Ok(()) => work(),
        Err(reason) => Verdict::Skipped(reason),
    };
    let verdict = catch_unwind(AssertUnwindSafe(entered))
        .unwrap_or_else(|_| failed_outside_a_step("the script panicked".to_owned()));
    // If the parent is gone there is nobody to tell.
    let _ = writer.write_all(written(&verdict).as_bytes());
    // SAFETY: ends the process at once: what the parent has buffered is the parent's to write.
    unsafe { libc::_exit(0) }
}

fn failed_outside_a_step(found: String) -> Verdict {
    Verdict::Failed(Failure { line: 0, step: "a child process with a network of its own".to_owned(), found })
}

/// Parts of a verdict on its way to the parent; no script has this character.
const SEPARATOR: char = '\0';

fn written(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed => "passed".to_owned(),
        Verdict::Skipped(reason) => format!("skipped{SEPARATOR}{reason}"),
        Verdict::Failed(Failure { line, step, found }) => {
            format!("failed{SEPARATOR}{line}{SEPARATOR}{step}{SEPARATOR}{found}")
        }
    }
}

fn verdict_from(mut reader: File) -> Verdict {
    let mut text = String::new();
    if let Err(error) = reader.read_to_string(&mut text) {
        return failed_outside_a_step(error.to_string());
    }
    let parts: Vec<&str> = text.split(SEPARATOR).collect();
    match parts[..] {
        ["passed"] => Verdict::Passed,
        ["skipped", reason] => Verdict::Skipped(reason.to_owned()),
        ["failed", line, step, found] => Verdict::Failed(Failure {
            line: line.parse().unwrap_or(0),
            step: step.to_owned(),
            found: found.to_owned(),
        }),
        _ => failed_outside_a_step("it ended without a word".to_owned()),
    }
}

/// Moves this process, which must have one thread, into a fresh network.
fn enter() -> Result<(), String> {
    // SAFETY: both take nothing.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    // SAFETY: takes a number only.
    let with_user = check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) });
    match with_user {
        Ok(()) => {
            // Without a name for this user the new network's settings would belong to nobody.
            fs::write("/proc/self/setgroups", "deny")
                .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {user} 1")))
                .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {group} 1")))
                .map_err(|error| format!("no user in the new namespace: {error}"))?;
        }
        // Where user namespaces are forbidden, the super-user may have a network without one.
        // SAFETY: takes a number only.
        Err(error) => check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
            .map_err(|_| format!("unshare(2) of user and network: {error}"))?,
    }
    APART.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether this process has a network of its own: only there are the settings ours to change.
static APART: AtomicBool = AtomicBool::new(false);

/// Whether the loopback of that network has been brought up.
static HAS_BEEN_UP: AtomicBool = AtomicBool::new(false);

fn must_be_apart() -> Answer<()> {
    if APART.load(Ordering::Relaxed) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Sets the range of ephemeral ports, both ends included. `EPERM` outside of a network of its own.
pub(super) fn set_ports(low: u16, high: u16) -> Answer<()> {
    must_be_apart()?;
    fs::write(PORT_RANGE, format!("{low} {high}"))
        .map_err(|error| Errno::from_host_number(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Brings the loopback up, which gives it its address and its route. It has neither before, and keeps both when it goes
/// down again, so that down is only what it is at first: `EINVAL` later. `EPERM` outside of a network of its own.
pub(super) fn set_loopback(up: bool) -> Answer<()> {
    must_be_apart()?;
    if !up {
        return if HAS_BEEN_UP.load(Ordering::Relaxed) { Err(Errno::EINVAL) } else { Ok(()) };
    }
    HAS_BEEN_UP.store(true, Ordering::Relaxed);
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let fd = socket::socket(SocketKind::Udp)?;
    // SAFETY: `request` names an interface and its flags, which is what this call reads.
    let answer = check(unsafe { libc::ioctl(fd.as_raw(), libc::SIOCSIFFLAGS, &raw const request) });
    descriptor::discard(fd);
    answer
}

/// Why no script can have a network of its own here.
pub(super) fn missing() -> Option<String> {
    match apart(|| Verdict::Passed) {
        Verdict::Passed => None,
        Verdict::Skipped(reason) => Some(reason),
        Verdict::Failed(failure) => Some(failure.found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_its_way_to_the_parent() {
        let failure = Failure { line: 7, step: "a -> b".to_owned(), found: "x\ny".to_owned() };
        for verdict in [Verdict::Passed, Verdict::Skipped("why".to_owned()), Verdict::Failed(failure)] {
            let (reader, mut writer) = plain_pipe().unwrap();
            writer.write_all(written(&verdict).as_bytes()).unwrap();
            drop(writer);
            assert_eq!(verdict_from(reader), verdict);
        }
        let (reader, writer) = plain_pipe().unwrap();
        drop(writer);
        assert!(matches!(verdict_from(reader), Verdict::Failed(_)));
    }

    #[test]
    fn the_network_of_the_machine_is_left_alone() {
        assert_eq!(set_ports(40_000, 40_003), Err(Errno::EPERM));
        assert_eq!(set_loopback(false), Err(Errno::EPERM));
    }
}
