//! Which connections a process has: read from `/proc`, where there is one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::process::Pid;

/// The state of a socket that listens, as the kernel's table has it.
const LISTENS: &str = "0A";

/// The local addresses of the TCP sockets over IPv4 that a process holds and that are, or were, connected.
///
/// # Errors
/// The process, or the table, cannot be read.
pub(crate) fn of(pid: Pid) -> io::Result<Vec<SocketAddr>> {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let mut inodes = BTreeSet::new();
    for entry in fs::read_dir(format!("{process}/fd"))? {
        // One that was closed in the meantime is no connection of it.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inodes.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    let table = fs::read_to_string(format!("{process}/net/tcp"))?;
    Ok(table.lines().skip(1).filter_map(|line| local_address(line, &inodes)).collect())
}

/// Whether all of a process has stopped, or it is gone.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else { return true };
    // The name, in parentheses, may contain anything.
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| !matches!(rest.trim_start().chars().next(), Some('R' | 'S' | 'D')))
}

/// Whether there is anything to read.
pub(crate) fn are_told() -> bool {
    fs::exists("/proc/self/net/tcp").unwrap_or(false)
}

/// The local address in a line of the table, if the socket is one of these and does not listen.
fn local_address(line: &str, inodes: &BTreeSet<u64>) -> Option<SocketAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state == LISTENS || !inodes.contains(&inode.parse().ok()?) {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    // In the order of the machine's bytes.
    let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
    Some(SocketAddr::new(IpAddr::V4(address), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_connections_of_a_process_are_those_it_holds_and_no_others() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let kept = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let closed = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let closed_from = closed.local_addr().unwrap();
        drop(closed);
        let found = of(rustix::process::getpid()).unwrap();
        assert!(found.contains(&kept.local_addr().unwrap()), "{found:?}");
        assert!(!found.contains(&closed_from), "it is the kernel's by now, and ends in order");
        assert!(!found.contains(&listener.local_addr().unwrap()), "who listens has no stream");
        assert!(!is_stopped(rustix::process::getpid()));
    }
}
