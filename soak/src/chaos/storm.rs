//! Many connections at once that nobody means: they are reset as soon as they are made.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

/// The most connections of one storm.
pub(crate) const CONNECTIONS_MAX: u64 = 520;

/// Connects to `targets` in turn, all of it before the first one is reset. How many connections were begun: fewer than
/// asked for when descriptors or ports run out, which is as well.
pub(crate) fn storm(targets: &[SocketAddr], strength: u64) -> u64 {
    let wanted = (20 + strength * 5).min(CONNECTIONS_MAX);
    let mut connections = Vec::new();
    for target in targets.iter().cycle().take(if targets.is_empty() { 0 } else { wanted as usize }) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let Ok(socket) = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None) else { break };
        match connect(&socket, target) {
            Ok(()) | Err(Errno::INPROGRESS) => connections.push(TcpStream::from(socket)),
            Err(_) => break,
        }
    }
    for connection in &connections {
        // In order it would be an empty stream, which is another thing: a service may call that wrong.
        let _ = sockopt::set_socket_linger(connection, Some(Duration::ZERO));
    }
    connections.len() as u64
}
