//! The two symbols. `unsafe` is allowed here: they are C functions, and pass on what C callers gave them.
#![allow(unsafe_code)]

use std::backtrace::Backtrace;
use std::cell::Cell;

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

thread_local! {
    /// The backtrace printer may itself read a clock.
    static REFUSING: Cell<bool> = const { Cell::new(false) };
}

fn refuse_inside_a_run(call: &str) {
    if !super::is_inside() || REFUSING.replace(true) {
        return;
    }
    eprintln!(
        "{call} was called inside a simulated run: nothing but the seed may decide there. Called from:"
    );
    eprintln!("{}", Backtrace::force_capture());
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
