//! Trying out what this machine grants.

use reactor::sys::{Errno, Fd};

use super::super::capability::Capability;
use super::super::probe::{SocketKind, WideOption};
use super::descriptor::DescriptorLimit;
use super::{Answer, descriptor, namespace, option, readiness, signal, socket};

/// Why a capability is missing; `None` if it is there.
pub(in crate::script) fn missing(capability: Capability) -> Option<String> {
    let tried = match capability {
        Capability::NetworkNamespace => return namespace::missing(),
        Capability::DescriptorLimit => {
            let _turn = super::turn();
            // The limit that is there already, once more.
            DescriptorLimit::now().and_then(|mut limit| limit.set(None))
        }
        Capability::ReusePort => socket::socket(SocketKind::Tcp).and_then(|fd| {
            let set = option::set(fd, WideOption::ReusePort, 1);
            descriptor::discard(fd);
            set
        }),
        Capability::Threads => return threads_missing(),
        Capability::File => descriptor::file(b"").map(descriptor::discard),
        Capability::Pwait2 => match readiness::epoll_pwait2(Fd::from_raw(-1), 1, Some((0, 0))) {
            // The call is there, and no set is.
            Err(Errno::EBADF) => Ok(()),
            other => other.map(drop),
        },
    };
    why(tried)
}

fn why(tried: Answer<()>) -> Option<String> {
    tried.err().map(|error| error.to_string())
}

fn threads_missing() -> Option<String> {
    let itself = signal::own_thread();
    if let Err(error) = std::fs::read_to_string(format!("/proc/self/task/{itself}/stat")) {
        return Some(format!("the state of a thread cannot be read: {error}"));
    }
    why(signal::may_signal(itself))
}
