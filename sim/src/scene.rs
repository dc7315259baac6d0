//! What the views of a run need beside its calls: who lives where, which connection each call was about, the packets on the
//! links with their bytes, the faults that were drawn. Collected with the readable trace only, and never part of the hash.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};

use reactor::sys::Fd;
use reactor::time::Instant;

use crate::aftermath::Sleeper;
use crate::fault::FaultKind;
use crate::kernel::socket::State;
use crate::kernel::{Kernel, NONE, Object};
use crate::schedule::ThreadId;
use crate::trace::{CallKind, CallRecord, Outcome};
use crate::world::World;

/// Bytes of streams that are kept at most, over all connections of a run.
pub const BYTES_MAX: u64 = 64 << 20;

/// A host of the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SceneHost {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its kernel.
    pub kernel: Kernel,
}

/// Where a thread lives.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SceneThread {
    /// The place of its host in [`Scene::hosts`].
    pub host: u32,
    /// Its process; they are counted over all hosts.
    pub process: u32,
}

/// A connection, from the attempt to the last packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SceneConnection {
    /// The number by which notes call it; the kernel gives numbers again.
    pub number: u32,
    /// The side that connected, and the side that accepted.
    pub addresses: [SocketAddrV4; 2],
    /// The places of their hosts; `None` where nobody has the address.
    pub hosts: [Option<u32>; 2],
    /// When the attempt began.
    pub began: Instant,
    /// When nothing was left of it; `None` if the run ended before.
    pub ended: Option<Instant>,
    /// What each side wrote, from the first byte on; less than that once the run has kept [`BYTES_MAX`].
    pub bytes: [Vec<u8>; 2],
    /// When the last SYN went out, in nanoseconds of the run.
    syn_sent: u64,
}

/// What one call was about.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Use {
    /// The number of the call.
    pub step: u64,
    /// The place of its connection in [`Scene::connections`].
    pub connection: u32,
    /// 0 for the side that connected, 1 for the side that accepted.
    pub side: u8,
    /// Bytes that this side has written and that are not acknowledged, after the call.
    pub queued_bytes: u64,
    /// Bytes that wait to be read on this side, after the call.
    pub readable_bytes: u64,
}

/// What kind of packet.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PacketKind {
    /// The first of a handshake.
    Syn,
    /// The second of a handshake.
    SynAck,
    /// An acknowledgement by itself, the third of a handshake included.
    Acknowledgement,
    /// Bytes, or the end of a stream, or both.
    Data,
    /// A reset.
    Reset,
}

/// A packet, as its sender put it on the link.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// When it was sent.
    pub sent: Instant,
    /// When it arrives, unless it is lost.
    pub arrives: Instant,
    /// The place of its connection in [`Scene::connections`].
    pub connection: u32,
    /// Who sent it: 0 for the side that connected, 1 for the side that accepted.
    pub side: u8,
    /// What it is.
    pub kind: PacketKind,
    /// The place of its first byte in the sender's stream.
    pub position: u64,
    /// Its bytes.
    pub length: u64,
    /// Whether the end of the stream follows its last byte.
    pub end: bool,
    /// How far the sender has got the other's stream, its end counted as one.
    pub acknowledges: u64,
    /// How much more the sender takes.
    pub window: u64,
    /// It was sent before.
    pub again: bool,
    /// It never arrives.
    pub lost: bool,
}

/// A fault that happened.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DrawnFault {
    /// When.
    pub at: Instant,
    /// How many calls had ended.
    pub step: u64,
    /// Which.
    pub kind: FaultKind,
    /// What it happened to: the number of a host, a thread, a socket or a connection, by kind.
    pub entity: u32,
    /// It was drawn, and nothing came of it.
    pub suppressed: bool,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scene {
    /// The start of the run, on the clock of the trace.
    pub origin: Instant,
    /// Every host.
    pub hosts: Vec<SceneHost>,
    /// Every thread, by number.
    pub threads: Vec<SceneThread>,
    /// Every connection that was attempted, in order.
    pub connections: Vec<SceneConnection>,
    /// What calls were about, by step; calls that are about no connection have none.
    pub uses: Vec<Use>,
    /// Every packet, in the order in which they were sent by the threads: sort by time.
    pub packets: Vec<Packet>,
    /// Every fault, in order.
    pub faults: Vec<DrawnFault>,
    /// Which entries of the trace, by place, are notes about which connection.
    pub notes: Vec<(usize, u32)>,
    /// The loops that slept when the run ended.
    pub asleep: Vec<Sleeper>,
    /// The connection that has a number now.
    live: BTreeMap<u32, u32>,
    /// What a descriptor of a process stands for, as far as calls have shown: a closed one is looked up here.
    named: BTreeMap<(u32, i32), (u32, u8)>,
    bytes: u64,
}

