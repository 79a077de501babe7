//! A trace on its way: streamed from GitLab, through the parser, into bulk bodies, into Elasticsearch.
//! What is held of it does not grow with it.

use std::time::Duration;

use failure::Finding;
use metrics::counter;
use reqwest::Response;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use trace::{Options, Parser, Summary};

use crate::{
    attempt::LINES_OF_OTHERS,
    bulk::BulkBody,
    document::{Action, Indices, LineWriter, PAGE_BYTES, job_key},
    elasticsearch::ElasticsearchError,
    filling::Filling,
    gitlab::GitlabError,
    ingest::{Outcome, Work, wait},
    job::Job,
    manifest::{State, state_of},
    places::Place,
    seen::{Seen, ending, failure_document},
    sink::{Sink, Tally},
};

/// Lines wait no longer than this for their bulk body to be full.
const FLUSH: Duration = Duration::from_secs(1);
/// How long GitLab may let us wait for the pieces of one trace, all together. What came until then is
/// kept as incomplete, and the trace looked at again: RabbitMQ takes a message away after 30 minutes.
const SLOWEST: Duration = Duration::from_mins(15);

/// How long GitLab may take over one piece of a trace that has begun to come: it has all of it by then.
const STALLED: Duration = Duration::from_secs(20);

/// A trace that went through the parser and into Elasticsearch.
pub(crate) struct Read {
    pub(crate) summary: Summary,
    /// How many lines were sent.
    pub(crate) lines: u64,
    pub(crate) tally: Tally,
    /// The first error lines, and the longest silence, as the manifest has them.
    pub(crate) errors: Value,
    pub(crate) slowest_gap: Value,
    /// Why the job failed, if it did.
    pub(crate) failure: Option<Failure>,
    pub(crate) state: State,
    pub(crate) complete: bool,
}

/// Why a job failed, and where its log says so.
pub(crate) struct Failure {
    pub(crate) finding: Finding,
    /// As the manifest has it.
    pub(crate) document: Value,
}

/// The lines of the job that are there already. In a log that is larger than the job's page their links
/// count from the page's first line, which moves with the size of the trace; and where the end of the
/// trace was missing to the last, the last of them may be a part of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinesThere {
    /// As ours will be, if there are any.
    Same,
    /// From another size of the trace: they have to be written anew.
    Other,
    /// Nobody has said.
    Unknown,
}

/// The end of a trace: what there is of it, and the bodies that are still to be sent.
struct Ended {
    read: Read,
    bodies: Vec<BulkBody>,
}

/// The pieces of a trace, and how long GitLab took over them.
struct Pieces {
    trace: Response,
    bytes: u64,
    waited: Duration,
    /// Since the last piece.
    silent: Duration,
}

/// What comes next.
enum Next {
    Piece(bytes::Bytes),
    /// Nothing for a while: what waits to be sent should not wait longer.
    Silence,
    End,
    /// GitLab takes too long over it.
    TooSlow,
}

impl Pieces {
    /// The next piece, or silence until then.
    async fn next(&mut self, until: Instant) -> Result<Next, GitlabError> {
        if self.waited > SLOWEST {
            return Ok(Next::TooSlow);
        }
        if self.silent > STALLED {
            let why = format!(
                "the trace stalled for {STALLED:?} after {} bytes",
                self.bytes
            );
            return Err(GitlabError::Unavailable(why));
        }
        let before = Instant::now();
        let next = tokio::select! {
            // What is there comes first: a steady stream is never silent.
            biased;
            piece = self.trace.chunk() => piece?.map_or(Next::End, Next::Piece),
            () = sleep_until(until) => Next::Silence,
        };
        self.waited += before.elapsed();
        self.silent += before.elapsed();
        if let Next::Piece(piece) = &next {
            let size = piece.len() as u64;
            self.bytes += size;
            self.silent = Duration::ZERO;
            counter!("joblogs_trace_bytes_total").increment(size);
        }
        Ok(next)
    }
}

fn failure(job: &Job, seen: &mut Seen, links: &LineWriter) -> Option<Failure> {
    let finding = seen.failure(&ending(job)?)?;
    let document = failure_document(&finding, |line| links.link(line.number, line.offset));
    Some(Failure { finding, document })
}

