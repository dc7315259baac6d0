//! The verbs of scripts: their names, what they take, and what they do.

use std::fmt;

/// What a parameter is written as.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A name that is bound to a descriptor, or `#` and a number.
    Descriptor,
    /// An address.
    Address,
    /// A number, or a name that is bound to one.
    Number,
    /// Bytes, in quotes or as a count with an `x`.
    Bytes,
    /// A time.
    Time,
    /// Event bits.
    Mask,
    /// One word of a list; an empty list allows any.
    Word(&'static [&'static str]),
    /// `[A:IN, B:OUT]`.
    Entries,
    /// `[A, B]`.
    Descriptors,
    /// `[READ A ADD|CLEAR udata=1]`.
    Changes,
    /// A name that is bound to a wait on another thread.
    Ticket,
}

/// One parameter.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Parameter {
    /// What it is called in messages.
    pub name: &'static str,
    /// How it is written.
    pub kind: Kind,
    /// How often it may come.
    pub presence: Presence,
}

/// How often a parameter may come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Exactly once.
    Required,
    /// At most once.
    Optional,
    /// Any number of times, at the end.
    Repeated,
}

const fn required(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, presence: Presence::Required }
}

const fn optional(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, presence: Presence::Optional }
}

const fn repeated(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, presence: Presence::Repeated }
}

macro_rules! verbs {
    ($($verb:ident $name:literal [$($parameter:expr),*] $says:literal,)*) => {
        /// What a step does.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Verb { $(#[doc = $says] $verb,)* }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Verb] = &[$(Verb::$verb),*];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self { $(Verb::$verb => $name,)* }
            }

            /// What it takes, in order.
            pub const fn parameters(self) -> &'static [Parameter] {
                match self { $(Verb::$verb => const { &[$($parameter),*] },)* }
            }

            /// What it does and answers, in one line.
            pub const fn says(self) -> &'static str {
                match self { $(Verb::$verb => $says,)* }
            }
        }
    };
}

use Kind::{Address, Bytes, Changes, Descriptor, Descriptors, Entries, Mask, Number, Ticket, Time, Word};

const SIDES: Kind = Word(&[]);
const OPTIONS: Kind = Word(OPTION_NAMES);

/// The options of `get` and `set`, in the order of [`super::probe::WideOption`].
pub(crate) const OPTION_NAMES: &[&str] = &[
    "sndbuf",
    "rcvbuf",
    "rcvlowat",
    "sndlowat",
    "nodelay",
    "notsent_lowat",
    "syncnt",
    "keepalive",
    "reuseaddr",
    "reuseport",
    "linger",
    "listens",
    "nonblocking",
    "cloexec",
    "readable",
    "quickack",
];

