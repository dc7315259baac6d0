//! The code of README.md and of sim/GUIDE.md as it is written there, taken out by the build script: it compiles, and its tests pass.

mod readme {
    #![expect(dead_code, reason = "a server on real sockets is compiled, and not started")]
    include!(concat!(env!("OUT_DIR"), "/readme.rs"));
}

/// The first attempt; `chat.rs` shows that its bug is found.
#[allow(dead_code, reason = "it has a bug, so no test here passes with it")]
mod first {
    include!(concat!(env!("OUT_DIR"), "/guide_chat.rs"));
}

mod mended {
    include!(concat!(env!("OUT_DIR"), "/guide_chat_mended.rs"));
}

mod guide {
    use super::mended as chat;
    include!(concat!(env!("OUT_DIR"), "/guide_test.rs"));
}
