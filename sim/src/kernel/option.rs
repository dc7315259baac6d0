//! setsockopt(2) and getsockopt(2).

use reactor::sys::{Errno, Fd, SocketOption};

use super::socket::State;
use super::watch::Key;
use super::{Kernel, NONE, Object, cost};
use crate::script::probe::WideOption;
use crate::world::World;

/// The kernel's smallest buffers (T54).
pub(crate) const SEND_CAPACITY_MIN: u64 = 4_608;
pub(crate) const RECEIVE_CAPACITY_MIN: u64 = 2_304;
/// What an option can ask for at most: wmem_max and rmem_max, doubled.
const CAPACITY_MAX: u64 = 8 << 20;

/// `TCP_SYNCNT` where nothing was set, and its largest value.
const SYN_COUNT_DEFAULT: i64 = 6;
const SYN_COUNT_MAX: i64 = 127;

impl World {
    pub(crate) fn socket_option(&mut self, thread: u32, fd: Fd, option: SocketOption) -> Result<(), Errno> {
        self.spend(thread, cost::SETTING);
        let id = self.socket_behind(thread, fd)?;
        let kernel = self.kernel_of(thread);
        let socket = &mut self.sockets[id];
        let over = socket.receive_shut && socket.send_shut;
        if kernel == Kernel::Macos && over {
            return Err(Errno::EINVAL);
        }
        match option {
            SocketOption::ReuseAddress(on) => socket.shared.address = on,
            SocketOption::ReusePort(on) => socket.shared.port = on,
            SocketOption::NoDelay(on) => {
                socket.no_delay = on;
                let (connection, outgoing) = (socket.connection, socket.outgoing());
                if connection != NONE {
                    self.connections[connection].streams[outgoing].holds_small = !on;
                    self.transmit(connection, outgoing);
                }
            }
            SocketOption::ResetOnClose(on) => socket.linger_s = on.then_some(0),
            SocketOption::V6Only(_) => return Err(Errno::ENOPROTOOPT),
            SocketOption::KeepAlive(on) => socket.keep_alive = on,
            SocketOption::Congestion(_) if kernel == Kernel::Macos => return Err(Errno::ENOPROTOOPT),
            SocketOption::Congestion(_) => {}
            SocketOption::SendBufferBytes(bytes) => {
                socket.send_capacity = buffer_capacity(kernel, bytes, SEND_CAPACITY_MIN);
            }
            SocketOption::ReceiveBufferBytes(bytes) => {
                socket.receive_capacity = buffer_capacity(kernel, bytes, RECEIVE_CAPACITY_MIN);
                let (connection, incoming, capacity) =
                    (socket.connection, socket.incoming(), socket.receive_capacity);
                if connection != NONE {
                    self.connections[connection].streams[incoming].receive_capacity = capacity;
                }
            }
        }
        Ok(())
    }

    /// Options that only scripts set; those that the loop sets too go the loop's way.
    pub(crate) fn set_wide_option(
        &mut self,
        thread: u32,
        fd: Fd,
        option: WideOption,
        value: i64,
    ) -> Result<(), Errno> {
        let id = self.socket_behind(thread, fd)?;
        let kernel = self.kernel_of(thread);
        let bytes = u32::try_from(value).unwrap_or(u32::MAX);
        let on = value != 0;
        let known = match option {
            WideOption::SendBuffer => SocketOption::SendBufferBytes(bytes),
            WideOption::ReceiveBuffer => SocketOption::ReceiveBufferBytes(bytes),
            WideOption::NoDelay => SocketOption::NoDelay(on),
            WideOption::KeepAlive => SocketOption::KeepAlive(on),
            WideOption::ReuseAddress => SocketOption::ReuseAddress(on),
            WideOption::ReusePort => SocketOption::ReusePort(on),
            _ => return self.set_rare_option(id, kernel, option, value),
        };
        self.socket_option(thread, fd, known)
    }

