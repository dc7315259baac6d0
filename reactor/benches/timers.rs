//! The timer wheel beside other timer queues, in one process and in interleaved rounds.
//!
//! Only figures of one run may be compared: the speed of a machine drifts. Pin the run to one core, for instance
//! `taskset -c 1 cargo bench -p reactor --bench timers`.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use reactor::timer::{TimerToken, TimerWheel};
use tokio_util::time::{DelayQueue, delay_queue};

const HELP: &str = "\
Times the timer wheel beside a lazily cleaned binary heap, a BTreeMap and tokio-util's DelayQueue.

usage: cargo bench -p reactor --bench timers -- [options]

  --rounds N     rounds, each running every queue once; the median is shown (default 5)
  --timers N     timers outstanding; may be given more than once (default 100000 and 1000000)
  --json         one JSON object per line instead of the table
  -h, --help     this text

Deadlines are spread evenly, 60 timers to a millisecond; timers are visited in random order. Columns, ns per operation:
  insert         arm a timer, with all before it outstanding
  put off        re-arm to a later deadline
  re-arm         re-arm to any deadline, earlier as often as later
  idle           idle timeouts of 30 s, each put off every 10 s, while the clock moves on by 10 ms and what is
                 due is collected: whatever a queue put off doing is paid for here; ns per re-arm
  cancel         cancel a timer
  expire         collect and pop, in steps of one millisecond; ns per timer
  bytes          resident memory per timer, from a process of its own (Linux)
Timings decide nothing: the exit code is 0 unless the arguments are wrong.
";

const MILLISECOND_NS: u64 = 1_000_000;
/// Ticks of the wheel, as `Config::default()` has them.
const TICK_NS: u64 = 1 << 20;
const TIMERS_PER_MILLISECOND: u64 = 60;
const IDLE_TIMEOUT_NS: u64 = 30_000_000_000;
/// Every timer is put off this often.
const IDLE_PUT_OFF_NS: u64 = 10_000_000_000;
/// How far the clock moves at once in the idle scenario.
const IDLE_STEP_NS: u64 = 10 * MILLISECOND_NS;

const COLUMNS: [&str; 6] = ["insert", "put off", "re-arm", "idle", "cancel", "expire"];

/// What is timed. Deadlines are nanoseconds from an origin of the queue's own; the clock only moves in `expire`.
trait Timers {
    const NAME: &'static str;
    type Key: Clone;
    fn new() -> Self;
    fn insert(&mut self, deadline_ns: u64, word: u64) -> Self::Key;
    fn rearm(&mut self, key: &Self::Key, deadline_ns: u64);
    fn cancel(&mut self, key: &Self::Key);
    /// Moves the clock, and pops what is due. Returns how many, and how long the queue itself took.
    fn expire(&mut self, now_ns: u64) -> (usize, Duration);
    /// Ends the queue, outside the clock.
    fn finish(self);
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

struct Wheel(TimerWheel);

impl Timers for Wheel {
    const NAME: &'static str = "wheel";
    type Key = TimerToken;

    fn new() -> Wheel {
        Wheel(TimerWheel::new(TICK_NS, reactor::time::Instant::from_ns(0)))
    }

    fn insert(&mut self, deadline_ns: u64, word: u64) -> TimerToken {
        self.0.arm(reactor::time::Instant::from_ns(deadline_ns), 0, word)
    }

    fn rearm(&mut self, key: &TimerToken, deadline_ns: u64) {
        black_box(self.0.rearm(*key, reactor::time::Instant::from_ns(deadline_ns)));
    }

    fn cancel(&mut self, key: &TimerToken) {
        black_box(self.0.cancel(*key));
    }

    fn expire(&mut self, now_ns: u64) -> (usize, Duration) {
        timed(|| {
            self.0.collect(reactor::time::Instant::from_ns(now_ns));
            let mut popped = 0;
            while let Some(due) = self.0.pop_due() {
                black_box(due);
                popped += 1;
            }
            popped
        })
    }

