//! A network of its own for the processes of an episode: a thread in a network namespace without a name, which children of
//! that thread share. Nothing of it outlives the processes that are in it, however they end.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use crate::Failure;
use crate::member::spawn;

/// The addresses of the two ends of a link.
const LINK: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 213, 0, 1), Ipv4Addr::new(10, 213, 0, 2)];

/// The names of its two ends, each in a namespace of its own.
const ENDS: [&str; 2] = ["soak0", "soak1"];

/// Where a namespace says which ports connections get that ask for none.
const PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The first port of a range that is narrow.
const NARROW_FROM: u32 = 10_000;

/// Of the queues of a link: so much that nothing is ever dropped. A reset that is lost is not sent again, and who waits for
/// it would wait for ever.
const ROOM: [&str; 2] = ["100mb", "100000"];

/// The rate of a link that is not slowed down, and bytes that pass at once.
const FREE: [&str; 2] = ["4gbit", "4mb"];

/// How a link is slowed down.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// So little passes: by a token bucket at one end, and a class of a hierarchy of them at the other.
    Rate { kilobits_per_s: u64 },
    /// Packets are late, by about so much, and overtake each other.
    Late { delay_ms: u64 },
}

type Job = Box<dyn FnOnce() + Send>;

/// See the module. The namespace is gone when this is dropped and the processes in it have ended.
#[derive(Debug)]
pub(crate) struct Ground {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// The thread's number, by which the kernel finds its namespace.
    task: i32,
    /// Which end of a link it has, if it has one.
    end: Option<usize>,
}

impl Ground {
    /// Makes a namespace with a loopback of its own.
    ///
    /// # Errors
    /// In words: what the machine does not allow or does not have.
    pub(crate) fn make() -> Result<Ground, String> {
        let (jobs, received) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let thread = spawn("ground", move || {
            let made = enter_own();
            let has_failed = made.is_err();
            // Who asks is waiting for this.
            let _ = ready.send(made);
            if !has_failed {
                received.into_iter().for_each(|job| job());
            }
        })
        .map_err(|failure| failure.text().to_owned())?;
        let task = is_ready.recv().map_err(|_| "the thread of a namespace ended".to_owned())??;
        let ground = Ground { jobs: Some(jobs), thread: Some(thread), task, end: None };
        ground.call("ip", &["link", "set", "lo", "up"])?;
        Ok(ground)
    }