verbs! {
    Socket "socket" [optional("kind", Word(&["tcp", "udp", "unix"]))] "A new non-blocking socket, TCP unless said.",
    Socketpair "socketpair" [] "Two connected UNIX streams.",
    Dup "dup" [required("descriptor", Descriptor)] "A duplicate, at the lowest free number.",
    Dup2 "dup2" [required("descriptor", Descriptor), required("onto", Descriptor)] "A duplicate at the number of the second, which is closed first.",
    Close "close" [required("descriptor", Descriptor)] "Closes it; the name stays, for its number.",
    NumberOf "number" [required("descriptor", Descriptor)] "Answers the descriptor's number.",
    Limit "limit" [required("limit", Word(&[]))] "Sets the descriptor limit: `here` (nothing more), `+n` (n more), `restore`.",
    Pair "pair" [optional("sndbuf", Number), optional("rcvbuf", Number)] "A connected pair: the side that connected, the side that accepted.",
    Listener "listener" [optional("backlog", Number)] "A socket that listens at a free port of this script's address.",
    Client "client" [required("listener", Descriptor)] "A new socket that connects to it.",
    DeadPort "dead_port" [] "An address where nobody listens.",
    Reset "reset" [required("descriptor", Descriptor)] "Closes with a reset: linger on with zero seconds, close.",
    Fill "fill" [required("descriptor", Descriptor), optional("chunk", Number)] "Sends until EAGAIN; answers how many bytes.",
    Drain "drain" [required("descriptor", Descriptor), optional("chunk", Number)] "Receives until nothing comes; answers how many bytes.",
    Bits "bits" [required("descriptor", Descriptor)] "The bits that a fresh level-triggered set with the full mask reports.",
    Bind "bind" [required("descriptor", Descriptor), required("address", Address)] "bind(2).",
    BindMalformed "bind_malformed" [required("descriptor", Descriptor), required("how", Word(&["short", "family"]))] "bind(2) with a short address, or one of another family.",
    Listen "listen" [required("descriptor", Descriptor), required("backlog", Number)] "listen(2).",
    Connect "connect" [required("descriptor", Descriptor), required("address", Address)] "connect(2).",
    Disconnect "disconnect" [required("descriptor", Descriptor)] "connect(2) with AF_UNSPEC.",
    Accept "accept" [required("listener", Descriptor), optional("how", Word(&["blocking", "bad_flags"]))] "accept4(2), with SOCK_NONBLOCK unless said.",
    Name "name" [required("descriptor", Descriptor)] "getsockname(2): an address.",
    Peer "peer" [required("descriptor", Descriptor)] "getpeername(2): an address.",
    Shutdown "shutdown" [required("descriptor", Descriptor), required("how", SIDES)] "shutdown(2): `rd`, `wr`, `rdwr`, or a number.",
    Get "get" [required("descriptor", Descriptor), required("option", OPTIONS)] "Reads an option: a number.",
    Set "set" [required("descriptor", Descriptor), required("option", OPTIONS), required("value", Number)] "Sets an option.",
    Error "error" [required("descriptor", Descriptor)] "SO_ERROR: the word `none`, or the error's name.",
    Recv "recv" [required("descriptor", Descriptor), required("length", Number), repeated("flags", Word(&["peek", "waitall", "dontwait"]))] "recv(2): bytes.",
    Send "send" [required("descriptor", Descriptor), required("bytes", Bytes), repeated("flags", Word(&["signal", "dontwait"]))] "send(2), without SIGPIPE unless `signal`: how many bytes.",
    SendTo "send_to" [required("descriptor", Descriptor), required("bytes", Bytes), required("address", Address)] "sendto(2) without SIGPIPE: how many bytes.",
    Read "read" [required("descriptor", Descriptor), required("length", Number)] "read(2): bytes.",
    Write "write" [required("descriptor", Descriptor), required("bytes", Bytes)] "write(2): how many bytes.",
    Writev "writev" [required("descriptor", Descriptor), required("segments", Number), required("length", Number)] "writev(2) of that many segments of that length.",
    Sendmsg "sendmsg" [required("descriptor", Descriptor), required("segments", Number), required("length", Number)] "sendmsg(2) of that many segments of that length.",
    SendDescriptor "send_fd" [required("stream", Descriptor), required("descriptor", Descriptor)] "Sends a byte and a descriptor over a UNIX stream.",
    ReceiveDescriptor "receive_fd" [required("stream", Descriptor)] "Takes a byte and the descriptor that comes with it.",
    PipeSignals "sigpipes" [] "How many SIGPIPEs came since last asked.",
    Raise "raise" [] "Sends this process a signal that it ignores.",
    Alarm "alarm" [required("time", Time)] "Once this time has passed, a signal with a handler ends the call of this thread that blocks in a socket.",
    Eventfd "eventfd" [optional("initial", Number), optional("semaphore", Word(&["semaphore"]))] "eventfd(2), non-blocking.",
    ReadNumber "read_number" [required("descriptor", Descriptor)] "read(2) of eight bytes, as a number.",
    WriteNumber "write_number" [required("descriptor", Descriptor), required("number", Number)] "write(2) of eight bytes; -1 is 2^64-1.",
    Pipe "pipe" [] "pipe2(2), non-blocking: the reading end, the writing end.",
    Timerfd "timerfd" [] "timerfd_create(2) on the monotonic clock, non-blocking.",
    Arm "arm" [required("timer", Descriptor), required("first", Time), required("interval", Time), optional("absolute", Word(&["absolute"]))] "timerfd_settime(2); `absolute` counts from the present time.",
    Left "left" [required("timer", Descriptor)] "timerfd_gettime(2): nanoseconds left.",
    Interval "interval" [required("timer", Descriptor)] "timerfd_gettime(2): the interval in nanoseconds.",
    File "file" [required("bytes", Bytes)] "A regular file that holds these bytes.",
    Seek "seek" [required("file", Descriptor), required("offset", Number)] "lseek(2) from the start.",
    Sendfile "sendfile" [required("to", Descriptor), required("file", Descriptor), required("length", Number)] "sendfile(2): how many bytes.",
    Epoll "epoll" [] "epoll_create1(0).",
    EpollCreate "epoll_create" [required("size", Number)] "epoll_create(2).",
    EpollCreate1 "epoll_create1" [required("flags", Number)] "epoll_create1(2) with any flags.",
    Add "add" [required("epoll", Descriptor), required("descriptor", Descriptor), required("mask", Mask), optional("data", Word(&[]))] "EPOLL_CTL_ADD; the data is the descriptor's name unless `data=n`.",
    Mod "mod" [required("epoll", Descriptor), required("descriptor", Descriptor), required("mask", Mask), optional("data", Word(&[]))] "EPOLL_CTL_MOD.",
    Del "del" [required("epoll", Descriptor), required("descriptor", Descriptor)] "EPOLL_CTL_DEL.",
    Control "ctl" [required("epoll", Descriptor), required("operation", Number), required("descriptor", Descriptor), optional("mask", Mask)] "epoll_ctl(2) with any operation; without a mask the event is NULL.",
    Wait "wait" [required("epoll", Descriptor), optional("room", Number), optional("timeout", Time)] "epoll_wait(2): events. Room 64 and no timeout unless said.",
    Pwait2 "pwait2" [required("epoll", Descriptor), required("room", Number), required("seconds", Number), required("nanoseconds", Number)] "epoll_pwait2(2): events.",
    Poll "poll" [required("entries", Entries), required("timeout", Time)] "poll(2): the entries for which something was found.",
    Select "select" [required("reading", Descriptors), required("writing", Descriptors), required("exceptional", Descriptors), required("timeout", Time)] "select(2): `r:A`, `w:B`, `x:C`.",
    Kqueue "kqueue" [] "kqueue(2).",
    Kevent "kevent" [required("kqueue", Descriptor), required("changes", Changes), optional("room", Number), optional("timeout", Time)] "kevent(2): events. Room 0 and no timeout unless said.",
    Kwait "kwait" [required("kqueue", Descriptor), optional("room", Number), optional("timeout", Time)] "kevent(2) without changes: events. Room 64 and no timeout unless said.",
    StartWait "start" [required("set", Descriptor), optional("room", Number), optional("timeout", Time)] "Starts a wait on another thread, and lets it fall asleep; for ever unless said.",
    Over "over" [required("wait", Ticket)] "1 if that wait is over, else 0.",
    Finish "finish" [required("wait", Ticket)] "The end of that wait: its events.",
    Interrupt "interrupt" [required("wait", Ticket)] "Sends a signal to the thread that waits.",
    Clock "clock" [] "clock_gettime(2) of the monotonic clock: nanoseconds.",
    Ports "ports" [required("low", Number), required("high", Number)] "Sets the range of ephemeral ports, both ends included; needs `netns`.",
    Loopback "loopback" [required("how", Word(&["up", "down"]))] "`up` gives the loopback its address and route, `down` is as before it was ever up; needs `netns`, where it is down at first.",
    Sleep "sleep" [required("time", Time)] "Lets time pass.",
}

impl Verb {
    /// The verb with this name.
    pub fn from_name(name: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|verb| verb.name() == name)
    }

    /// How it is written, for messages: `bind DESCRIPTOR ADDRESS`.
    pub fn usage(self) -> String {
        let mut usage = self.name().to_owned();
        for parameter in self.parameters() {
            let name = parameter.name.to_uppercase();
            match parameter.presence {
                Presence::Required => usage += &format!(" {name}"),
                Presence::Optional => usage += &format!(" [{name}]"),
                Presence::Repeated => usage += &format!(" [{name}]..."),
            }
        }
        usage
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
