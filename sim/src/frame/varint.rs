//! Numbers of any length: seven bits a byte, the lowest first (LEB128).

/// The most bytes that a number takes.
const BYTES_MAX: usize = 10;

pub(crate) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front; `None` if there is no whole one, or it does not fit.
pub(crate) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for place in 0..BYTES_MAX {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if place == BYTES_MAX - 1 && part > 1 {
            return None;
        }
        number |= part << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Small differences of either sign become small numbers.
pub(crate) fn zigzag(difference: i64) -> u64 {
    (difference << 1 ^ difference >> 63).cast_unsigned()
}

pub(crate) fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            let mut rest = bytes.as_slice();
            assert_eq!(take(&mut rest), Some(number));
            assert!(rest.is_empty());
            assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
        }
        for difference in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(difference)), difference);
        }
    }

    #[test]
    fn a_number_beyond_64_bits_is_refused() {
        assert_eq!(take(&mut [0xff; 9].iter().copied().chain([2]).collect::<Vec<u8>>().as_slice()), None);
        assert_eq!(take(&mut [0x80; 20].as_slice()), None);
    }
}
