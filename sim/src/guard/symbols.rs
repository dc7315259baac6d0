//! The two symbols. `unsafe` is allowed here: they are C functions, and pass on what C callers gave them.
#![allow(unsafe_code)]

use std::backtrace::Backtrace;
use std::cell::Cell;

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

thread_local! {
    /// The backtrace printer may itself read a clock.
    static REFUSING: Cell<bool> = const { Cell::new(false) };
}

/// The first frame above the call that is of no library, with its place where the build knows it.
fn culprit(frames: &str, call: &str) -> Option<String> {
    let name_of = |line: &str| {
        let (number, name) = line.trim_start().split_once(": ")?;
        number.parse::<u32>().ok().map(|_| name.trim().to_owned())
    };
    // Without places names are whole paths; with them they are short, and the place tells.
    let is_of_a_library = |name: &str, place: Option<&str>| {
        let path = name.trim_start_matches(['<', '&']);
        let standard = ["std", "core", "alloc", "hashbrown"]
            .iter()
            .any(|library| path.strip_prefix(library).is_some_and(|rest| rest.starts_with(['[', ':'])));
        let elsewhere = ["/rustc/", "/registry/src/", "/rustlib/src/"];
        standard || place.is_some_and(|place| elsewhere.iter().any(|folder| place.contains(folder)))
    };
    let mut lines =
        frames.lines().skip_while(|line| name_of(line).as_deref() != Some(call)).skip(1).peekable();
    while let Some(line) = lines.next() {
        let Some(name) = name_of(line) else { continue };
        let place = lines.peek().map(|line| line.trim()).filter(|line| line.starts_with("at "));
        if !is_of_a_library(&name, place) {
            return Some(place.map_or_else(|| name.clone(), |place| format!("{name} {place}")));
        }
    }
    None
}

fn refuse_inside_a_run(call: &str) {
    if !super::is_inside() || REFUSING.replace(true) {
        return;
    }
    let frames = Backtrace::force_capture().to_string();
    eprintln!("{call} was called inside a simulated run: nothing but the seed may decide there");
    eprintln!("  by        {}", culprit(&frames, call).as_deref().unwrap_or("a caller among these frames"));
    if let Some(seed) = super::named_run() {
        eprintln!("  replay    sim replay {seed:#018x}");
    }
    eprintln!("called from:\n{frames}");
    std::process::abort();
}

/// Stands before the C library's `clock_gettime`.
///
/// # Safety
/// As for the C function: `time` is null or points to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    refuse_inside_a_run("clock_gettime");
    // SAFETY: the kernel checks both arguments, and answers EFAULT for a pointer that it cannot write to.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int }
}

/// Stands before the C library's `getrandom`.
///
/// # Safety
/// As for the C function: `buffer` points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    refuse_inside_a_run("getrandom");
    // SAFETY: the kernel checks the arguments, and answers EFAULT for a buffer that it cannot write to.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as ssize_t }
}
