//! What `libkqueue`, a C library that emulates `kqueue(2)` on Linux, declares in its `sys/event.h`; for tests.
//!
//! It stands in for the `libc` crate in `bsd`, under the same names. The library is loaded when it is first needed, from
//! where the dynamic linker looks (`LD_LIBRARY_PATH=DIR` where it is not installed), so that programs are built and run
//! without it; [`missing`] says whether it is there. What it does not do as a kernel does is made up for: the treatment of
//! the change list here, the rest in `system`.

#![allow(unsafe_code, reason = "calls of a C library")]
#![allow(non_camel_case_types, reason = "the names of C")]

mod system;

use std::ffi::CStr;
use std::ptr;
use std::sync::OnceLock;

use libc::{c_char, c_int, c_void, timespec};

pub use system::LibkqueueSystem;

/// `struct kevent`.
#[derive(Copy, Clone, Debug)]
#[repr(C)]
pub struct kevent {
    /// What it is about: a descriptor, a signal, any number.
    pub ident: usize,
    /// Which filter.
    pub filter: i16,
    /// `EV_` flags.
    pub flags: u16,
    /// Flags of the filter.
    pub fflags: u32,
    /// Data of the filter, or an error number.
    pub data: isize,
    /// The user's word.
    pub udata: *mut c_void,
}

pub(super) const EVFILT_READ: i16 = -1;
pub(super) const EVFILT_WRITE: i16 = -2;
pub(super) const EVFILT_USER: i16 = -11;

pub(super) const EV_ADD: u16 = 0x0001;
pub(super) const EV_DELETE: u16 = 0x0002;
pub(super) const EV_ENABLE: u16 = 0x0004;
pub(super) const EV_DISABLE: u16 = 0x0008;
pub(super) const EV_ONESHOT: u16 = 0x0010;
pub(super) const EV_CLEAR: u16 = 0x0020;
pub(super) const EV_RECEIPT: u16 = 0x0040;
pub(super) const EV_DISPATCH: u16 = 0x0080;
pub(super) const EV_EOF: u16 = 0x8000;
pub(super) const EV_ERROR: u16 = 0x4000;

pub(super) const NOTE_TRIGGER: u32 = 0x0100_0000;

type KqueueCall = unsafe extern "C" fn() -> c_int;
type KeventCall =
    unsafe extern "C" fn(c_int, *const kevent, c_int, *mut kevent, c_int, *const timespec) -> c_int;

struct Library {
    kqueue: KqueueCall,
    kevent: KeventCall,
}

fn library() -> Result<&'static Library, &'static str> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    LIBRARY.get_or_init(load).as_ref().map_err(String::as_str)
}

fn load() -> Result<Library, String> {
    let names = [c"libkqueue.so.0", c"libkqueue.so"];
    let flags = libc::RTLD_NOW | libc::RTLD_LOCAL;
    let mut problem = String::new();
    for name in names {
        // SAFETY: the name is a string of C; the library's constructors only initialise it. It is never unloaded.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if handle.is_null() {
            // SAFETY: takes nothing.
            problem = text(unsafe { libc::dlerror() });
            continue;
        }
        // SAFETY: the handle is live, the names are strings of C.
        let found =
            unsafe { [libc::dlsym(handle, c"kqueue".as_ptr()), libc::dlsym(handle, c"kevent".as_ptr())] };
        if found.contains(&ptr::null_mut()) {
            return Err(format!("{name:?} has no kqueue or no kevent"));
        }
        // SAFETY: the library's header declares functions of these types under these names.
        return Ok(unsafe {
            Library {
                kqueue: std::mem::transmute::<*mut c_void, KqueueCall>(found[0]),
                kevent: std::mem::transmute::<*mut c_void, KeventCall>(found[1]),
            }
        });
    }
    Err(problem)
}

fn text(message: *const c_char) -> String {
    if message.is_null() {
        return "the library cannot be loaded".to_owned();
    }
    // SAFETY: not null, so a string of C that stays until the next call of the loader on this thread.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}

/// Why the library is not there; `None` if it is.
pub fn missing() -> Option<&'static str> {
    library().err()
}

