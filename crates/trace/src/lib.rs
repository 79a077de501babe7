//! Bytes of a trace in, lines out.
