//! What the generator knows of the state that its calls lead to: enough for sequences that mean something, and for never
//! leading the two kernels to where the capacity of buffers decides (T54, T58).

use std::collections::VecDeque;

use super::call::Slot;

/// What an open file is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Tcp,
    Listener,
    Eventfd,
    Epoll,
    PipeReader,
    PipeWriter,
    Unix,
    Timer,
}

/// An open file, which several descriptors may share.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) kind: Kind,
    /// The other end.
    pub(super) peer: Option<usize>,
    /// Connected, or trying.
    pub(super) started: bool,
    /// What it has sent fills buffers to their capacity, and only a complete drain makes both kernels equal again.
    pub(super) filled: bool,
    /// Bytes that it has sent and nobody received, at most.
    pub(super) queued: u32,
    /// The sketch does not know whom it is connected to.
    pub(super) wild: bool,
    /// Reset or refused.
    pub(super) dead: bool,
    /// It was shut down for reading.
    pub(super) is_shut: bool,
    /// Its buffers are soon full.
    pub(super) has_small_buffers: bool,
    /// Clients that a listener has not accepted.
    pub(super) queue: VecDeque<usize>,
    pub(super) backlog: usize,
    descriptors: u32,
}

impl File {
    fn new(kind: Kind) -> File {
        File {
            kind,
            peer: None,
            started: false,
            filled: false,
            queued: 0,
            wild: false,
            dead: false,
            is_shut: false,
            has_small_buffers: false,
            queue: VecDeque::new(),
            backlog: 0,
            descriptors: 0,
        }
    }
}

/// Descriptor numbers that the sketch follows.
const RANKS: usize = 60;

/// The state of one script as far as it has been generated.
#[derive(Debug)]
pub(super) struct Sketch {
    pub(super) files: Vec<File>,
    /// File and rank of the number behind each place.
    places: [Option<(usize, usize)>; Slot::COUNT],
    /// Places whose address is known: a listener's, or a dead port.
    pub(super) targets: Vec<(Slot, Option<usize>)>,
    used: [bool; RANKS],
    limit: Option<usize>,
    next: usize,
    /// The next call must drain this file.
    pub(super) to_be_drained: Option<usize>,
    /// The next call must make this file acknowledge what it has received.
    pub(super) to_be_acknowledged: Option<usize>,
    /// The next calls must take everything that these sets have to tell, the last one first.
    pub(super) to_be_harvested: Vec<usize>,
}

impl Sketch {
    pub(super) fn new() -> Sketch {
        Sketch {
            files: Vec::new(),
            places: [None; Slot::COUNT],
            targets: Vec::new(),
            used: [false; RANKS],
            limit: None,
            next: 0,
            to_be_drained: None,
            to_be_acknowledged: None,
            to_be_harvested: Vec::new(),
        }
    }

    /// The open places whose file is as asked.
    pub(super) fn places(&self, suits: impl Fn(&File) -> bool) -> Vec<Slot> {
        (0..Slot::COUNT)
            .filter(|&index| self.places[index].is_some_and(|(file, _)| suits(&self.files[file])))
            .map(|index| Slot(index as u8))
            .collect()
    }

