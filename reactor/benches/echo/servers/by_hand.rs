//! What a C programmer writes: edge-triggered epoll, descriptors as indices, nothing between the loop and the calls.

use std::io;

use crate::os::{self, Descriptor, EVERYTHING_BY_EDGE, Epoll, would_block};
use crate::servers::{EVENTS_PER_WAIT, READ_BYTES, count, count_registration};

struct Loop<const STOP_AT_SHORT_READ: bool, const COUNT: bool> {
    epoll: Epoll,
    buffer: Vec<u8>,
    /// By descriptor: bytes that the kernel had no room for. Empty, and without memory, nearly always.
    unsent: Vec<Vec<u8>>,
}

/// Serves for ever. Stopping at a short read needs a look at the peer's end, which is not told twice.
pub(super) fn serve<const STOP_AT_SHORT_READ: bool, const COUNT: bool>(
    announce: impl Fn(u16),
) -> io::Result<()> {
    let listener = os::listener()?;
    announce(listener.local_addr()?.port());
    let listener = os::into_descriptor(listener);
    let mut server = Loop::<STOP_AT_SHORT_READ, COUNT> {
        epoll: Epoll::new(EVENTS_PER_WAIT)?,
        buffer: vec![0; READ_BYTES],
        unsent: Vec::new(),
    };
    server.epoll.add(listener, EVERYTHING_BY_EDGE, u64::try_from(listener).expect("not negative"))?;
    loop {
        count::<COUNT>();
        for index in 0..server.epoll.wait(-1)? {
            let (mask, word) = server.epoll.event(index);
            let descriptor = Descriptor::try_from(word).expect("a descriptor was given");
            if descriptor == listener {
                server.accept(listener)?;
                continue;
            }
            let ending = mask & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0;
            if !server.echo(descriptor, ending) {
                server.unsent[descriptor as usize] = Vec::new();
                count::<COUNT>();
                os::close(descriptor);
            }
        }
    }
}

impl<const STOP_AT_SHORT_READ: bool, const COUNT: bool> Loop<STOP_AT_SHORT_READ, COUNT> {
    fn accept(&mut self, listener: Descriptor) -> io::Result<()> {
        loop {
            count::<COUNT>();
            let descriptor = match os::accept(listener) {
                Ok(descriptor) => descriptor,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let index = descriptor as usize;
            if self.unsent.len() <= index {
                self.unsent.resize_with(index + 1, Vec::new);
            }
            count_registration::<COUNT>();
            self.epoll.add(descriptor, EVERYTHING_BY_EDGE, index as u64)?;
        }
    }

    /// Answers false when the connection is over.
    #[inline]
    fn echo(&mut self, descriptor: Descriptor, ending: bool) -> bool {
        let unsent = &mut self.unsent[descriptor as usize];
        if !unsent.is_empty() {
            count::<COUNT>();
            match os::send(descriptor, unsent) {
                Ok(sent) => drop(unsent.drain(..sent)),
                Err(error) if would_block(&error) => {}
                Err(_) => return false,
            }
        }
        // While the peer does not take the answers, its questions wait in the kernel.
        while unsent.is_empty() {
            count::<COUNT>();
            let length = match os::receive(descriptor, &mut self.buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) => return would_block(&error),
            };
            count::<COUNT>();
            match os::send(descriptor, &self.buffer[..length]) {
                Ok(sent) if sent == length => {}
                Ok(sent) => unsent.extend_from_slice(&self.buffer[sent..length]),
                Err(error) if would_block(&error) => unsent.extend_from_slice(&self.buffer[..length]),
                Err(_) => return false,
            }
            if STOP_AT_SHORT_READ && length < READ_BYTES && !ending {
                break;
            }
        }
        true
    }
}
