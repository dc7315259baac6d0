//! The load: the same clients for every server, and every byte that comes back is compared.

use std::io;
use std::net::SocketAddrV4;
use std::ops::Range;

use crate::os::{self, Descriptor, EVERYTHING_BY_EDGE, Epoll, would_block};
use crate::statistics::Random;

/// A stream's bytes repeat after this many, so that a byte out of place is seen, whichever it is: no message size divides
/// it.
const PERIOD_BYTES: usize = 65_521;

/// The read buffer of the clients.
const RECEIVE_BYTES: usize = 64 * 1024;

/// How long the load waits for an answer.
const PATIENCE_MS: i32 = 10_000;

/// The bytes that clients send: a window of up to `length_max` bytes can be taken at every offset.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub(crate) fn new(length_max: usize) -> Pattern {
        let mut random = Random::new(1);
        let period: Vec<u8> = (0..PERIOD_BYTES).map(|_| random.next() as u8).collect();
        Pattern(period.iter().copied().cycle().take(PERIOD_BYTES + length_max).collect())
    }

    fn at(&self, offset: usize, length: usize) -> &[u8] {
        &self.0[offset % PERIOD_BYTES..][..length]
    }
}

fn stalled(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the server {what}"))
}

struct Client {
    descriptor: Descriptor,
    /// Where its stream begins in the pattern: an answer that goes to another client is seen.
    start: usize,
    /// Bytes sent, bytes to be sent, bytes received.
    sent: usize,
    wanted: usize,
    received: usize,
}

/// Clients that keep their connections, each with up to `depth` messages under way.
pub(crate) struct Clients {
    epoll: Epoll,
    clients: Vec<Client>,
    message_bytes: usize,
    depth: usize,
    pattern: Pattern,
    buffer: Vec<u8>,
}

impl Clients {
    /// Connects `count` clients.
    pub(crate) fn connect(
        address: SocketAddrV4,
        count: usize,
        message_bytes: usize,
        depth: usize,
    ) -> io::Result<Clients> {
        let window = (message_bytes * depth).max(RECEIVE_BYTES);
        let mut clients = Clients {
            epoll: Epoll::new(256)?,
            clients: Vec::with_capacity(count),
            message_bytes,
            depth,
            pattern: Pattern::new(window),
            buffer: vec![0; RECEIVE_BYTES],
        };
        for index in 0..count {
            let descriptor = os::connect(address)?;
            clients.clients.push(Client { descriptor, start: index * 7919, sent: 0, wanted: 0, received: 0 });
            clients.epoll.add(descriptor, EVERYTHING_BY_EDGE, index as u64)?;
            // One message each, in small groups: the backlog is never the limit.
            if index % 64 == 63 || index + 1 == count {
                let group = index - index % 64..index + 1;
                let messages = group.len() as u64;
                clients.exchange_among(group, messages)?;
            }
        }
        Ok(clients)
    }

    /// Exchanges `messages` messages in all, and waits for the last answer.
    pub(crate) fn exchange(&mut self, messages: u64) -> io::Result<()> {
        self.exchange_among(0..self.clients.len(), messages)
    }

    fn exchange_among(&mut self, who: Range<usize>, messages: u64) -> io::Result<()> {
        let mut to_send = messages;
        let mut to_receive = messages;
        for index in who {
            let count = (self.depth as u64).min(to_send);
            to_send -= count;
            self.clients[index].wanted += usize::try_from(count).expect("small") * self.message_bytes;
            self.clients[index].send(&self.pattern)?;
        }
        while to_receive > 0 {
            let events = self.epoll.wait(PATIENCE_MS)?;
            if events == 0 {
                return Err(stalled("did not answer"));
            }
            for event in 0..events {
                let (mask, word) = self.epoll.event(event);
                let client = &mut self.clients[usize::try_from(word).expect("an index")];
                if mask & libc::EPOLLIN as u32 != 0 {
                    let before = client.received / self.message_bytes;
                    client.receive(&self.pattern, &mut self.buffer)?;
                    let complete = client.received / self.message_bytes - before;
                    to_receive -= complete as u64;
                    let next = (complete as u64).min(to_send);
                    to_send -= next;
                    client.wanted += usize::try_from(next).expect("small") * self.message_bytes;
                }
                if client.sent < client.wanted {
                    client.send(&self.pattern)?;
                }
            }
        }
        Ok(())
    }
}