    fn finish(self) {}
}

/// A heap of (deadline, slot, generation) that forgets nothing at once: a cancelled or re-armed timer leaves its record,
/// which is dropped when it comes up, or when such records are more than the others. It has no order for equal
/// deadlines.
struct LazyHeap {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    slots: Vec<HeapSlot>,
    free: Vec<u32>,
    dead: usize,
}

struct HeapSlot {
    generation: u32,
    word: u64,
}

impl LazyHeap {
    fn clean(&mut self) {
        self.dead += 1;
        if self.dead > 64 && self.dead * 2 > self.heap.len() {
            let slots = &self.slots;
            self.heap
                .retain(|Reverse((_, slot, generation))| slots[*slot as usize].generation == *generation);
            self.dead = 0;
        }
    }
}

impl Timers for LazyHeap {
    const NAME: &'static str = "lazy heap";
    type Key = u32;

    fn new() -> LazyHeap {
        LazyHeap { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), dead: 0 }
    }

    fn insert(&mut self, deadline_ns: u64, word: u64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(HeapSlot { generation: 0, word: 0 });
            self.slots.len() as u32 - 1
        });
        let tenant = &mut self.slots[slot as usize];
        tenant.word = word;
        self.heap.push(Reverse((deadline_ns, slot, tenant.generation)));
        slot
    }

    fn rearm(&mut self, &slot: &u32, deadline_ns: u64) {
        let tenant = &mut self.slots[slot as usize];
        tenant.generation += 1;
        self.heap.push(Reverse((deadline_ns, slot, tenant.generation)));
        self.clean();
    }

    fn cancel(&mut self, &slot: &u32) {
        self.slots[slot as usize].generation += 1;
        self.free.push(slot);
        self.clean();
    }

    fn expire(&mut self, now_ns: u64) -> (usize, Duration) {
        timed(|| {
            let mut popped = 0;
            while let Some(&Reverse((deadline_ns, slot, generation))) = self.heap.peek() {
                if deadline_ns > now_ns {
                    break;
                }
                self.heap.pop();
                let tenant = &mut self.slots[slot as usize];
                if tenant.generation == generation {
                    tenant.generation += 1;
                    self.free.push(slot);
                    black_box(tenant.word);
                    popped += 1;
                } else {
                    self.dead -= 1;
                }
            }
            popped
        })
    }

    fn finish(self) {}
}

/// An ordered map from (deadline, slot), with the deadlines by slot.
struct OrderedMap {
    map: BTreeMap<(u64, u32), u64>,
    deadlines_ns: Vec<u64>,
}

impl Timers for OrderedMap {
    const NAME: &'static str = "BTreeMap";
    type Key = u32;

    fn new() -> OrderedMap {
        OrderedMap { map: BTreeMap::new(), deadlines_ns: Vec::new() }
    }

    fn insert(&mut self, deadline_ns: u64, word: u64) -> u32 {
        let slot = self.deadlines_ns.len() as u32;
        self.deadlines_ns.push(deadline_ns);
        self.map.insert((deadline_ns, slot), word);
        slot
    }

    fn rearm(&mut self, &slot: &u32, deadline_ns: u64) {
        let before_ns = std::mem::replace(&mut self.deadlines_ns[slot as usize], deadline_ns);
        let word = self.map.remove(&(before_ns, slot)).expect("armed");
        self.map.insert((deadline_ns, slot), word);
    }

    fn cancel(&mut self, &slot: &u32) {
        black_box(self.map.remove(&(self.deadlines_ns[slot as usize], slot)));
    }

    fn expire(&mut self, now_ns: u64) -> (usize, Duration) {
        timed(|| {
            let mut popped = 0;
            while let Some(entry) = self.map.first_entry() {
                if entry.key().0 > now_ns {
                    break;
                }
                black_box(entry.remove());
                popped += 1;
            }
            popped
        })
    }

    fn finish(self) {}
}

/// tokio-util's, on a paused clock; moving the clock is not counted.
struct Delays {
    queue: DelayQueue<u64>,
    runtime: tokio::runtime::Runtime,
    origin: tokio::time::Instant,
    now_ns: u64,
}

impl Timers for Delays {
    const NAME: &'static str = "DelayQueue";
    type Key = delay_queue::Key;

    fn new() -> Delays {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without input and output");
        let (queue, origin) = runtime.block_on(async { (DelayQueue::new(), tokio::time::Instant::now()) });
        Delays { queue, runtime, origin, now_ns: 0 }
    }

