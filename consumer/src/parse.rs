//! `consumer parse`: what a trace would become, for people who want to see it. Touches nothing.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use failure::Ending;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use trace::{Line, Options, Parser, Summary, Trailer};

use crate::{
    document::{Action, LineWriter, job_facts},
    flags::ParseFlags,
    job::Job,
    manifest::{hex, section, state_of},
    seen::{Seen, ending, failure_document},
};

/// An input of this many bytes or of unknown length gets a progress bar, where a terminal is there.
const LONG: u64 = 64 * 1024 * 1024;
/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// Prints the documents of a trace as NDJSON, and with `--summary` one object about all of it.
/// A reader that goes away (`| head -1`) is no fault.
pub fn parse(flags: &ParseFlags) -> Result<()> {
    let job = flags.job.as_deref().map(read_job).transpose()?;
    let is_stdin = flags.file == Path::new("-");
    // Of a stream the size is known only at its end, too late for the links to lines.
    let (mut input, size): (Box<dyn Read>, _) = if is_stdin {
        (Box::new(io::stdin().lock()), None)
    } else {
        let (file, size) = open(&flags.file)?;
        (Box::new(file), size)
    };
    let mut output = BufWriter::with_capacity(4 * CHUNK, io::stdout().lock());
    let rules = flags.failure.rules()?;
    let seen = flags.summary.then(|| match &job {
        Some(job) => Seen::of(job, &rules),
        // The log's end will say whether it failed.
        None => Seen::of_failed(&rules),
    });
    let printed = print(&mut input, &mut output, job.as_ref(), size, seen);
    match printed {
        Ok(()) => Ok(()),
        Err(error) if is_closed_pipe(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The file, and its size where it has one.
fn open(path: &Path) -> Result<(File, Option<u64>)> {
    let file = File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    let metadata = file
        .metadata()
        .with_context(|| format!("{} can't be read", path.display()))?;
    if metadata.is_dir() {
        bail!(
            "{} is a directory; give the file of a trace, or - for standard input",
            path.display()
        );
    }
    Ok((file, metadata.is_file().then_some(metadata.len())))
}

fn read_job(path: &Path) -> Result<Job> {
    let json = std::fs::read(path)
        .with_context(|| format!("the file {} of --job can't be read", path.display()))?;
    Job::parse(&json).with_context(|| {
        format!(
            "the file {} of --job has no job's facts as GitLab's API gives them",
            path.display()
        )
    })
}

fn print(
    input: &mut dyn Read,
    output: &mut dyn Write,
    job: Option<&Job>,
    size: Option<u64>,
    mut seen: Option<Seen>,
) -> Result<()> {
    let facts = job.map(job_facts).unwrap_or_default();
    let progress = progress(size);
    let mut writer = LineWriter::new(Action::Create, "", Value::Object(facts), job, size);
    let mut parser = Parser::new(Options::default());
    let mut chunk = vec![0; CHUNK];
    let mut documents = Vec::with_capacity(4 * CHUNK);
    loop {
        let length = match input.read(&mut chunk) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("the trace can't be read"),
        };
        if length == 0 {
            break;
        }
        progress.inc(length as u64);
        writer.see(&chunk[..length]);
        parser.push(&chunk[..length], &mut |line| {
            see(seen.as_mut(), &line);
            writer.write(&line, &mut documents);
        });
        output.write_all(&documents)?;
        documents.clear();
    }
    progress.finish_and_clear();
    let summary = parser.finish(&mut |line| {
        see(seen.as_mut(), &line);
        writer.write(&line, &mut documents);
    });
    output.write_all(&documents)?;
    if let Some(mut seen) = seen {
        let mut document = summary_of(&summary, job);
        document["slowest_gap"] = seen.slowest_gap(&writer);
        document["failure"] = failure_of(&mut seen, &summary, job, &writer);
        writeln!(output, "{document}")?;
    }
    output.flush()?;
    Ok(())
}

fn see(seen: Option<&mut Seen>, line: &Line<'_>) {
    if let Some(seen) = seen {
        seen.see(line);
    }
}

/// Why the job failed, `null` where it didn't; without its facts, by the runner's last words.
fn failure_of(seen: &mut Seen, summary: &Summary, job: Option<&Job>, links: &LineWriter) -> Value {
    let by_trailer = || {
        let status = match summary.trailer.as_ref()? {
            Trailer::Canceled => "canceled",
            Trailer::Failed { .. } | Trailer::SystemFailure { .. } | Trailer::TimedOut { .. } => {
                "failed"
            }
            Trailer::Succeeded | Trailer::LimitExceeded { .. } => return None,
        };
        Some(Ending {
            status,
            failure_reason: None,
        })
    };
    let ending = job.map_or_else(by_trailer, ending);
    let finding = ending.and_then(|ending| seen.failure(&ending));
    finding.map_or(Value::Null, |finding| {
        failure_document(&finding, |line| links.link(line.number, line.offset))
    })
}

/// On standard error; hidden where that is no terminal.
fn progress(size: Option<u64>) -> ProgressBar {
    match size {
        Some(size) if size < LONG => ProgressBar::hidden(),
        Some(size) => ProgressBar::new(size).with_style(style(
            "{bytes} of {total_bytes} [{bar:30}] {bytes_per_sec}, {eta} left",
        )),
        None => ProgressBar::no_length().with_style(style("{bytes} read, {bytes_per_sec}")),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Without the job's facts, a trace is whole when the runner's last words are there.
fn summary_of(summary: &Summary, job: Option<&Job>) -> Value {
    let complete = job.map_or(summary.trailer.is_some(), |job| state_of(job, summary).1);
    json!({
        "lines": summary.lines,
        "bytes": summary.bytes,
        "sha256": hex(&summary.sha256),
        "sections": summary.sections.iter().map(section).collect::<Vec<_>>(),
        "complete": complete,
        "trailer": summary.trailer.as_ref().map(trace::Trailer::as_str),
        "trailer_reason": summary.trailer.as_ref().and_then(trace::Trailer::reason),
        "timestamped": summary.timestamped,
        "invalid_utf8": summary.invalid_utf8,
    })
}
