//! The lines that the runner itself writes around a script, as version 19.4 does.

use super::job::Status;

/// Entries that the runner writes before and after those of the script.
pub(super) const HEAD: u64 = 11;
pub(super) const TAIL: u64 = 3;

/// One logical line: the writes it was made of, and what is to be seen of it.
pub(super) struct Entry {
    pub(super) writer: &'static str,
    /// Each is a physical line in a trace with headers; without, they stand together.
    pub(super) writes: Vec<String>,
    pub(super) blank_before: bool,
    pub(super) text: Option<String>,
    pub(super) section: Option<String>,
}

/// What the runner writes before the script.
pub(super) fn head(index: usize, seconds: i64) -> Option<Entry> {
    let entry = match index {
        0 => runner(None, "Running with gitlab-runner 19.4.0 (d79f3e7b)"),
        1 => runner(None, "  on simulated t3_simul, system ID: s_1746f8786189"),
        2 => section(
            seconds,
            None,
            "prepare_executor",
            "Preparing the \"shell\" executor",
        ),
        3 => runner(Some("prepare_executor"), "Using Shell (bash) executor..."),
        4 => section(
            seconds,
            Some("prepare_executor"),
            "prepare_script",
            "Preparing environment",
        ),
        5 => script(Some("prepare_script"), "", "Running on simulated..."),
        6 => section(
            seconds,
            Some("prepare_script"),
            "get_sources",
            "Getting source from Git repository",
        ),
        7 => script(
            Some("get_sources"),
            "\x1b[32;1m",
            "Fetching changes with git depth set to 20...",
        ),
        8 => script(
            Some("get_sources"),
            "\x1b[32;1m",
            "Checking out 2293c50c as detached HEAD (ref is main)...",
        ),
        9 => section(
            seconds,
            Some("get_sources"),
            "step_script",
            "Executing \"step_script\" stage of the job script",
        ),
        10 => script(
            Some("step_script"),
            "\x1b[32;1m",
            "$ make all # collapsed multi-line command",
        ),
        _ => return None,
    };
    Some(entry)
}

/// What the runner writes after the script.
pub(super) fn tail(position: u64, seconds: i64, outcome: Option<Status>) -> Entry {
    const CLEANUP: &str = "cleanup_file_variables";
    match position {
        0 => section(
            seconds,
            Some("step_script"),
            CLEANUP,
            "Cleaning up project directory and file based variables",
        ),
        1 => Entry {
            writer: "00O",
            writes: vec![format!("section_end:{seconds}:{CLEANUP}\r\x1b[0K")],
            blank_before: false,
            text: None,
            section: None,
        },
        _ if outcome == Some(Status::Failed) => {
            let text = "ERROR: Job failed: exit code 1";
            Entry {
                writer: "00O",
                ..script(None, "\x1b[31;1m", text)
            }
        }
        _ => Entry {
            writer: "00O",
            ..script(None, "\x1b[32;1m", "Job succeeded")
        },
    }
}

/// A line of the runner's own.
fn runner(section: Option<&str>, text: &str) -> Entry {
    Entry {
        writer: "00O",
        writes: vec![format!("\x1b[0K{text}\x1b[0;m")],
        blank_before: false,
        text: Some(text.to_owned()),
        section: section.map(str::to_owned),
    }
}

/// A line from the job's shell.
fn script(section: Option<&str>, colour: &str, text: &str) -> Entry {
    let reset = if colour.is_empty() { "" } else { "\x1b[0;m" };
    Entry {
        writer: "01O",
        writes: vec![format!("{colour}{text}{reset}")],
        blank_before: false,
        text: Some(text.to_owned()),
        section: section.map(str::to_owned),
    }
}

/// The end of one section of the runner's, the start of the next and its title: three writes, one logical line.
fn section(seconds: i64, ended: Option<&str>, started: &str, title: &str) -> Entry {
    let mut writes = Vec::with_capacity(3);
    if let Some(ended) = ended {
        writes.push(format!("section_end:{seconds}:{ended}\r\x1b[0K"));
    }
    writes.push(format!("section_start:{seconds}:{started}\r\x1b[0K"));
    writes.push(format!("\x1b[0K\x1b[36;1m{title}\x1b[0;m\x1b[0;m"));
    Entry {
        writer: "00O",
        writes,
        blank_before: false,
        text: Some(title.to_owned()),
        section: Some(started.to_owned()),
    }
}
