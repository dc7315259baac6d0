//! The two forms of a kevent: the seam's, and the full width that scripts use and the kernel works with.

use std::fmt;

use reactor::sys::{Errno, Filter, Kevent, KeventFlags, Note};

use super::seam_filter;
use crate::kernel::syscalls::names_of;
use crate::script::probe::{WideFilter, WideKevent, WideNotes};
use crate::trace::Word;

/// An entry of a change list or of an event list.
pub(crate) trait Entry: Copy {
    /// An entry to fill lists with.
    const EMPTY: Self;

    /// In full width.
    fn wide(&self) -> WideKevent;

    /// From full width; `None` if this form has no such filter.
    fn from_wide(wide: &WideKevent) -> Option<Self>;
}

impl Entry for WideKevent {
    const EMPTY: WideKevent = WideKevent {
        ident: 0,
        filter: WideFilter::Bad,
        flags: KeventFlags::empty(),
        notes: WideNotes::empty(),
        eof_error: None,
        change_error: None,
        data: 0,
        udata: 0,
    };

    #[inline]
    fn wide(&self) -> WideKevent {
        *self
    }

    #[inline]
    fn from_wide(wide: &WideKevent) -> Option<WideKevent> {
        Some(*wide)
    }
}

impl Entry for Kevent {
    const EMPTY: Kevent = Kevent::EMPTY;

    #[inline]
    fn wide(&self) -> WideKevent {
        let filter = match self.filter {
            Filter::Read => WideFilter::Read,
            Filter::Write => WideFilter::Write,
            Filter::User => WideFilter::User,
        };
        let notes = if self.note == Note::Trigger { WideNotes::TRIGGER } else { WideNotes::empty() };
        WideKevent {
            ident: self.ident,
            filter,
            flags: self.flags,
            notes,
            eof_error: None,
            change_error: None,
            data: self.data,
            udata: self.udata,
        }
    }

    #[inline]
    fn from_wide(wide: &WideKevent) -> Option<Kevent> {
        let error: Option<Errno> = wide.eof_error.or(wide.change_error);
        Some(Kevent {
            ident: wide.ident,
            filter: seam_filter(wide.filter)?,
            flags: wide.flags,
            note: error.map_or(Note::None, Note::Error),
            data: wide.data,
            udata: wide.udata,
        })
    }
}

impl WideKevent {
    /// One word of the trace.
    pub(crate) fn trace_word(&self) -> u64 {
        let WideKevent { ident, filter, flags, notes, data, udata, .. } = *self;
        let bits = u64::from(flags.bits()) << 8 | filter as u64;
        udata
            ^ ident.rotate_left(32)
            ^ bits.rotate_left(48)
            ^ data.cast_unsigned()
            ^ u64::from((notes - WideNotes::TRIGGER).bits()).rotate_left(16)
    }
}

/// As traces show it.
impl fmt::Display for WideKevent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.filter {
            WideFilter::Read => write!(f, "READ fd{}", self.ident)?,
            WideFilter::Write => write!(f, "WRITE fd{}", self.ident)?,
            WideFilter::User => f.write_str("USER")?,
            WideFilter::Timer => write!(f, "TIMER {}", self.ident)?,
            WideFilter::Signal => write!(f, "SIGNAL {}", self.ident)?,
            WideFilter::Bad => f.write_str("a filter that does not exist")?,
        }
        write!(f, " {}, data {}", names_of(self.flags.iter_names()), self.data)?;
        if self.notes.contains(WideNotes::TRIGGER) {
            f.write_str(", triggered")?;
        }
        if let Some(error) = self.eof_error.or(self.change_error) {
            write!(f, ", {}", error.name())?;
        }
        write!(f, " for {}", Word(self.udata))
    }
}
