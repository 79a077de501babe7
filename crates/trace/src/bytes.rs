//! Finding the bytes that need a closer look, at the speed of memory.

/// A byte that is not text as it stands: a control character other than the tab.
pub(crate) const fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// The length of the run at the start of `bytes` that holds no control character, and whether all
/// of it is ASCII.
#[inline]
pub(crate) fn text_run(bytes: &[u8]) -> (usize, bool) {
    // Blocks without a branch inside: the compiler turns them into vector code.
    const BLOCK: usize = 32;
    let mut length = 0;
    let mut high = 0;
    for block in bytes.as_chunks::<BLOCK>().0 {
        let mut control = false;
        let mut block_high = 0;
        for &byte in block {
            control |= is_control(byte);
            block_high |= byte;
        }
        if control {
            break;
        }
        high |= block_high;
        length += BLOCK;
    }
    let mut high = u64::from(high);
    for word in bytes[length..].as_chunks::<8>().0 {
        let word = u64::from_le_bytes(*word);
        if word_may_end_run(word) {
            break;
        }
        high |= word;
        length += 8;
    }
    for &byte in &bytes[length..] {
        if is_control(byte) {
            break;
        }
        high |= u64::from(byte);
        length += 1;
    }
    (length, high & (0x80 * ONES) == 0)
}

/// A one in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Whether one of eight bytes is a control character; the tab counts.
/// Bit Twiddling Hacks, «Determine if a word has a byte less than n», «… a zero byte».
const fn word_may_end_run(word: u64) -> bool {
    let below_space = word.wrapping_sub(0x20 * ONES) & !word;
    let delete = word ^ (0x7f * ONES);
    let is_delete = delete.wrapping_sub(ONES) & !delete;
    (below_space | is_delete) & (0x80 * ONES) != 0
}

/// How many bytes at the start of `bytes` all satisfy `belongs`.
#[inline]
pub(crate) fn run_of(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    let end = bytes.iter().position(|&byte| !belongs(byte));
    end.unwrap_or(bytes.len())
}

/// How many bytes at the end of `bytes` may be the start of a character that is not all there.
pub(crate) fn unfinished_character(bytes: &[u8]) -> usize {
    for (back, &byte) in bytes.iter().rev().take(3).enumerate() {
        let needed = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 0,
        };
        return if needed > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_at_each_control_character_and_nowhere_else() {
        for byte in 0..=255u8 {
            for at in 0..80 {
                let mut bytes = [b'a'; 80];
                bytes[at] = byte;
                let expected = if (byte < 32 && byte != 9) || byte == 127 {
                    at
                } else {
                    80
                };
                let (length, ascii) = text_run(&bytes);
                assert_eq!(length, expected, "byte {byte:#x} at {at}");
                assert_eq!(
                    ascii,
                    byte < 0x80 || at >= expected,
                    "byte {byte:#x} at {at}"
                );
            }
        }
    }

    #[test]
    fn a_character_cut_by_the_end_is_held_back() {
        for (bytes, held) in [
            (&b""[..], 0),
            (b"ab", 0),
            ("é".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"a\xe2\x82", 2),
            (b"\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98\x80", 0),
            (b"\x80\x80\x80\x80", 0),
            (b"\xff", 0),
            (b"\xe2a", 0),
        ] {
            assert_eq!(unfinished_character(bytes), held, "{bytes:x?}");
        }
    }
}