    /// Does something in the namespace: children that are begun there are in it.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        act: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let gone = || Failure::Machine("the thread of a namespace ended".to_owned());
        let (done, is_done) = mpsc::channel();
        let job: Job = Box::new(move || {
            // Whoever asked waits for it.
            let _ = done.send(act());
        });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        is_done.recv().map_err(|_| gone())
    }

    /// Runs a tool there; what it says.
    fn call(&self, program: &'static str, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.run(move || tool(program, &arguments)).map_err(|failure| failure.text().to_owned())?
    }

    /// Joins two namespaces by a link, this one at its first end.
    ///
    /// # Errors
    /// In words: what the machine does not allow or does not have.
    pub(crate) fn link(&mut self, other: &mut Ground) -> Result<(), String> {
        let task = other.task.to_string();
        let [near, far] = ENDS;
        self.call("ip", &["link", "add", near, "type", "veth", "peer", "name", far, "netns", &task])?;
        for (end, ground) in [&mut *self, &mut *other].into_iter().enumerate() {
            ground.call("ip", &["addr", "add", &format!("{}/30", LINK[end]), "dev", ENDS[end]])?;
            ground.call("ip", &["link", "set", ENDS[end], "up"])?;
            ground.end = Some(end);
        }
        Ok(())
    }

    /// Where those in this namespace are reached by all whom it is joined with.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.end.map_or(Ipv4Addr::LOCALHOST, |end| LINK[end])
    }

    /// Leaves no more than so many ports to connections that ask for none; `None` for as many as before.
    ///
    /// # Errors
    /// In words: the range cannot be set.
    pub(crate) fn limit_ports(&self, ports: Option<u32>) -> Result<(), String> {
        let range = match ports {
            Some(ports) => format!("{NARROW_FROM} {}", NARROW_FROM + ports.max(1) - 1),
            None => "32768 60999".to_owned(),
        };
        let set =
            self.run(move || std::fs::write(PORTS, range)).map_err(|failure| failure.text().to_owned())?;
        set.map_err(|error| format!("{PORTS}: {error}"))
    }

    /// Puts queues at this end of the link, which let everything pass; with `netem` also such that can make packets late.
    /// They stay for good, since a queue that is taken away drops what is in it.
    ///
    /// # Errors
    /// In words: the kernel does not have them.
    pub(crate) fn lay_queues(&self, netem: bool) -> Result<(), String> {
        let (device, [bytes, packets], [rate, burst]) = (self.device(), ROOM, FREE);
        let root = ["qdisc", "replace", "dev", device, "root", "handle", "1:"];
        if self.end == Some(0) {
            let tbf = ["tbf", "rate", rate, "burst", burst, "limit", bytes];
            self.call("tc", &[&root[..], &tbf].concat())?;
        } else {
            self.call("tc", &[&root[..], &["htb", "default", "1"]].concat())?;
            let class =
                ["class", "add", "dev", device, "parent", "1:", "classid", "1:1", "htb", "rate", rate];
            self.call("tc", &class)?;
            if !netem {
                let leaf = ["qdisc", "add", "dev", device, "parent", "1:1", "pfifo", "limit", packets];
                self.call("tc", &leaf)?;
            }
        }
        if netem {
            let leaf = ["qdisc", "add", "dev", device, "parent", "1:1", "handle", "2:", "netem"];
            self.call("tc", &[&leaf[..], &["delay", "0ms", "limit", packets]].concat())?;
        }
        Ok(())
    }

    /// Slows down what this end of the link sends, from now on.
    ///
    /// # Errors
    /// In words: there are no such queues.
    pub(crate) fn shape(&self, shape: Shape) -> Result<(), String> {
        match shape {
            Shape::Rate { kilobits_per_s } => self.set_rate(&format!("{kilobits_per_s}kbit"), "16kb"),
            Shape::Late { delay_ms } => self.set_delay(delay_ms),
        }
    }

    /// Lets everything pass again.
    pub(crate) fn unshape(&self, shape: Shape) {
        let [rate, burst] = FREE;
        // Where nothing was set nothing is to be undone.
        let _ = match shape {
            Shape::Rate { .. } => self.set_rate(rate, burst),
            Shape::Late { .. } => self.set_delay(0),
        };
    }

    fn set_rate(&self, rate: &str, burst: &str) -> Result<(), String> {
        let (device, [bytes, _]) = (self.device(), ROOM);
        let change = match self.end {
            Some(0) => {
                let root = ["qdisc", "change", "dev", device, "root", "handle", "1:"];
                [&root[..], &["tbf", "rate", rate, "burst", burst, "limit", bytes]].concat()
            }
            _ => {
                vec!["class", "change", "dev", device, "parent", "1:", "classid", "1:1", "htb", "rate", rate]
            }
        };
        self.call("tc", &change).map(|_| ())
    }

    fn set_delay(&self, delay_ms: u64) -> Result<(), String> {
        let (device, [_, packets]) = (self.device(), ROOM);
        let (delay, jitter) = (format!("{delay_ms}ms"), format!("{}ms", delay_ms / 2));
        let change = ["qdisc", "change", "dev", device, "parent", "1:1", "handle", "2:", "netem", "delay"];
        self.call("tc", &[&change[..], &[&delay, &jitter, "limit", packets]].concat()).map(|_| ())
    }

    /// How many packets had to wait at this end, or were lost, from the beginning.
    pub(crate) fn held_back(&self) -> u64 {
        held_back(&self.call("tc", &["-s", "qdisc", "show", "dev", self.device()]).unwrap_or_default())
    }

    fn device(&self) -> &'static str {
        self.end.map_or("lo", |end| ENDS[end])
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a list of queues says of packets that waited or were dropped.
fn held_back(told: &str) -> u64 {
    let words: Vec<&str> = told.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    let after = |name: &str| {
        let pairs = words.windows(2).filter(|pair| pair[0] == name);
        pairs.filter_map(|pair| pair[1].parse::<u64>().ok()).sum::<u64>()
    };
    after("overlimits") + after("dropped")
}