    fn insert(&mut self, deadline_ns: u64, word: u64) -> delay_queue::Key {
        let _context = self.runtime.enter();
        self.queue.insert_at(word, self.origin + Duration::from_nanos(deadline_ns))
    }

    fn rearm(&mut self, key: &delay_queue::Key, deadline_ns: u64) {
        let _context = self.runtime.enter();
        self.queue.reset_at(key, self.origin + Duration::from_nanos(deadline_ns));
    }

    fn cancel(&mut self, key: &delay_queue::Key) {
        let _context = self.runtime.enter();
        black_box(self.queue.remove(key));
    }

    fn expire(&mut self, now_ns: u64) -> (usize, Duration) {
        let step = Duration::from_nanos(now_ns - self.now_ns);
        self.now_ns = now_ns;
        let queue = &mut self.queue;
        self.runtime.block_on(async {
            tokio::time::advance(step).await;
            // Without the budget of a task: a poll that is cut short would look like one with nothing due.
            tokio::task::unconstrained(async {
                timed(|| {
                    let mut context = Context::from_waker(Waker::noop());
                    let mut popped = 0;
                    while let Poll::Ready(Some(expired)) = queue.poll_expired(&mut context) {
                        black_box(expired.into_inner());
                        popped += 1;
                    }
                    popped
                })
            })
            .await
        })
    }

    fn finish(self) {
        let Delays { queue, runtime, .. } = self;
        let _context = runtime.enter();
        drop(queue);
    }
}

/// SplitMix64: the same operations in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Deadlines and orders, made before anything is timed.
struct Plan {
    deadlines_ns: Vec<u64>,
    /// By position in the order of visiting.
    order: Vec<u32>,
    later_ns: Vec<u64>,
    any_ns: Vec<u64>,
    span_ns: u64,
}

impl Plan {
    fn new(timers: usize, random: &mut Random) -> Plan {
        let span_ns = timers as u64 / TIMERS_PER_MILLISECOND * MILLISECOND_NS + MILLISECOND_NS;
        let deadlines_ns: Vec<u64> = (0..timers).map(|_| MILLISECOND_NS + random.below(span_ns)).collect();
        let mut order: Vec<u32> = (0..timers as u32).collect();
        random.shuffle(&mut order);
        let later_ns =
            order.iter().map(|&slot| deadlines_ns[slot as usize] + random.below(span_ns)).collect();
        let any_ns = (0..timers).map(|_| MILLISECOND_NS + random.below(2 * span_ns)).collect();
        Plan { deadlines_ns, order, later_ns, any_ns, span_ns }
    }
}

fn fill<T: Timers>(plan: &Plan) -> (T, Vec<T::Key>, Duration) {
    let mut timers = T::new();
    let mut keys = Vec::with_capacity(plan.deadlines_ns.len());
    let (_, took) = timed(|| {
        for (word, &deadline_ns) in plan.deadlines_ns.iter().enumerate() {
            keys.push(timers.insert(deadline_ns, word as u64));
        }
    });
    (timers, keys, took)
}

/// One round of one queue: nanoseconds per operation, by column.
fn round<T: Timers>(plan: &Plan) -> [f64; COLUMNS.len()] {
    let count = plan.deadlines_ns.len();
    let per_timer = |took: Duration| took.as_nanos() as f64 / count as f64;

    let (mut timers, keys, insert) = fill::<T>(plan);
    // The keys in the order of visiting: a connection keeps its own, and it is in the cache when the connection is.
    let keys: Vec<T::Key> = plan.order.iter().map(|&slot| keys[slot as usize].clone()).collect();
    let (_, put_off) = timed(|| {
        for (key, &deadline_ns) in keys.iter().zip(&plan.later_ns) {
            timers.rearm(key, deadline_ns);
        }
    });
    let (_, rearm) = timed(|| {
        for (key, &deadline_ns) in keys.iter().zip(&plan.any_ns) {
            timers.rearm(key, deadline_ns);
        }
    });
    let (_, cancel) = timed(|| {
        for key in &keys {
            timers.cancel(key);
        }
    });
    timers.finish();

    let (mut timers, _, _) = fill::<T>(plan);
    let (mut fired, mut expire) = (0, Duration::ZERO);
    let mut now_ns = 0;
    while now_ns < plan.span_ns + 3 * MILLISECOND_NS {
        now_ns += MILLISECOND_NS;
        let (popped, took) = timers.expire(now_ns);
        fired += popped;
        expire += took;
    }
    assert_eq!(fired, count, "{} fired", T::NAME);
    timers.finish();

    [
        per_timer(insert),
        per_timer(put_off),
        per_timer(rearm),
        idle::<T>(plan),
        per_timer(cancel),
        per_timer(expire),
    ]
}

