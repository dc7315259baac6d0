//! Drifts: single ways in which the simulated kernel can be made to differ from Linux, to show that the comparison with the live kernel
//! finds them. Nothing but that comparison turns one on.

use std::fmt;

use crate::world::World;

macro_rules! drifts {
    ($($(#[$doc:meta])* $drift:ident $name:literal,)*) => {
        /// One way in which the simulated kernel differs from Linux on purpose.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Drift { $($(#[$doc])* $drift,)* }

        impl Drift {
            /// Every drift.
            pub const ALL: &'static [Drift] = &[$(Drift::$drift),*];

            /// The name used in options and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Drift::$drift => $name,)* }
            }
        }
    };
}

drifts! {
    /// Freed room is told to nobody, even after a shortage (M5, E19).
    LostRoomEdge "lost-nospace-edge",
    /// A FIN shows as soon as it is sent, before the data ahead of it (T78).
    EndOutOfBand "fin-out-of-band",
    /// `SO_ERROR` leaves the error where it is (T51).
    ErrorTwice "error-reported-twice",
    /// A new descriptor gets a number above all others (T1).
    HighestDescriptor "highest-descriptor-first",
    /// An edge is reported again as long as data remains (E15).
    RepeatedEdge "edge-repeated-while-data-remains",
    /// `OUT` shows whether or not there is room (T56).
    OutWithoutRoom "out-without-room",
    /// A registration that has fired once still reports HUP and ERR (E26).
    OneShotHangUp "oneshot-still-reporting-hup",
    /// accept on an empty queue answers EAGAIN at the descriptor limit (T35).
    LimitAfterEmpty "emfile-after-eagain",
    /// close sends a FIN although data is unread (T73).
    CloseIgnoresUnread "close-ignoring-unread-data",
    /// Closing a number ends its registration although a duplicate lives on (E7).
    CloseUnregisters "dup-closing-the-registration",
    /// The last of a batch comes first (E33).
    ReversedBatch "order-of-a-batch",
    /// A wait returns empty at half its time (E46).
    EmptyEarly "empty-return-before-the-timeout",
}

impl Drift {
    /// The drift with this name.
    pub fn from_name(name: &str) -> Option<Drift> {
        Drift::ALL.iter().copied().find(|drift| drift.name() == name)
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl World {
    /// Whether this world differs in this way.
    #[inline]
    pub(crate) fn drifts(&self, drift: Drift) -> bool {
        self.options.drift == Some(drift)
    }
}