impl Scene {
    pub(crate) fn new(origin: Instant) -> Scene {
        Scene {
            origin,
            hosts: Vec::new(),
            threads: Vec::new(),
            connections: Vec::new(),
            uses: Vec::new(),
            packets: Vec::new(),
            faults: Vec::new(),
            notes: Vec::new(),
            asleep: Vec::new(),
            live: BTreeMap::new(),
            named: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// What the call of this number was about.
    pub fn use_at(&self, step: u64) -> Option<&Use> {
        let place = self.uses.binary_search_by_key(&step, |one| one.step).ok()?;
        self.uses.get(place)
    }

    /// The connection that an entry of the trace is about.
    pub fn connection_of_note(&self, place: usize) -> Option<u32> {
        let found = self.notes.binary_search_by_key(&place, |&(note, _)| note).ok()?;
        self.notes.get(found).map(|&(_, connection)| connection)
    }

    /// The place of the connection that has this number now.
    pub(crate) fn place_of(&self, number: u32) -> Option<u32> {
        self.live.get(&number).copied()
    }

    fn keep_bytes(&mut self, place: u32, side: usize, segments: &[IoSlice<'_>], count: usize) {
        let mut left = count;
        for segment in segments {
            let taken = segment.len().min(left);
            left -= taken;
            if self.bytes + taken as u64 > BYTES_MAX {
                // A hole would put what follows in a wrong place.
                self.bytes = BYTES_MAX;
                return;
            }
            self.bytes += taken as u64;
            self.connections[place as usize].bytes[side].extend_from_slice(&segment[..taken]);
        }
    }
}

/// What is asked of [`World::show_packet`] beside connection and side.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) kind: PacketKind,
    /// When it was sent, and when it arrives, in nanoseconds of the run.
    pub(crate) sent: u64,
    pub(crate) arrives: u64,
    /// The place of its first byte and of what follows its last one, the end of the stream counted.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) again: bool,
    pub(crate) lost: bool,
}

impl World {
    /// A connection has come to be.
    pub(crate) fn show_connection(&mut self, number: u32) {
        if !self.trace.collects() {
            return;
        }
        let (began, now) = (self.clock(self.now), self.now);
        let entry = &self.connections[number];
        let shown = SceneConnection {
            number,
            addresses: entry.addresses,
            hosts: entry.hosts.map(|host| (host != NONE).then_some(host)),
            began,
            ended: None,
            bytes: [Vec::new(), Vec::new()],
            syn_sent: now,
        };
        if let Some(scene) = self.trace.scene_mut() {
            scene.live.insert(number, scene.connections.len() as u32);
            scene.connections.push(shown);
        }
    }

    /// Nothing is left of a connection.
    #[inline]
    pub(crate) fn hide_connection(&mut self, number: u32) {
        if !self.trace.collects() {
            return;
        }
        let ended = self.clock(self.now);
        if let Some(scene) = self.trace.scene_mut()
            && let Some(place) = scene.live.remove(&number)
        {
            scene.connections[place as usize].ended = Some(ended);
        }
    }

    /// A process has written so many bytes.
    #[cold]
    pub(crate) fn show_bytes(&mut self, number: u32, side: usize, segments: &[IoSlice<'_>], count: usize) {
        let Some(scene) = self.trace.scene_mut() else { return };
        if let Some(place) = scene.place_of(number) {
            scene.keep_bytes(place, side, segments, count);
        }
    }

    /// A packet without bytes is sent now.
    #[inline]
    pub(crate) fn show_bare_packet(
        &mut self,
        number: u32,
        side: usize,
        kind: PacketKind,
        arrives: u64,
        lost: bool,
    ) {
        if !self.trace.collects() {
            return;
        }
        let Some(entry) = self.connections.get(number) else { return };
        let from = entry.streams[side].sent;
        let sent = self.now;
        self.show_packet(number, side, Shown { kind, sent, arrives, from, to: from, again: false, lost });
    }

    /// A packet is sent.
    #[cold]
    pub(crate) fn show_packet(&mut self, number: u32, side: usize, shown: Shown) {
        let (sent, arrives) = (self.clock(shown.sent), self.clock(shown.arrives));
        let Some(entry) = self.connections.get(number) else { return };
        let (stream, incoming) = (&entry.streams[side], &entry.streams[1 - side]);
        let data = shown.kind == PacketKind::Data;
        // A packet without bytes may follow the end of the stream, which counts as one.
        let position = if data { shown.from.min(stream.written) } else { shown.from };
        let packet = Packet {
            sent,
            arrives,
            connection: 0,
            side: side as u8,
            kind: shown.kind,
            position,
            length: shown.to.min(stream.written).saturating_sub(position),
            end: data && shown.to > stream.written,
            acknowledges: incoming.arrived,
            window: incoming.window_told.saturating_sub(incoming.arrived),
            again: shown.again,
            lost: shown.lost,
        };
        if let Some(scene) = self.trace.scene_mut()
            && let Some(connection) = scene.place_of(number)
        {
            scene.packets.push(Packet { connection, ..packet });
        }
    }

    /// A SYN goes out at this time. It is shown when it arrives, since the client may give up before.
    pub(crate) fn expect_syn(&mut self, number: u32, sent: u64) {
        if let Some(scene) = self.trace.scene_mut()
            && let Some(place) = scene.place_of(number)
        {
            scene.connections[place as usize].syn_sent = sent;
        }
    }

    /// The SYN has come where it was to go, or has been lost on the way.
    pub(crate) fn show_syn(&mut self, number: u32, attempt: u32, arrives: u64, lost: bool) {
        let Some(scene) = self.trace.scene_mut() else { return };
        let Some(place) = scene.place_of(number) else { return };
        let sent = scene.connections[place as usize].syn_sent;
        let again = attempt > 0;
        let shown = Shown { kind: PacketKind::Syn, sent, arrives, from: 0, to: 0, again, lost };
        self.show_packet(number, 0, shown);
    }

    /// What arrives now from this side of a connection is lost.
    pub(crate) fn show_loss(&mut self, number: u32, side: usize) {
        /// Packets are under way for a while only.
        const BACK_MAX: usize = 4_096;
        let now = self.clock(self.now);
        let Some(scene) = self.trace.scene_mut() else { return };
        let Some(place) = scene.place_of(number) else { return };
        let mut last = scene.packets.iter_mut().rev().take(BACK_MAX);
        let found = last.find(|packet| {
            packet.connection == place && usize::from(packet.side) == side && packet.arrives == now
        });
        if let Some(packet) = found {
            packet.lost = true;
        }
    }

    /// A fault has happened.
    #[cold]
    pub(crate) fn show_fault(&mut self, kind: FaultKind, entity: u32, suppressed: bool) {
        let (at, step) = (self.clock(self.now), self.trace.steps());
        if let Some(scene) = self.trace.scene_mut() {
            scene.faults.push(DrawnFault { at, step, kind, entity, suppressed });
        }
    }

    /// As [`World::note`], about a connection.
    #[inline]
    pub(crate) fn note_on(&mut self, connection: u32, text: impl FnOnce() -> String) {
        if self.trace.collects() {
            self.trace.about(connection);
            self.note(text);
        }
    }

    /// A call has ended: what it was about.
    #[cold]
    pub(crate) fn show_use(&mut self, record: &CallRecord) {
        let ThreadId(thread) = record.thread;
        let process = self.threads[thread as usize].process;
        let fd = match (record.call, record.outcome) {
            (CallKind::Accept4, Outcome::Value(fd)) => fd as i32,
            (CallKind::EpollCtl, _) => (record.arguments[0] as u32 >> 2).cast_signed(),
            _ => record.fd,
        };
        let found = self.connection_behind(process, fd);
        let step = self.trace.steps();
        let Some(scene) = self.trace.scene_mut() else { return };
        let key = (process, fd);
        let named = match found {
            Some((number, side)) => scene.place_of(number).map(|place| (place, side)),
            None => scene.named.get(&key).copied(),
        };
        if record.call == CallKind::Close {
            scene.named.remove(&key);
        } else if let Some(named) = named {
            scene.named.insert(key, named);
        }
        let Some((connection, side)) = named else { return };
        let number = scene.connections[connection as usize].number;
        let still = scene.place_of(number) == Some(connection);
        let (mut queued_bytes, mut readable_bytes) = (0, 0);
        if let Some(entry) = self.connections.get(number).filter(|_| still) {
            queued_bytes = entry.streams[usize::from(side)].queued();
            readable_bytes = entry.streams[1 - usize::from(side)].readable();
        }
        if let Some(scene) = self.trace.scene_mut() {
            scene.uses.push(Use { step, connection, side, queued_bytes, readable_bytes });
        }
    }

    fn connection_behind(&self, process: u32, fd: i32) -> Option<(u32, u8)> {
        if fd < 0 {
            return None;
        }
        let Some(Object::Socket(id)) = self.processes[process as usize].get(Fd::from_raw(fd)) else {
            return None;
        };
        let socket = self.sockets.get(id)?;
        let connected = socket.connection != NONE && socket.state != State::Listening;
        connected.then_some((socket.connection, socket.side))
    }

    /// The scene as it is now, with everyone in it.
    pub(crate) fn take_scene(&mut self) -> Option<Box<Scene>> {
        let hosts = self.hosts.iter().map(|host| SceneHost { ip: host.ip, kernel: host.kernel }).collect();
        let threads = self.threads.iter();
        let threads =
            threads.map(|thread| SceneThread { host: thread.host, process: thread.process }).collect();
        let asleep = if self.trace.collects() { self.sleeping_loops() } else { Vec::new() };
        let mut scene = self.trace.take_scene()?;
        (scene.hosts, scene.threads, scene.asleep) = (hosts, threads, asleep);
        Some(scene)
    }
}