    /// The open epoll sets.
    pub(super) fn epolls(&self) -> Vec<usize> {
        let places = self.places(|file| file.kind == Kind::Epoll);
        let mut files: Vec<usize> = places.into_iter().filter_map(|at| self.file(at)).collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    pub(super) fn file(&self, at: Slot) -> Option<usize> {
        self.places[at.index()].map(|(file, _)| file)
    }

    /// A place that nothing is in, in turn; `None` when all are taken.
    pub(super) fn free_place(&mut self) -> Option<Slot> {
        for step in 0..Slot::COUNT {
            let index = (self.next + step) % Slot::COUNT;
            let is_target = self.targets.iter().any(|(slot, _)| slot.index() == index);
            if self.places[index].is_none() && !is_target {
                self.next = index + 1;
                return Some(Slot(index as u8));
            }
        }
        None
    }

    fn lowest(&self) -> Option<usize> {
        let rank = self.used.iter().position(|used| !used)?;
        self.limit.is_none_or(|limit| rank < limit).then_some(rank)
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    pub(super) fn limit(&mut self, spare: usize) {
        self.limit = self.lowest().map(|rank| rank + spare);
    }

    pub(super) fn restore(&mut self) {
        self.limit = None;
    }

    fn new_file(&mut self, kind: Kind) -> usize {
        self.files.push(File::new(kind));
        self.files.len() - 1
    }

    /// The place stands for an address from now on.
    pub(super) fn aim(&mut self, at: Slot, listener: Option<usize>) {
        self.targets.retain(|(slot, _)| *slot != at);
        self.targets.push((at, listener));
    }

    /// Whether any place refers to the file.
    pub(super) fn has_descriptor(&self, file: Option<usize>) -> bool {
        file.is_some_and(|file| self.files[file].descriptors > 0)
    }

    pub(super) fn may_listen(&self, file: usize) -> bool {
        let file = &self.files[file];
        file.kind == Kind::Listener || (file.kind == Kind::Tcp && !file.started)
    }

    /// Whether it waits to be accepted, or for the backlog.
    pub(super) fn is_trying(&self, file: usize) -> bool {
        let client = &self.files[file];
        client.kind == Kind::Tcp && client.started && client.peer.is_none()
    }

    /// The lowest free number, if there is one, refers to the file.
    pub(super) fn install(&mut self, to: Slot, file: usize) -> bool {
        let Some(rank) = self.lowest() else { return false };
        // An earlier tenant of the place stays open, without a name.
        self.used[rank] = true;
        self.places[to.index()] = Some((file, rank));
        self.files[file].descriptors += 1;
        true
    }

    pub(super) fn make(&mut self, to: Slot, kind: Kind) {
        let file = self.new_file(kind);
        self.install(to, file);
    }

    pub(super) fn make_two(&mut self, slots: [Slot; 2], kinds: [Kind; 2]) {
        let [one, other] = kinds.map(|kind| self.new_file(kind));
        // All or nothing.
        if !self.install(slots[0], one) {
            return;
        }
        if !self.install(slots[1], other) {
            self.close(slots[0]);
            return;
        }
        self.files[one].peer = Some(other);
        self.files[other].peer = Some(one);
    }

    /// The place's number refers to another file from now on.
    pub(super) fn replace(&mut self, onto: Slot, file: usize) {
        if let Some((old, rank)) = self.places[onto.index()] {
            if self.limit.is_some_and(|limit| rank >= limit) {
                return;
            }
            self.places[onto.index()] = Some((file, rank));
            self.files[file].descriptors += 1;
            self.release(old);
        }
    }

    pub(super) fn close(&mut self, at: Slot) {
        if let Some((file, rank)) = self.places[at.index()].take() {
            self.used[rank] = false;
            self.release(file);
        }
    }

    fn release(&mut self, file: usize) {
        self.files[file].descriptors -= 1;
        if self.files[file].descriptors == 0 && self.files[file].kind == Kind::Listener {
            self.drop_queue(file);
        }
    }

    /// Every connection that waits at this listener is reset (T41, T42).
    pub(super) fn drop_queue(&mut self, listener: usize) {
        while let Some(client) = self.files[listener].queue.pop_front() {
            self.files[client].dead = true;
        }
    }

    /// A client's attempt reaches a listener, or a port where nobody listens.
    pub(super) fn connect(&mut self, client: usize, to: Slot) {
        let Some(target) = self.targets.iter().find(|(slot, _)| *slot == to).map(|(_, file)| *file) else {
            return;
        };
        if self.files[client].kind != Kind::Tcp {
            return;
        }
        let listening = target
            .filter(|&file| self.files[file].kind == Kind::Listener && self.files[file].descriptors > 0);
        if self.files[client].started {
            // It may fail, or start again: nobody here follows that.
            // Who closes, or shuts down for reading, may have reset it.
            let peer = self.files[client].peer;
            let may_be_reset =
                peer.is_some_and(|peer| self.files[peer].descriptors == 0 || self.files[peer].is_shut);
            if self.files[client].dead || self.files[client].wild || may_be_reset {
                self.files[client].wild = true;
                if let Some(listener) = listening {
                    self.files[listener].wild = true;
                }
            }
            return;
        }
        self.files[client].started = true;
        let Some(listener) = listening else {
            self.files[client].dead = true;
            return;
        };
        if self.files[client].wild {
            self.files[listener].wild = true;
        }
        if self.files[listener].wild {
            self.files[client].wild = true;
        } else if self.files[listener].queue.len() <= self.files[listener].backlog {
            self.files[listener].queue.push_back(client);
        }
    }

    /// What accept takes from the queue: the file of the new descriptor.
    pub(super) fn accept(&mut self, listener: usize, to: Slot) {
        if self.files[listener].kind != Kind::Listener || self.lowest().is_none() {
            return;
        }
        let wild = self.files[listener].wild;
        let client = self.files[listener].queue.pop_front();
        if client.is_none() && !wild {
            return;
        }
        let file = self.new_file(Kind::Tcp);
        self.install(to, file);
        let has_small_buffers = self.files[listener].has_small_buffers;
        let accepted = &mut self.files[file];
        accepted.started = true;
        accepted.wild = wild;
        accepted.has_small_buffers = has_small_buffers;
        if let Some(client) = client.filter(|_| !wild) {
            self.files[file].peer = Some(client);
            self.files[file].dead = self.files[client].dead;
            self.files[client].peer = Some(file);
            let both = self.files[client].has_small_buffers && has_small_buffers;
            self.files[client].has_small_buffers = both;
            self.files[file].has_small_buffers = both;
        }
    }

    /// Whether what comes to this file fills buffers: then everything that carries an acknowledgement back, or takes
    /// only a part, would show where their ends are (T58, E32).
    pub(super) fn is_flooded(&self, file: usize) -> bool {
        self.files[file].peer.is_some_and(|peer| self.files[peer].filled)
    }

    /// Everything that came to this file has been received.
    pub(super) fn drained(&mut self, file: usize) {
        self.to_be_drained = None;
        if let Some(peer) = self.files[file].peer {
            self.files[peer].filled = false;
            self.files[peer].queued = 0;
        }
    }
}
