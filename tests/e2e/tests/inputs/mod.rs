//! What is in traces and in messages: too much, or nothing that anybody could use.

mod huge;
mod memory;
mod panics;
mod unreadable;

pub(crate) use huge::{
    c19_a_huge_trace_is_exact_and_holds_up_nobody,
    c19_a_line_of_fifty_megabytes_is_marked_where_it_is_cut,
    c19_more_huge_traces_than_places_hold_up_nobody,
};
pub(crate) use memory::c19_memory_stays_flat_whatever_the_size_and_whatever_waits;
pub(crate) use panics::c20_a_panic_is_one_messages_end_alone;
pub(crate) use unreadable::c20_a_message_that_nobody_can_read_is_a_dead_letter_at_once;
