//! The fuzz targets, without an engine: each is a function of bytes, and a way to say what bytes mean.
//!
//! `fuzz/` hands them to libFuzzer; `cargo test` runs every committed input through the same functions.

mod decoders;
mod loops;
mod models;

use std::fmt;
use std::marker::PhantomData;

use arbitrary::{Arbitrary, Unstructured};

pub use decoders::{CallScript, DecisionScript, KeptRun, RealRecording};
pub use loops::{LoopCluster, LoopEcho, LoopTimers, LoopWake};
pub use models::{Conform, KqueueTranslation, Registry, TimerWheel, WriteQueue};

/// Something that is checked on arbitrary bytes.
pub trait Target {
    /// The name of its file in `fuzz/fuzz_targets/`, and of its folders of inputs.
    const NAME: &'static str;

    /// Runs an input.
    ///
    /// # Panics
    /// When something is wrong.
    fn check(bytes: &[u8]);

    /// What an input means, in words. Never panics, whatever the input does.
    fn tell(bytes: &[u8]) -> String;
}

/// An input of a target: any bytes. What prints it is [`Target::tell`], which `cargo fuzz fmt` shows.
pub struct Input<T> {
    bytes: Vec<u8>,
    target: PhantomData<T>,
}

impl<T: Target> Input<T> {
    /// Runs it.
    pub fn check(&self) {
        T::check(&self.bytes);
    }
}

impl<'a, T> Arbitrary<'a> for Input<T> {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Input<T>> {
        let bytes = input.bytes(input.len())?.to_vec();
        Ok(Input { bytes, target: PhantomData })
    }

    fn arbitrary_take_rest(mut input: Unstructured<'a>) -> arbitrary::Result<Input<T>> {
        Input::arbitrary(&mut input)
    }
}

impl<T: Target> fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::tell(&self.bytes))
    }
}

/// A target as a row of [`TARGETS`].
#[derive(Copy, Clone, Debug)]
pub struct Row {
    /// [`Target::NAME`].
    pub name: &'static str,
    /// [`Target::check`].
    pub check: fn(&[u8]),
    /// [`Target::tell`].
    pub tell: fn(&[u8]) -> String,
}

impl Row {
    const fn of<T: Target>() -> Row {
        Row { name: T::NAME, check: T::check, tell: T::tell }
    }
}

/// Every target.
pub const TARGETS: &[Row] = &[
    Row::of::<LoopEcho>(),
    Row::of::<LoopTimers>(),
    Row::of::<LoopWake>(),
    Row::of::<LoopCluster>(),
    Row::of::<TimerWheel>(),
    Row::of::<WriteQueue>(),
    Row::of::<Registry>(),
    Row::of::<KqueueTranslation>(),
    Row::of::<Conform>(),
    Row::of::<KeptRun>(),
    Row::of::<RealRecording>(),
    Row::of::<DecisionScript>(),
    Row::of::<CallScript>(),
];
