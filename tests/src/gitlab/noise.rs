//! Text that hardly compresses, as of a file that a job prints by mistake: words of three letters that look random and
//! depend on the job and the line alone. There are few different words, so that a search engine takes them easily.

/// One letter is six bits.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What the runner puts into one physical line at most; the rest of a longer one follows in others.
const PHYSICAL_LINE: usize = 8 * 1024;

/// A text of so many bytes, after this label, which makes it unique.
pub(super) fn text(label: &str, size: usize, seed: u64) -> String {
    let mut text = Vec::with_capacity(size + 12);
    text.extend_from_slice(label.as_bytes());
    let mut state = seed;
    while text.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let random = super::generator::scramble(state);
        for word in 0..3 {
            text.push(b' ');
            for letter in 0..3 {
                let bits = random >> (18 * word + 6 * letter) & 63;
                text.push(LETTERS[bits as usize]);
            }
        }
    }
    text.truncate(size.max(label.len()));
    // A line that ends in white space may be shown without it.
    if let Some(last @ b' ') = text.last_mut() {
        *last = b'.';
    }
    String::from_utf8(text).expect("labels and letters are text")
}

/// The writes that bring a text of one-byte characters into a trace.
pub(super) fn writes(text: &str) -> Vec<String> {
    let pieces = text.as_bytes().chunks(PHYSICAL_LINE);
    let pieces = pieces.map(|piece| String::from_utf8_lossy(piece).into_owned());
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_of_its_size_and_hardly_repeats() {
        let noise = text("line 1", 100_000, 7);
        assert_eq!(noise.len(), 100_000);
        assert!(noise.starts_with("line 1 "));
        assert!(noise.is_ascii());
        assert_eq!(noise, text("line 1", 100_000, 7));
        assert_ne!(noise, text("line 1", 100_000, 8));
        let mut words: Vec<&str> = noise.split(' ').collect();
        words.sort_unstable();
        words.dedup();
        assert!(words.len() > 20_000, "{} of 25,000 words", words.len());
        assert_eq!(text("a label", 3, 7), "a label");
        assert!((100..200).all(|size| !text("x", size, 7).ends_with(' ')));
    }

    #[test]
    fn a_long_text_is_written_in_pieces() {
        let noise = text("line 1", 3 * PHYSICAL_LINE + 1, 7);
        let writes = writes(&noise);
        assert_eq!(writes.len(), 4);
        assert_eq!(writes.concat(), noise);
    }
}
