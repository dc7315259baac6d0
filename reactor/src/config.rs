//! Limits and budgets of the loop. Every one is a parameter, so that a simulated run can make it tiny.

/// Limits and budgets of a [`crate::Reactor`]. The defaults suit a server; [`Config::check`] says what is out of range.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections and listeners at once; 1 to 16,777,216.
    pub connections_max: u32,
    /// Events taken from the kernel by one wait; at least 1.
    pub events_per_wait: usize,
    /// Size of the buffer that a read goes into; at least 1. It should exceed the usual message: a full read does not
    /// tell that the socket is empty.
    pub read_bytes: usize,
    /// Reads per connection and turn; at least 1. What is left is read in the next turn.
    pub reads_per_turn: u32,
    /// Unconsumed bytes kept per connection before reading waits for `Context::resume_reading`; at least 1. A handler that
    /// finds so many bytes without what it looks for should close the connection: the end of the stream lies behind them.
    pub pending_bytes_max: usize,
    /// Segments given to one vectored write; 1 to 64.
    pub write_segments_max: usize,
    /// Bytes given to one write; at least 1.
    pub write_bytes_max: usize,
    /// Writes per connection and flush; at least 1.
    pub writes_per_turn: u32,
    /// From so many queued bytes on, a connection that has been served is flushed at once, while the processor's cache
    /// still holds them, and not at the end of the turn.
    pub flush_early_bytes: usize,
    /// Above this many queued bytes a connection is under pressure.
    pub queue_bytes_high: usize,
    /// At this many queued bytes or fewer the pressure is over; at most `queue_bytes_high`.
    pub queue_bytes_low: usize,
    /// A write that would queue more than this ends the connection with `CloseReason::Overflow`; above
    /// `queue_bytes_high`.
    pub queue_bytes_max: usize,
    /// Connections accepted per listener and turn; at least 1.
    pub accepts_per_turn: u32,
    /// How long a listener rests after the system ran out of descriptors or memory.
    pub accept_pause_ns: u64,
    /// Timers fired per turn; at least 1.
    pub timers_per_turn: u32,
    /// Length of a timer tick, a power of two. A timer is late by at most one tick plus the loop's own delay; on epoll, whose
    /// timeout counts milliseconds, by one more.
    pub tick_ns: u64,
    /// Messages delivered per turn; at least 1.
    pub messages_per_turn: u32,
    /// Messages that the mailbox holds; at least 1.
    pub mailbox_messages_max: usize,
    /// How long a closed connection may take to flush its queue before it is aborted. Counted from the last progress.
    pub drain_ns: u64,
    /// How long a flushed, half-closed connection waits for the peer to end its side.
    pub linger_ns: u64,
    /// The generation that slots begin with; simulated runs start it near the wrap.
    pub generation_start: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            connections_max: 1 << 20,
            events_per_wait: 256,
            read_bytes: 64 * 1024,
            reads_per_turn: 4,
            pending_bytes_max: 1 << 20,
            write_segments_max: 64,
            write_bytes_max: 1 << 20,
            writes_per_turn: 4,
            flush_early_bytes: 4096,
            queue_bytes_high: 1 << 20,
            queue_bytes_low: 256 * 1024,
            queue_bytes_max: 64 << 20,
            accepts_per_turn: 64,
            accept_pause_ns: 100_000_000,
            timers_per_turn: 1024,
            tick_ns: 1 << 20,
            messages_per_turn: 1024,
            mailbox_messages_max: 4096,
            drain_ns: 30_000_000_000,
            linger_ns: 2_000_000_000,
            generation_start: 0,
        }
    }
}

impl Config {
    /// Checks every limit against its range.
    ///
    /// # Errors
    /// The name of the first limit that is out of range, and the range.
    pub fn check(&self) -> Result<(), String> {
        let checks: [(bool, &str); 17] = [
            ((1..=1 << 24).contains(&self.connections_max), "connections_max must be 1 to 16777216"),
            (self.events_per_wait >= 1, "events_per_wait must be at least 1"),
            (self.read_bytes >= 1, "read_bytes must be at least 1"),
            (self.reads_per_turn >= 1, "reads_per_turn must be at least 1"),
            (self.pending_bytes_max >= 1, "pending_bytes_max must be at least 1"),
            ((1..=64).contains(&self.write_segments_max), "write_segments_max must be 1 to 64"),
            (self.write_bytes_max >= 1, "write_bytes_max must be at least 1"),
            (self.writes_per_turn >= 1, "writes_per_turn must be at least 1"),
            (
                self.queue_bytes_low <= self.queue_bytes_high,
                "queue_bytes_low must not exceed queue_bytes_high",
            ),
            (self.queue_bytes_high < self.queue_bytes_max, "queue_bytes_max must exceed queue_bytes_high"),
            (self.accepts_per_turn >= 1, "accepts_per_turn must be at least 1"),
            (self.accept_pause_ns >= 1, "accept_pause_ns must be at least 1"),
            (self.timers_per_turn >= 1, "timers_per_turn must be at least 1"),
            (self.tick_ns.is_power_of_two(), "tick_ns must be a power of two"),
            (self.messages_per_turn >= 1, "messages_per_turn must be at least 1"),
            (self.mailbox_messages_max >= 1, "mailbox_messages_max must be at least 1"),
            (self.linger_ns >= 1 && self.drain_ns >= 1, "linger_ns and drain_ns must be at least 1"),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err((*rule).to_string()),
            None => Ok(()),
        }
    }
}