impl Client {
    fn send(&mut self, pattern: &Pattern) -> io::Result<()> {
        if self.sent == self.wanted {
            return Ok(());
        }
        match os::send(self.descriptor, pattern.at(self.start + self.sent, self.wanted - self.sent)) {
            Ok(sent) => self.sent += sent,
            // The edge of writability goes on with it.
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn receive(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let length = match os::receive(self.descriptor, buffer) {
                Ok(0) => return Err(stalled("closed a connection")),
                Ok(length) => length,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            if buffer[..length] != *pattern.at(self.start + self.received, length) {
                return Err(io::Error::other(format!("wrong bytes came back at offset {}", self.received)));
            }
            self.received += length;
            // Servers never end a connection first, so a short read means that nothing is left.
            if length < buffer.len() {
                return Ok(());
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for client in &self.clients {
            os::close(client.descriptor);
        }
    }
}

/// Clients that connect, exchange one message, and close; `at_once` of them at any time.
pub(crate) struct Churn {
    epoll: Epoll,
    address: SocketAddrV4,
    at_once: usize,
    message: Vec<u8>,
    buffer: Vec<u8>,
    /// By descriptor: whether its message has been sent.
    sent: Vec<bool>,
}

impl Churn {
    pub(crate) fn new(address: SocketAddrV4, at_once: usize, message_bytes: usize) -> io::Result<Churn> {
        let message = Pattern::new(message_bytes).at(0, message_bytes).to_vec();
        let buffer = vec![0; message_bytes];
        Ok(Churn { epoll: Epoll::new(256)?, address, at_once, message, buffer, sent: Vec::new() })
    }

    fn begin(&mut self) -> io::Result<()> {
        let descriptor = os::connect(self.address)?;
        let index = usize::try_from(descriptor).expect("not negative");
        if self.sent.len() <= index {
            self.sent.resize(index + 1, false);
        }
        self.sent[index] = false;
        self.epoll.add(descriptor, EVERYTHING_BY_EDGE, index as u64)
    }

    /// Makes `connections` connections, one after another at each of the places.
    pub(crate) fn exchange(&mut self, connections: u64) -> io::Result<()> {
        let mut to_begin = connections;
        let mut to_end = connections;
        for _ in 0..(self.at_once as u64).min(connections) {
            self.begin()?;
            to_begin -= 1;
        }
        while to_end > 0 {
            let events = self.epoll.wait(PATIENCE_MS)?;
            if events == 0 {
                return Err(stalled("did not answer"));
            }
            for event in 0..events {
                let (mask, word) = self.epoll.event(event);
                let descriptor = Descriptor::try_from(word).expect("a descriptor was given");
                if mask & (libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLRDHUP) as u32 != 0 {
                    return Err(stalled("ended a connection"));
                }
                if mask & libc::EPOLLIN as u32 == 0 {
                    // Writable for the first time: connected.
                    if std::mem::replace(&mut self.sent[descriptor as usize], true) {
                        continue;
                    }
                    if os::send(descriptor, &self.message)? != self.message.len() {
                        return Err(stalled("has no room for one message"));
                    }
                    continue;
                }
                // A small message travels in one segment.
                let length = os::receive(descriptor, &mut self.buffer)?;
                if self.buffer[..length] != *self.message {
                    return Err(io::Error::other("wrong bytes came back"));
                }
                os::close(descriptor);
                to_end -= 1;
                if to_begin > 0 {
                    self.begin()?;
                    to_begin -= 1;
                }
            }
        }
        Ok(())
    }
}