impl Work<'_> {
    /// Streams the trace through the parser into Elasticsearch.
    pub(crate) async fn index_trace<'p>(
        &'p self,
        trace: Response,
        job: &Job,
        indices: &Indices,
        mut place: Place<'p>,
    ) -> Result<Read, Outcome> {
        let refused = |error: ElasticsearchError| self.refused_by_elasticsearch(&error);
        let size = trace.content_length();
        let there = self.lines_there(size, indices).await.map_err(refused)?;
        let mut filling = Filling::new(
            self.line_writer(size, job, there),
            Seen::of(job, &self.context.rules),
        );
        let mut sink = Sink::new(self.context.elasticsearch.clone(), indices.clone());
        let mut parser = Parser::new(Options::default());
        let mut pieces = Pieces {
            trace,
            bytes: 0,
            waited: Duration::ZERO,
            silent: Duration::ZERO,
        };
        let mut room = self.context.budget.room().await;
        let mut flush_at = Instant::now() + FLUSH;
        let is_cut = loop {
            let next = pieces.next(flush_at).await;
            match next.map_err(|error| wait(&error))? {
                Next::Piece(piece) => {
                    filling.writer.see(&piece);
                    parser.push(&piece, &mut |line| filling.add(&line));
                }
                Next::Silence if filling.is_begun() => filling.close(),
                Next::Silence => flush_at = Instant::now() + FLUSH,
                Next::End => break false,
                Next::TooSlow => break true,
            }
            if place.is_too_small_for(pieces.bytes) {
                place = self.huge_place(pieces.bytes)?;
            }
            for body in filling.full.drain(..) {
                sink.send(body, room).await.map_err(refused)?;
                room = self.context.budget.room().await;
                flush_at = Instant::now() + FLUSH;
            }
        };
        // Its connection has large buffers.
        drop(pieces);
        let ended = self.end(job, parser, filling, is_cut);
        let mut room = Some(room);
        for body in ended.bodies {
            let room = match room.take() {
                Some(room) => room,
                None => self.context.budget.room().await,
            };
            sink.send(body, room).await.map_err(refused)?;
        }
        // From here on only what is on its way takes memory.
        drop((room, place));
        let tally = sink.finish().await.map_err(refused)?;
        if there == LinesThere::Unknown && tally.duplicates > 0 {
            return Err(self.lines_of_others());
        }
        Ok(Read {
            tally,
            ..ended.read
        })
    }

    /// What there is of a trace that gives no more. What comes out of the parser only now may be a part
    /// of a line: where the trace has not got its end yet it is left out, for under `create` it would
    /// stay in the way of the whole line.
    fn end(&self, job: &Job, parser: Parser, mut filling: Filling, is_cut: bool) -> Ended {
        let mut last = Filling::new(filling.writer.clone(), filling.seen.clone());
        let summary = parser.finish(&mut |line| last.add(&line));
        let (state, complete) = match state_of(job, &summary) {
            _ if is_cut => (State::Incomplete, false),
            state => state,
        };
        let mut bodies = filling.finish();
        let (mut lines, mut seen) = (filling.lines, filling.seen);
        if !is_cut && (complete || self.is_last_look()) {
            lines += last.lines;
            bodies.extend(last.finish());
            seen = last.seen;
        }
        let tally = Tally::default();
        let read = Read {
            summary,
            lines,
            tally,
            errors: seen.errors(),
            slowest_gap: seen.slowest_gap(&last.writer),
            failure: failure(job, &mut seen, &last.writer),
            state,
            complete,
        };
        Ended { read, bodies }
    }

    fn line_writer(&self, size: Option<u64>, job: &Job, there: LinesThere) -> LineWriter {
        let action = match there {
            LinesThere::Other => Action::Index,
            LinesThere::Same | LinesThere::Unknown => Action::Create,
        };
        // From here on lines may be there whose links come from this size.
        self.progress.link(size.unwrap_or_default());
        let facts = self.facts(Some(job));
        LineWriter::new(action, &job_key(self.message), facts, Some(job), size)
    }

    /// What is known of lines that may be there, by this message or by another one about the same job.
    async fn lines_there(
        &self,
        size: Option<u64>,
        indices: &Indices,
    ) -> Result<LinesThere, ElasticsearchError> {
        let attempt = self.attempt;
        let paged = size.filter(|size| *size > PAGE_BYTES);
        let is_other_page = paged.is_some_and(|size| ![0, size].contains(&attempt.linked_bytes));
        let is_crashed = attempt.redelivered > 0 && (paged.is_some() || self.is_last_look());
        if attempt.linked_bytes == LINES_OF_OTHERS || is_other_page || is_crashed {
            return Ok(LinesThere::Other);
        }
        let elasticsearch = &self.context.elasticsearch;
        let key = job_key(self.message);
        let look = || elasticsearch.document(&indices.jobs, &key);
        let manifest = elasticsearch.persist(look).await?;
        let manifest = manifest.map(|there| there.source).unwrap_or_default();
        Ok(match manifest["bytes"].as_u64() {
            None | Some(0) if paged.is_none() => LinesThere::Same,
            None | Some(0) if attempt.linked_bytes == 0 => LinesThere::Unknown,
            None | Some(0) => LinesThere::Other,
            same if same == size => LinesThere::Same,
            // Our own looks leave nothing behind that is not whole.
            Some(_) if attempt.looks == 0 && manifest["complete"] == false => LinesThere::Other,
            Some(_) if paged.is_some() => LinesThere::Other,
            Some(_) => LinesThere::Same,
        })
    }

    /// Somebody else has written lines of the job and no manifest yet, who may have seen another size of
    /// the trace: all of them are written once more.
    fn lines_of_others(&self) -> Outcome {
        self.progress.link(LINES_OF_OTHERS);
        Outcome::Wait {
            after: None,
            reason: "lines of another attempt are there, and maybe their links are others"
                .to_owned(),
            is_look: false,
        }
    }
}
