//! From lines to bulk bodies.

use trace::Line;

use crate::{
    bulk::{BulkBody, BulkBuilder},
    document::LineWriter,
    seen::Seen,
};

/// Bodies that are being filled with the lines of one trace.
pub(crate) struct Filling {
    /// What makes the documents; its links go on counting in a clone of it.
    pub(crate) writer: LineWriter,
    builder: BulkBuilder,
    /// Bodies that are full, in order.
    pub(crate) full: Vec<BulkBody>,
    document: Vec<u8>,
    /// Lines so far.
    pub(crate) lines: u64,
    /// What the manifest will say of them.
    pub(crate) seen: Seen,
}

impl Filling {
    pub(crate) fn new(writer: LineWriter, seen: Seen) -> Self {
        Self {
            writer,
            builder: BulkBuilder::default(),
            full: Vec::new(),
            document: Vec::new(),
            lines: 0,
            seen,
        }
    }

    /// Adds a line's document.
    pub(crate) fn add(&mut self, line: &Line<'_>) {
        self.lines += 1;
        self.seen.see(line);
        self.document.clear();
        self.writer.write_action(line, &mut self.document);
        self.builder.add(&self.document);
        if self.builder.is_full() {
            self.full.push(self.builder.take());
        }
    }

    /// Whether lines wait in a body that is not full.
    pub(crate) fn is_begun(&self) -> bool {
        !self.builder.is_empty()
    }

    /// Closes the body that is being filled, full or not.
    pub(crate) fn close(&mut self) {
        if self.is_begun() {
            self.full.push(self.builder.take());
        }
    }

    /// All bodies that are left, the last one maybe not full.
    pub(crate) fn finish(&mut self) -> Vec<BulkBody> {
        self.close();
        std::mem::take(&mut self.full)
    }
}