/// Moves the calling thread, and what it begins, into a namespace of its own. The thread's number.
#[cfg(target_os = "linux")]
fn enter_own() -> Result<i32, String> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("a network namespace cannot be made: {}", error.desc()))?;
    Ok(rustix::thread::gettid().as_raw_nonzero().get())
}

#[cfg(not(target_os = "linux"))]
fn enter_own() -> Result<i32, String> {
    Err("network namespaces are Linux's".to_owned())
}

/// Runs a tool to its end; what it says, or why it does not.
fn tool(program: &str, arguments: &[String]) -> Result<String, String> {
    let command = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = BufReader::new(&*output.stderr).lines().map_while(Result::ok);
    Err(format!("{}: {}", command(), said.next().unwrap_or_else(|| "it failed".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_waited_or_were_dropped_are_counted() {
        let told = "qdisc tbf 8001: root refcnt 5 rate 1Mbit burst 16Kb lat 200ms\n \
                    Sent 1234 bytes 7 pkt (dropped 3, overlimits 40 requeues 0)\n backlog 0b 0p requeues 0\n";
        assert_eq!(held_back(told), 43);
        assert_eq!(held_back(""), 0);
    }

    #[test]
    fn two_namespaces_that_are_joined_carry_what_is_sent_and_are_gone_with_their_threads() {
        use std::io::{Read, Write};
        use std::net::{TcpListener, TcpStream};
        let mut grounds = match (Ground::make(), Ground::make()) {
            (Ok(one), Ok(other)) => [one, other],
            (Err(reason), _) | (_, Err(reason)) => return eprintln!("skipped: {reason}"),
        };
        let [services, clients] = &mut grounds;
        services.link(clients).unwrap();
        let at = services.address();
        let listener = services.run(move || TcpListener::bind((at, 7001)).unwrap()).unwrap();
        let mut end = clients.run(move || TcpStream::connect((at, 7001)).unwrap()).unwrap();
        let (mut other, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), clients.address());
        end.write_all(b"through").unwrap();
        let mut bytes = [0; 7];
        other.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"through");
        // What waits is late, and comes.
        [&*services, &*clients].into_iter().for_each(|end| end.lay_queues(false).unwrap());
        let before = clients.held_back();
        clients.shape(Shape::Rate { kilobits_per_s: 1000 }).unwrap();
        end.write_all(&[7; 60_000]).unwrap();
        other.read_exact(&mut [0; 60_000]).unwrap();
        assert!(clients.held_back() > before);
        clients.unshape(Shape::Rate { kilobits_per_s: 1000 });
        // One port, which is in use: another connection to the same place has none.
        clients.limit_ports(Some(1)).unwrap();
        let first = clients.run(move || TcpStream::connect((at, 7001))).unwrap().unwrap();
        assert_eq!(u32::from(first.local_addr().unwrap().port()), NARROW_FROM);
        let error = clients.run(move || TcpStream::connect((at, 7001))).unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
        clients.limit_ports(None).unwrap();
        clients.run(move || TcpStream::connect((at, 7001))).unwrap().unwrap();
        assert!(
            std::fs::read_to_string(PORTS).unwrap().trim() != "10000 10000",
            "the machine's own is untouched"
        );
    }
}