/// `kqueue(2)` of the library; -1 if it is missing.
///
/// # Safety
/// None beyond what calls of a C library need.
pub unsafe fn kqueue() -> c_int {
    // SAFETY: takes nothing.
    library().map_or(-1, |library| unsafe { (library.kqueue)() })
}

/// `kevent(2)` as the library has it; -1 if it is missing.
///
/// # Safety
/// As `kevent(2)`: the lists have the lengths given, and the timeout is null or valid.
pub unsafe fn library_kevent(
    kqueue: c_int,
    changes: *const kevent,
    changes_length: c_int,
    events: *mut kevent,
    events_length: c_int,
    timeout: *const timespec,
) -> c_int {
    let Ok(library) = library() else { return -1 };
    // SAFETY: the caller's promise.
    unsafe { (library.kevent)(kqueue, changes, changes_length, events, events_length, timeout) }
}

/// One change; its error number, 0 where it was applied.
///
/// The library refuses to add a filter of a socket again unless EV_CLEAR is asked for, and sets no error number then.
/// When it does accept that, it takes the new word and EV_DISPATCH, and leaves the mode as it was: what a kernel does at
/// any re-add (kernel-semantics K2).
fn apply(kqueue: c_int, entry: kevent) -> c_int {
    let call = |entry: &kevent| -> c_int {
        // SAFETY: the place of this thread's errno is live.
        unsafe { *errno_place() = 0 };
        // SAFETY: one entry to read, no room to write, no timeout.
        let answer = unsafe { library_kevent(kqueue, entry, 1, ptr::null_mut(), 0, ptr::null()) };
        if answer >= 0 {
            return 0;
        }
        match std::io::Error::last_os_error().raw_os_error() {
            None | Some(0) => UNSAID,
            Some(number) => number,
        }
    };
    let number = call(&entry);
    if number == UNSAID && entry.flags & EV_ADD != 0 {
        return call(&kevent { flags: entry.flags | EV_CLEAR, ..entry });
    }
    number
}

/// The error of a call that failed and left no error number.
const UNSAID: c_int = libc::EIO;

#[cfg(target_os = "android")]
use libc::__errno as errno_place;
#[cfg(target_os = "linux")]
use libc::__errno_location as errno_place;

/// `kevent`, with the change list as kernels treat it: when a change has made an entry, the call returns just those and
/// does not wait (kernel-semantics K16, K17). The library waits then, and loses the entries if the wait times out.
///
/// # Safety
/// As `kevent(2)`: the lists have the lengths given, and the timeout is null or valid.
pub(super) unsafe fn kevent(
    kqueue: c_int,
    changes: *const kevent,
    changes_length: c_int,
    events: *mut kevent,
    events_length: c_int,
    timeout: *const timespec,
) -> c_int {
    let mut stored = 0;
    for at in 0..usize::try_from(changes_length).unwrap_or(0) {
        // SAFETY: `at` is below the length of the change list, and an entry is plain data.
        let mut entry = unsafe { changes.add(at).read() };
        let receipt = entry.flags & EV_RECEIPT != 0;
        entry.flags &= !EV_RECEIPT;
        let number = apply(kqueue, entry);
        if number == 0 && !receipt {
            continue;
        }
        if stored == events_length {
            if number == 0 {
                return stored;
            }
            // SAFETY: the place of this thread's errno is live.
            unsafe { *errno_place() = number };
            return -1;
        }
        entry.flags |= EV_ERROR;
        entry.data = number as isize;
        // SAFETY: `stored` is below the length of the event list, as has just been checked.
        unsafe { events.offset(stored as isize).write(entry) };
        stored += 1;
    }
    if stored > 0 {
        return stored;
    }
    // SAFETY: no changes; the rest is the caller's promise.
    unsafe { library_kevent(kqueue, ptr::null(), 0, events, events_length, timeout) }
}
