//! Bulk bodies: filled and compressed as they grow, so that memory stays flat.
//!
//! Only the compressed bytes are kept. When some items must be sent again, the body is inflated
//! once more and those items are copied out of it.

use std::io::{self, BufRead, BufReader, Write};

use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// A body is full at this many bytes before compression.
const LARGEST: usize = 8 * 1024 * 1024;
/// And at this many documents.
const MOST: usize = 5_000;
/// And at this many bytes after compression: text that does not compress is not to take more memory
/// than text that does.
const LARGEST_COMPRESSED: usize = 256 * 1024;

/// A full body and what its last document, of up to some 40 KiB, adds.
const ROOM: usize = LARGEST_COMPRESSED + 64 * 1024;

/// A body that is being filled.
#[derive(Default)]
pub(crate) struct BulkBuilder {
    /// Only from the first document on: a compressor takes hundreds of KiB.
    gzip: Option<GzEncoder<Vec<u8>>>,
    bytes: usize,
    documents: usize,
}

/// A full body, ready to be sent as often as it takes.
#[derive(Debug, Clone)]
pub(crate) struct BulkBody {
    /// The compressed NDJSON.
    pub gzip: Bytes,
    /// How many documents are in it.
    pub documents: usize,
}

impl BulkBuilder {
    /// Adds one document: its action line and its source line.
    pub(crate) fn add(&mut self, two_lines: &[u8]) {
        let gzip = self.gzip.get_or_insert_with(compressor);
        gzip.write_all(two_lines)
            .expect("writing into memory does not fail");
        self.bytes += two_lines.len();
        self.documents += 1;
    }

    /// Whether it must be sent before more is added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= LARGEST || self.documents >= MOST || self.compressed() >= LARGEST_COMPRESSED
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// The finished body; the builder begins anew.
    pub(crate) fn take(&mut self) -> BulkBody {
        let full = std::mem::take(self);
        let gzip = full.gzip.unwrap_or_else(compressor).finish();
        BulkBody {
            gzip: gzip.expect("writing into memory does not fail").into(),
            documents: full.documents,
        }
    }

    fn compressed(&self) -> usize {
        self.gzip.as_ref().map_or(0, |gzip| gzip.get_ref().len())
    }
}

/// Its output is of one size from the beginning: bodies that grow by doubling leave holes of all sizes
/// behind, twice as much memory as was ever used. What is not written to takes none.
fn compressor() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::with_capacity(ROOM), Compression::fast())
}

impl BulkBody {
    /// Shows the documents at these positions (ascending), each with its action and source line. One at
    /// a time: inflated, all of them would take many times the memory of the body.
    pub(crate) fn documents_at(
        &self,
        positions: &[usize],
        mut show: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut lines = BufReader::new(GzDecoder::new(&self.gzip[..]));
        let mut wanted = positions.iter().copied().peekable();
        let mut document = Vec::new();
        for position in 0..self.documents {
            if wanted.peek().is_none() {
                break;
            }
            document.clear();
            lines.read_until(b'\n', &mut document)?;
            lines.read_until(b'\n', &mut document)?;
            if wanted.next_if_eq(&position).is_some() {
                show(&document);
            }
        }
        Ok(())
    }

    /// A body of the documents at these positions alone.
    pub(crate) fn only(&self, positions: &[usize]) -> io::Result<Self> {
        let mut builder = BulkBuilder::default();
        self.documents_at(positions, |document| builder.add(document))?;
        Ok(builder.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_to_send_again_are_copied_out_of_the_body() {
        let mut builder = BulkBuilder::default();
        for number in 0..100 {
            builder.add(format!("action {number}\nsource {number}\n").as_bytes());
        }
        let body = builder.take();
        assert!(builder.is_empty());
        let again = body.only(&[0, 41, 99]).unwrap();
        assert_eq!(again.documents, 3);
        let mut documents = Vec::new();
        again
            .documents_at(&[0, 1, 2], |document| documents.extend_from_slice(document))
            .unwrap();
        assert_eq!(
            String::from_utf8(documents).unwrap(),
            "action 0\nsource 0\naction 41\nsource 41\naction 99\nsource 99\n"
        );
    }

    #[test]
    fn a_body_is_full_by_documents_or_by_bytes() {
        let mut builder = BulkBuilder::default();
        for _ in 0..MOST {
            assert!(!builder.is_full());
            builder.add(b"{}\n{}\n");
        }
        assert!(builder.is_full());
        let mut builder = BulkBuilder::default();
        builder.add(&vec![b'x'; LARGEST]);
        assert!(builder.is_full());
        assert!(builder.take().gzip.len() < LARGEST_COMPRESSED);
        let mut random = vec![0; LARGEST_COMPRESSED * 2];
        rand::fill(&mut random[..]);
        builder.add(&random);
        assert!(builder.is_full());
    }
}