fn idle<T: Timers>(plan: &Plan) -> f64 {
    let count = plan.order.len() as u64;
    let mut timers = T::new();
    // As if the connections had been opened over the first ten seconds, in the order in which they are put off.
    let mut deadlines_ns = vec![0; plan.order.len()];
    for (position, &slot) in (0..count).zip(&plan.order) {
        deadlines_ns[slot as usize] = position * IDLE_PUT_OFF_NS / count + IDLE_TIMEOUT_NS;
    }
    let keys: Vec<T::Key> = deadlines_ns.iter().map(|&deadline_ns| timers.insert(deadline_ns, 0)).collect();
    let keys: Vec<T::Key> = plan.order.iter().map(|&slot| keys[slot as usize].clone()).collect();

    let mut now_ns = IDLE_PUT_OFF_NS;
    timers.expire(now_ns);
    let batch = (count * IDLE_STEP_NS / IDLE_PUT_OFF_NS) as usize;
    let (mut took, mut visits) = (Duration::ZERO, 0);
    // Two timeouts long, so that whatever was put off comes up.
    for chunk in keys.chunks_exact(batch).cycle().take((2 * IDLE_TIMEOUT_NS / IDLE_STEP_NS) as usize) {
        let deadline_ns = now_ns + IDLE_TIMEOUT_NS;
        let (_, rearm) = timed(|| {
            for key in chunk {
                timers.rearm(key, deadline_ns);
            }
        });
        now_ns += IDLE_STEP_NS;
        let (fired, expire) = timers.expire(now_ns);
        assert_eq!(fired, 0, "{}: a timer that was put off fired", T::NAME);
        took += rearm + expire;
        visits += batch;
    }
    timers.finish();
    took.as_nanos() as f64 / visits as f64
}

/// Resident bytes of this process, where the system says.
fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// In a process of its own: prints the resident bytes that `count` timers added.
fn print_bytes<T: Timers>(count: usize) {
    let plan = Plan::new(count, &mut Random(1));
    // Written before the first measurement, so that the keys are not counted.
    let first = T::new().insert(1, 0);
    let mut keys = vec![first; count];
    let mut timers = T::new();
    let before = resident_bytes();
    for ((word, &deadline_ns), key) in (0..).zip(&plan.deadlines_ns).zip(&mut keys) {
        *key = timers.insert(deadline_ns, word);
    }
    let after = resident_bytes();
    black_box(&keys);
    timers.finish();
    if let (Some(before), Some(after)) = (before, after) {
        println!("{}", after.saturating_sub(before));
    }
}

fn bytes_per_timer(name: &str, count: usize) -> Option<f64> {
    let this = std::env::current_exe().ok()?;
    let output =
        Command::new(this).args(["--bytes-of", name, "--timers", &count.to_string()]).output().ok()?;
    let bytes: f64 = String::from_utf8(output.stdout).ok()?.trim().parse().ok()?;
    Some(bytes / count as f64)
}

struct Queue {
    name: &'static str,
    round: fn(&Plan) -> [f64; COLUMNS.len()],
    print_bytes: fn(usize),
}

const fn queue<T: Timers>() -> Queue {
    Queue { name: T::NAME, round: round::<T>, print_bytes: print_bytes::<T> }
}

const QUEUES: [Queue; 4] = [queue::<Wheel>(), queue::<LazyHeap>(), queue::<OrderedMap>(), queue::<Delays>()];

struct Options {
    rounds: usize,
    timers: Vec<usize>,
    json: bool,
    bytes_of: Option<String>,
}

