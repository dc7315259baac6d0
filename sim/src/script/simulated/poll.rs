//! poll(2) and select(2) on the simulated kernel.

use reactor::sys::{EpollMask, Errno, Fd, Wait};

use crate::kernel::epoll::{ALWAYS, Asked};
use crate::kernel::poll::PollItem;
use crate::kernel::syscalls::SimSyscalls;
use crate::script::probe::{Answer, POLL_INVALID, PRI, PollEntry};
use crate::trace::CallKind;

/// What each of select's sets asks for.
const READING: EpollMask = EpollMask::IN.union(ALWAYS);
const WRITING: EpollMask = EpollMask::OUT.union(EpollMask::ERR);
const EXCEPTIONAL: EpollMask = EpollMask::from_bits_retain(PRI);

impl SimSyscalls {
    /// Waits until one of the items is ready; answers what each of them finds.
    fn poll_items(&mut self, items: &[PollItem], timeout_ms: i32) -> Answer<Vec<EpollMask>> {
        if self.kernel().is_bsd() {
            return Err(Errno::Unsupported);
        }
        let arguments = [u64::from(timeout_ms.cast_unsigned()), items.len() as u64];
        let find = |calls: &mut SimSyscalls| -> Vec<EpollMask> {
            let mut world = calls.world().enter(calls.thread());
            items.iter().map(|&item| world.poll_found(item)).collect()
        };
        let at_once = find(self);
        let timeout_ms = if at_once.iter().all(|found| found.is_empty()) { timeout_ms } else { 0 };
        let timeout_ns = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
        let set = self.world().enter(self.thread()).poll_begin(items);
        let asked = Asked { timeout_ns, arguments };
        let waited = self.wait_to_end(|calls, _| {
            let wait = calls
                .wait(CallKind::Poll, -1, arguments, |world, thread| world.poll_wait(thread, set, asked))?;
            Ok(matches!(wait, Wait::Ready(_)).then_some(()))
        });
        let found = find(self);
        self.world().enter(self.thread()).poll_end(set);
        waited.map(|()| found)
    }

    pub(super) fn poll_entries(&mut self, entries: &[PollEntry], timeout_ms: i32) -> Answer<Vec<PollEntry>> {
        let mut items = Vec::new();
        let mut answer = entries.to_vec();
        let mut places = Vec::new();
        let mut invalid = false;
        for (place, entry) in answer.iter_mut().enumerate() {
            let asked = std::mem::take(&mut entry.bits);
            if entry.fd < 0 {
                continue;
            }
            let mut world = self.world().enter(self.thread());
            match world.process_of(self.thread().0).get(Fd::from_raw(entry.fd)) {
                Some(object) => {
                    items.push(PollItem { object, mask: EpollMask::from_bits_retain(asked) | ALWAYS });
                    places.push(place);
                }
                None => {
                    entry.bits = POLL_INVALID;
                    invalid = true;
                }
            }
        }
        let found = self.poll_items(&items, if invalid { 0 } else { timeout_ms })?;
        for (place, found) in places.into_iter().zip(found) {
            answer[place].bits = found.bits();
        }
        Ok(answer)
    }

    pub(super) fn select_sets(&mut self, sets: [&[Fd]; 3], timeout_ms: i32) -> Answer<[Vec<Fd>; 3]> {
        let mut items = Vec::new();
        for (fds, mask) in sets.into_iter().zip([READING, WRITING, EXCEPTIONAL]) {
            for &fd in fds {
                let mut world = self.world().enter(self.thread());
                let object = world.process_of(self.thread().0).get(fd).ok_or(Errno::EBADF)?;
                items.push(PollItem { object, mask });
            }
        }
        let mut found = self.poll_items(&items, timeout_ms)?.into_iter();
        Ok(sets.map(|fds| {
            let left = fds.iter().zip(&mut found).filter(|(_, found)| !found.is_empty());
            left.map(|(&fd, _)| fd).collect()
        }))
    }
}