    fn set_rare_option(
        &mut self,
        id: u32,
        kernel: Kernel,
        option: WideOption,
        value: i64,
    ) -> Result<(), Errno> {
        let socket = &mut self.sockets[id];
        if kernel == Kernel::Macos && socket.receive_shut && socket.send_shut {
            return Err(Errno::EINVAL);
        }
        match option {
            WideOption::Linger => socket.linger_s = u32::try_from(value).ok(),
            WideOption::ReceiveLowWater => {
                let half = (socket.receive_capacity / 2).max(1);
                socket.receive_low_water = u64::try_from(value).unwrap_or(u64::MAX).clamp(1, half);
                self.wake(Object::Socket(id), Key::In);
            }
            WideOption::NotSentLowWater if kernel == Kernel::Freebsd => return Err(Errno::ENOPROTOOPT),
            WideOption::NotSentLowWater => {
                // Zero leaves it to the system, which has no limit.
                socket.unsent_limit =
                    u64::try_from(value).ok().filter(|&limit| limit > 0).unwrap_or(u64::MAX);
            }
            WideOption::SynCount if kernel.is_bsd() => return Err(Errno::ENOPROTOOPT),
            WideOption::SynCount if (1..=SYN_COUNT_MAX).contains(&value) => {
                socket.syn_count = value.unsigned_abs() as u8;
            }
            WideOption::SynCount => return Err(Errno::EINVAL),
            WideOption::QuickAck if !kernel.is_bsd() => self.acknowledge_quickly(id, value != 0),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        Ok(())
    }

    /// Reads an option; what cannot be read answers `ENOPROTOOPT`.
    pub(crate) fn wide_option(&mut self, thread: u32, fd: Fd, option: WideOption) -> Result<i64, Errno> {
        self.spend(thread, cost::SETTING);
        let id = self.socket_behind(thread, fd)?;
        let kernel = self.kernel_of(thread);
        let readable = self.readable(id);
        let socket = &self.sockets[id];
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(match option {
            WideOption::SendBuffer => number(socket.send_capacity),
            WideOption::ReceiveBuffer => number(socket.receive_capacity),
            WideOption::ReceiveLowWater => number(socket.receive_low_water),
            WideOption::SendLowWater if kernel.is_bsd() => 2_048,
            WideOption::SendLowWater => 1,
            WideOption::NoDelay => i64::from(socket.no_delay),
            WideOption::NotSentLowWater if socket.unsent_limit == u64::MAX => 0,
            WideOption::NotSentLowWater => number(socket.unsent_limit),
            WideOption::SynCount if socket.syn_count == 0 => SYN_COUNT_DEFAULT,
            WideOption::SynCount => i64::from(socket.syn_count),
            WideOption::QuickAck if kernel.is_bsd() => return Err(Errno::ENOPROTOOPT),
            WideOption::QuickAck => 1,
            WideOption::KeepAlive => i64::from(socket.keep_alive),
            WideOption::ReuseAddress => i64::from(socket.shared.address),
            WideOption::ReusePort => i64::from(socket.shared.port),
            WideOption::Linger => socket.linger_s.map_or(-1, i64::from),
            WideOption::Listens => i64::from(socket.state == State::Listening),
            WideOption::Readable if socket.state == State::Listening => return Err(Errno::EINVAL),
            WideOption::Readable => number(readable),
            WideOption::NonBlocking | WideOption::CloseOnExec => return Err(Errno::ENOPROTOOPT),
        })
    }
}

/// Linux doubles what was asked for (T54).
fn buffer_capacity(kernel: Kernel, asked_bytes: u32, minimum: u64) -> u64 {
    let asked = u64::from(asked_bytes);
    if kernel.is_bsd() { asked.clamp(1, CAPACITY_MAX) } else { (asked * 2).clamp(minimum, CAPACITY_MAX) }
}