/// `Ok(None)` for help.
fn options() -> Result<Option<Options>, String> {
    let mut options = Options { rounds: 5, timers: Vec::new(), json: false, bytes_of: None };
    let mut arguments = std::env::args().skip(1);
    let number = |option: &str, value: Option<String>, min: usize| -> Result<usize, String> {
        let value = value.ok_or(format!("{option} needs a number"))?;
        value
            .parse()
            .ok()
            .filter(|&number| number >= min)
            .ok_or(format!("{option} {value}: not a number from {min}"))
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "--json" => options.json = true,
            "--rounds" => options.rounds = number("--rounds", arguments.next(), 1)?,
            // Fewer would leave a step of the idle scenario empty.
            "--timers" => options.timers.push(number("--timers", arguments.next(), 1000)?),
            "--bytes-of" => options.bytes_of = arguments.next(),
            // Cargo says so.
            "--bench" => {}
            _ => return Err(format!("unknown argument {argument}; --help lists them")),
        }
    }
    if options.timers.is_empty() {
        options.timers = vec![100_000, 1_000_000];
    }
    Ok(Some(options))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("timers: {message}");
            return ExitCode::from(2);
        }
    };
    if let Some(name) = options.bytes_of {
        for queue in QUEUES.iter().filter(|queue| queue.name == name) {
            (queue.print_bytes)(options.timers[0]);
        }
        return ExitCode::SUCCESS;
    }
    for &count in &options.timers {
        let plan = Plan::new(count, &mut Random(count as u64));
        let mut rounds: [Vec<[f64; COLUMNS.len()]>; QUEUES.len()] = Default::default();
        for number in 0..options.rounds {
            // Another one begins each time, so that none always runs after the same neighbour.
            for turn in 0..QUEUES.len() {
                let index = (number + turn) % QUEUES.len();
                rounds[index].push((QUEUES[index].round)(&plan));
            }
        }
        let medians = rounds.map(|rounds| {
            let column = |index: usize| median(rounds.iter().map(|round| round[index]).collect());
            std::array::from_fn::<f64, { COLUMNS.len() }, _>(column)
        });
        let bytes = QUEUES.map(|queue| bytes_per_timer(queue.name, count));
        if options.json {
            print_json(count, options.rounds, &medians, &bytes);
        } else {
            print_table(count, options.rounds, &medians, &bytes);
        }
    }
    ExitCode::SUCCESS
}

type Medians = [[f64; COLUMNS.len()]; QUEUES.len()];

fn print_table(count: usize, rounds: usize, medians: &Medians, bytes: &[Option<f64>]) {
    println!("{count} timers outstanding, ns per operation, medians of {rounds} interleaved rounds");
    print!("{:12}", "");
    for column in COLUMNS {
        print!("{column:>9}");
    }
    println!("{:>9}", "bytes");
    for ((queue, row), bytes) in QUEUES.iter().zip(medians).zip(bytes) {
        print!("{:12}", queue.name);
        for value in row {
            print!("{value:9.1}");
        }
        match bytes {
            Some(bytes) => println!("{bytes:9.1}"),
            None => println!("{:>9}", "-"),
        }
    }
    for column in 1..4 {
        for (queue, row) in QUEUES.iter().zip(medians).skip(1) {
            let ratio = row[column] / medians[0][column];
            println!("{}: wheel vs {}: {ratio:.1} x", COLUMNS[column], queue.name);
        }
    }
    println!();
}

fn print_json(count: usize, rounds: usize, medians: &Medians, bytes: &[Option<f64>]) {
    for ((queue, row), bytes) in QUEUES.iter().zip(medians).zip(bytes) {
        print!("{{\"bench\":\"timers\",\"queue\":\"{}\",\"timers\":{count},\"rounds\":{rounds}", queue.name);
        for (column, value) in COLUMNS.iter().zip(row) {
            print!(",\"{}_ns\":{value:.2}", column.replace([' ', '-'], "_"));
        }
        match bytes {
            Some(bytes) => println!(",\"bytes_per_timer\":{bytes:.1}}}"),
            None => println!(",\"bytes_per_timer\":null}}"),
        }
    }
}
