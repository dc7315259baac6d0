//! A group of processes whose memory the kernel limits, where this user may make one: in the hierarchy of version 2 by
//! `memory.high`, which slows down who has more, and in that of version 1 by the memory of TCP sockets, which then send and
//! take less. Neither ends anybody.
//!
//! A group is a folder and would outlive its processes. A small process removes it when the soak has ended, however it did.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Failure;
use crate::machine::Stopwatch;

/// What names of groups begin with; then come the process and a number.
const PREFIX: &str = "soak-";

/// How long a group may take to be empty.
const EMPTY_WITHIN_NS: u64 = 10_000_000_000;

/// Groups of this process that ever were.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// How a hierarchy limits memory.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The file that holds the limit, what it holds without one, and the one that says what is in use.
    const fn files(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Version::One => {
                ("memory.kmem.tcp.limit_in_bytes", "1099511627776", "memory.kmem.tcp.usage_in_bytes")
            }
            Version::Two => ("memory.high", "max", "memory.current"),
        }
    }
}

/// See the module. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    path: PathBuf,
    version: Version,
    remover: Option<Child>,
}

impl MemoryGroup {
    /// Makes a group without a limit.
    ///
    /// # Errors
    /// In words: why there can be none.
    pub(crate) fn make() -> Result<MemoryGroup, String> {
        let (parent, version) = hierarchy()?;
        remove_stale(&parent);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let group = MemoryGroup { path, version, remover: None };
        // Sockets that were made before any limit are never counted (version 1).
        group.limit(None)?;
        let _ = group.used_bytes()?;
        Ok(group)
    }

    /// Has it removed also when this process is killed.
    ///
    /// # Errors
    /// In words: no process can be begun.
    pub(crate) fn keep_safe(&mut self) -> Result<(), String> {
        let remover = Command::new("/proc/self/exe")
            .arg("remove-group")
            .arg(&self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal is not for it: it ends last.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("a process that removes the group: {error}"))?;
        self.remover = Some(remover);
        Ok(())
    }

    /// Where processes write their number to join.
    pub(crate) fn members(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    fn read(&self, file: &str) -> Result<u64, String> {
        let path = self.path.join(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // Without a limit it may be a word.
        Ok(text.trim().parse().unwrap_or(u64::MAX))
    }

    fn used_bytes(&self) -> Result<u64, String> {
        self.read(self.version.files().2)
    }

    /// Whether it has all that it may have.
    pub(crate) fn is_short(&self) -> bool {
        /// The kernel counts whole pages.
        const PAGE_BYTES: u64 = 4096;
        let limit = self.read(self.version.files().0);
        matches!((self.used_bytes(), limit), (Ok(used), Ok(limit)) if used.saturating_add(PAGE_BYTES) > limit)
    }

    fn limit(&self, bytes: Option<u64>) -> Result<(), String> {
        let (file, unlimited, _) = self.version.files();
        let path = self.path.join(file);
        let text = bytes.map_or_else(|| unlimited.to_owned(), |bytes| bytes.to_string());
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Limits the group to `percent` of what it uses now, or to a little if that is more.
    ///
    /// # Errors
    /// In words: the limit cannot be set.
    pub(crate) fn squeeze(&self, percent: u64) -> Result<(), String> {
        let least = match self.version {
            Version::One => 4 << 10,
            Version::Two => 4 << 20,
        };
        let bytes = (self.used_bytes()? / 100 * percent).max(least);
        self.limit(Some(bytes))
    }

    /// No limit any more.
    pub(crate) fn release(&self) {
        // A group that cannot be released is gone.
        let _ = self.limit(None);
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        remove(&self.path);
        if let Some(mut remover) = self.remover.take() {
            drop(remover.stdin.take());
            let _ = remover.wait();
        }
    }
}

/// The folder of a group that may have groups in it, and how that limits memory.
fn hierarchy() -> Result<(PathBuf, Version), String> {
    let own =
        fs::read_to_string("/proc/self/cgroup").map_err(|_| "there are no control groups".to_owned())?;
    let of = |controller: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next()? == controller)
                .then(|| fields.next().unwrap_or("/").trim_start_matches('/').to_owned())
        })
    };
    if let Some(group) = of("memory") {
        let root = Path::new("/sys/fs/cgroup/memory");
        return [root.join(group), root.to_owned()]
            .into_iter()
            .find(|path| path.join(Version::One.files().0).exists())
            .map(|path| (path, Version::One))
            .ok_or_else(|| "this kernel does not limit the memory of TCP sockets by groups".to_owned());
    }
    let group = of("").ok_or("there is no group of version 2")?;
    let path = Path::new("/sys/fs/cgroup").join(group);
    let parent = path.parent().unwrap_or(&path).to_owned();
    for path in [path, parent] {
        let control = fs::read_to_string(path.join("cgroup.subtree_control")).unwrap_or_default();
        if control.split_whitespace().any(|controller| controller == "memory") {
            return Ok((path, Version::Two));
        }
    }
    Err("no memory controller that this process may hand on".to_owned())
}

/// Removes groups of soaks that are gone; one that has processes in it cannot be removed.
fn remove_stale(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Removes a group when its last process is gone, if that is soon.
fn remove(path: &Path) {
    let watch = Stopwatch::start();
    while path.exists() && fs::remove_dir(path).is_err() && watch.ns() < EMPTY_WITHIN_NS {
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// `soak remove-group`: waits for the end of standard input, and removes the group.
pub(crate) fn remove_when_over(path: &Path) -> Result<(), Failure> {
    let is_ours =
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
    if !is_ours || !path.starts_with("/sys/fs/cgroup") {
        return Err(Failure::Usage(format!("{} is no group of a soak", path.display())));
    }
    let mut rest = Vec::new();
    // Whatever ends the input, it is over.
    let _ = std::io::stdin().lock().read_to_end(&mut rest);
    remove(path);
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_there_as_long_as_it_is_wanted() {
        let group = match MemoryGroup::make() {
            Ok(group) => group,
            Err(reason) => return eprintln!("skipped: {reason}"),
        };
        let path = group.path.clone();
        assert!(path.is_dir());
        assert!(!group.is_short());
        group.squeeze(50).unwrap();
        group.release();
        assert!(!group.is_short());
        drop(group);
        assert!(!path.exists());
    }

    #[test]
    fn nothing_but_a_group_of_a_soak_is_removed() {
        assert!(remove_when_over(Path::new("/tmp/soak-1-1")).is_err());
        assert!(remove_when_over(Path::new("/sys/fs/cgroup/memory")).is_err());
    }
}
