//! Socket options in their full width, and the flags of descriptors that read like options.

#![allow(unsafe_code, reason = "system calls")]

use std::mem;

use libc::{c_int, socklen_t};
use reactor::sys::{Errno, Fd};

use super::super::probe::WideOption;
use super::{Answer, check, last_error};

/// Where an option is found.
enum Place {
    /// setsockopt(2): level and name of a number.
    Socket(c_int, c_int),
    /// `SO_LINGER`, which is a pair.
    Linger,
    /// fcntl(2): the calls that get and set the word, and the bit in it.
    Flag { get: c_int, set: c_int, bit: c_int },
    /// `FIONREAD`.
    Readable,
}

fn place(option: WideOption) -> Place {
    match option {
        WideOption::SendBuffer => Place::Socket(libc::SOL_SOCKET, libc::SO_SNDBUF),
        WideOption::ReceiveBuffer => Place::Socket(libc::SOL_SOCKET, libc::SO_RCVBUF),
        WideOption::ReceiveLowWater => Place::Socket(libc::SOL_SOCKET, libc::SO_RCVLOWAT),
        WideOption::SendLowWater => Place::Socket(libc::SOL_SOCKET, libc::SO_SNDLOWAT),
        WideOption::NoDelay => Place::Socket(libc::IPPROTO_TCP, libc::TCP_NODELAY),
        WideOption::NotSentLowWater => Place::Socket(libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
        WideOption::SynCount => Place::Socket(libc::IPPROTO_TCP, libc::TCP_SYNCNT),
        WideOption::KeepAlive => Place::Socket(libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        WideOption::ReuseAddress => Place::Socket(libc::SOL_SOCKET, libc::SO_REUSEADDR),
        WideOption::ReusePort => Place::Socket(libc::SOL_SOCKET, libc::SO_REUSEPORT),
        WideOption::QuickAck => Place::Socket(libc::IPPROTO_TCP, libc::TCP_QUICKACK),
        WideOption::Listens => Place::Socket(libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
        WideOption::Linger => Place::Linger,
        WideOption::NonBlocking => {
            Place::Flag { get: libc::F_GETFL, set: libc::F_SETFL, bit: libc::O_NONBLOCK }
        }
        WideOption::CloseOnExec => {
            Place::Flag { get: libc::F_GETFD, set: libc::F_SETFD, bit: libc::FD_CLOEXEC }
        }
        WideOption::Readable => Place::Readable,
    }
}

/// # Safety
/// Every bit pattern must be a `T`.
unsafe fn get_value<T: Default>(fd: Fd, level: c_int, name: c_int) -> Answer<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: `value` has `length` writable bytes, the kernel writes no more than that, and any bits there are a `T`.
    check(unsafe { libc::getsockopt(fd.as_raw(), level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

fn set_value<T>(fd: Fd, level: c_int, name: c_int, value: &T) -> Answer<()> {
    let bytes = (&raw const *value).cast();
    // SAFETY: `value` is readable for as many bytes as the length says.
    check(unsafe { libc::setsockopt(fd.as_raw(), level, name, bytes, size_of::<T>() as socklen_t) })
}

fn flags(fd: Fd, get: c_int) -> Answer<c_int> {
    // SAFETY: takes numbers only.
    let word = unsafe { libc::fcntl(fd.as_raw(), get) };
    if word < 0 { Err(last_error()) } else { Ok(word) }
}

pub(super) fn get(fd: Fd, option: WideOption) -> Answer<i64> {
    match place(option) {
        // SAFETY: every bit pattern is a number.
        Place::Socket(level, name) => unsafe { get_value::<c_int>(fd, level, name) }.map(i64::from),
        Place::Linger => {
            // SAFETY: every bit pattern is a pair of numbers, and a linger is one.
            let [on, seconds] = unsafe { get_value::<[c_int; 2]>(fd, libc::SOL_SOCKET, libc::SO_LINGER) }?;
            Ok(if on == 0 { -1 } else { i64::from(seconds) })
        }
        Place::Flag { get, bit, .. } => flags(fd, get).map(|word| i64::from(word & bit != 0)),
        Place::Readable => {
            let mut bytes: c_int = 0;
            // SAFETY: FIONREAD writes one number, and `bytes` is one.
            check(unsafe { libc::ioctl(fd.as_raw(), libc::FIONREAD, &raw mut bytes) })?;
            Ok(i64::from(bytes))
        }
    }
}

pub(super) fn set(fd: Fd, option: WideOption, value: i64) -> Answer<()> {
    let number = c_int::try_from(value).map_err(|_| Errno::EINVAL)?;
    match place(option) {
        Place::Socket(level, name) => set_value(fd, level, name, &number),
        Place::Linger => {
            let linger = libc::linger { l_onoff: c_int::from(number >= 0), l_linger: number.max(0) };
            set_value(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
        }
        Place::Flag { get, set, bit } => {
            let word = flags(fd, get)?;
            let word = if number == 0 { word & !bit } else { word | bit };
            // SAFETY: takes numbers only.
            check(unsafe { libc::fcntl(fd.as_raw(), set, word) })
        }
        Place::Readable => Err(Errno::ENOPROTOOPT),
    }
}

const _: () = {
    assert!(size_of::<libc::linger>() == size_of::<[c_int; 2]>());
    assert!(mem::offset_of!(libc::linger, l_onoff) == 0);
};
