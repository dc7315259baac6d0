//! Operations of a model from arbitrary bytes.

/// Bytes to be used up: zeros when exhausted, so that a shorter input is a simpler run.
#[derive(Copy, Clone, Debug)]
pub struct Operands<'a> {
    bytes: &'a [u8],
}

impl<'a> Operands<'a> {
    /// All of an input.
    pub fn new(bytes: &'a [u8]) -> Operands<'a> {
        Operands { bytes }
    }

    /// Whether only zeros are left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u64 {
        let Some((&first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        first.into()
    }

    /// The next two bytes, the lower one first.
    pub fn pair(&mut self) -> u64 {
        self.byte() | self.byte() << 8
    }

    /// Up to so many of the next bytes.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(most.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.byte() as usize % choices.len()]
    }
}
