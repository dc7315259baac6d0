//! The same loop over mio, which promises an edge only after a read that would have blocked.

use std::io::{self, Read as _, Write as _};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::os::{self, would_block};
use crate::servers::{EVENTS_PER_WAIT, READ_BYTES};

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    /// Bytes that the kernel had no room for.
    unsent: Vec<u8>,
}

/// Serves for ever.
pub(super) fn serve(announce: impl Fn(u16)) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(EVENTS_PER_WAIT);
    let mut listener = TcpListener::from_std(os::listener()?);
    announce(listener.local_addr()?.port());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections, &mut free)?;
                continue;
            }
            let index = event.token().0;
            let Some(connection) = connections[index].as_mut() else { continue };
            if !echo(connection, event, &mut buffer) {
                connections[index] = None;
                free.push(index);
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if would_block(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let index = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        connections[index] = Some(Connection { stream, unsent: Vec::new() });
    }
}

/// Answers false when the connection is over.
#[inline]
fn echo(connection: &mut Connection, event: &Event, buffer: &mut [u8]) -> bool {
    let Connection { stream, unsent } = connection;
    if event.is_writable() && !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(sent) => drop(unsent.drain(..sent)),
            Err(error) if would_block(&error) => {}
            Err(_) => return false,
        }
    }
    while unsent.is_empty() {
        let length = match stream.read(buffer) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => return would_block(&error),
        };
        match stream.write(&buffer[..length]) {
            Ok(sent) if sent == length => {}
            Ok(sent) => unsent.extend_from_slice(&buffer[sent..length]),
            Err(error) if would_block(&error) => unsent.extend_from_slice(&buffer[..length]),
            Err(_) => return false,
        }
    }
    true
}
