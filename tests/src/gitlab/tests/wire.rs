//! What a connection goes through, traces of any size, and limits of the whole instance.

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Violation::BeforeRetryAfter;
use super::*;

const MIB: usize = 1 << 20;

impl Fixture {
    /// How many bytes of a trace came, and whether these were all.
    async fn received(&self, job: &Job) -> (usize, bool) {
        let request = self.request(&format!("{}/trace", path(job)));
        let request = request.header("PRIVATE-TOKEN", self.token.value());
        let mut stream = request.send().await.unwrap().bytes_stream();
        let mut received = 0;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => received += piece.len(),
                Err(_) => return (received, false),
            }
        }
        (received, true)
    }
}

#[tokio::test]
async fn a_huge_trace_is_made_while_it_is_read() {
    let fixture = Fixture::new().await;
    let (lines, width) = (64 * 1024, 1_000);
    let job = fixture.gitlab.job(&fixture.project);
    let job = job.trace(Trace::Noise { lines, width }).finished();
    let before = peak_kib();
    assert!(job.trace_size() > 64 * MIB);
    assert_eq!(fixture.received(&job).await, (job.trace_size(), true));
    assert_eq!(job.expected_lines().count() as u64, lines + 13);
    let grown = peak_kib() - before;
    assert!(
        grown < 16 * 1024,
        "{grown} KiB for {} bytes",
        job.trace_size()
    );
}

#[tokio::test]
async fn a_line_of_megabytes_is_served_whole() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project);
    let job = job.trace(Trace::LongLine(MIB)).finished();
    assert_eq!(fixture.trace(&job).await, job.trace());
    let longest = job.expected_texts().unwrap().map(|text| text.len()).max();
    assert_eq!(longest, Some(MIB));
}

#[tokio::test]
async fn a_connection_is_reset_in_the_middle_of_a_body() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project);
    let job = job.trace(Trace::Lines(200)).finished();
    for (at, right) in [(At::Half, job.trace_size() / 2), (At::Byte(100), 100)] {
        job.fault(On::Trace, Fault::ResetAt(at), 1);
        assert_eq!(fixture.received(&job).await, (right, false));
    }
    job.fault(On::Facts, Fault::ResetAt(At::Byte(1)), 1);
    let facts = fixture.request(&path(&job));
    let facts = facts.header("PRIVATE-TOKEN", fixture.token.value());
    let body = facts.send().await.unwrap().bytes().await;
    let causes = format!("{:?}", body.unwrap_err());
    assert!(causes.contains("ConnectionReset"), "{causes}");
    assert_eq!(fixture.received(&job).await, (job.trace_size(), true));
}

#[tokio::test]
async fn a_length_is_wrong_by_as_much_as_is_said() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project).finished();
    let size = job.trace_size();
    job.fault(On::Trace, Fault::WrongLength(10), 1);
    assert_eq!(fixture.received(&job).await, (size, false));
    // A client cannot know that there was more.
    job.fault(On::Trace, Fault::WrongLength(-10), 1);
    assert_eq!(fixture.received(&job).await, (size - 10, true));
    assert_eq!(fixture.received(&job).await, (size, true));
}

#[tokio::test]
async fn a_dripping_body_takes_its_time() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project).finished();
    let asked = Instant::now();
    let size = job.trace_size();
    let slow_and_short = vec![Fault::Drip(size * 2), Fault::WrongLength(1)];
    job.fault(On::Trace, Fault::All(slow_and_short), 1);
    assert_eq!(fixture.received(&job).await, (size, false));
    let took = asked.elapsed();
    assert!(took > Duration::from_millis(350), "{took:?}");
}

#[tokio::test]
async fn a_limit_is_said_in_every_answer_and_kept() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project).finished();
    assert!(
        !fixture
            .get("42")
            .await
            .headers
            .contains_key("ratelimit-limit")
    );
    fixture.gitlab.limit_rate(3, Duration::from_hours(1));
    for remaining in ["2", "1", "0"] {
        let reply = fixture.get(&path(&job)).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-limit"), "3");
        assert_eq!(reply.header("ratelimit-remaining"), remaining);
        assert!(!reply.headers.contains_key("retry-after"));
    }
    let refused = fixture.get(&path(&job)).await;
    assert_eq!(
        (refused.status, refused.header("ratelimit-observed")),
        (429, "4")
    );
    let number = |name| refused.header(name).parse::<i64>().unwrap();
    let reset = jiff::Timestamp::from_second(number("ratelimit-reset")).unwrap();
    let left = number("retry-after") - elapsed_until(reset);
    assert!((0..=1).contains(&left), "{left}");
    // Another token has its own share.
    let other = fixture.gitlab.token(Scope::ReadApi, &[&fixture.project]);
    let request = fixture.request("42").header("PRIVATE-TOKEN", other.value());
    assert_eq!(send(request).await.header("ratelimit-remaining"), "2");
    fixture.gitlab.assert_no_violations();
}

#[tokio::test]
async fn a_refusal_of_the_whole_instance_counts_for_every_job() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project).finished();
    let other = fixture.gitlab.job(&fixture.project).finished();
    fixture.gitlab.fault(On::Trace, Fault::RateLimited(2), 1);
    assert_eq!(fixture.get(&path(&other)).await.status, 200);
    assert_eq!(
        fixture.get(&format!("{}/trace", path(&job))).await.status,
        429
    );
    // This one may have been under way.
    assert_eq!(fixture.get(&path(&other)).await.status, 429);
    fixture.gitlab.assert_no_violations();
    until("an early request is noted", async || {
        assert_eq!(fixture.get(&path(&other)).await.status, 429);
        fixture.gitlab.violations().pop()
    })
    .await;
    assert_eq!(
        fixture.gitlab.violations()[0].violations,
        [BeforeRetryAfter]
    );
    until("the end of the refusal", async || {
        (fixture.get(&path(&other)).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let fixture = Fixture::new().await;
    let mut stream = TcpStream::connect(fixture.gitlab.address()).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01 hello\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(fixture.gitlab.requests().len(), 0);
}

#[tokio::test]
async fn the_last_handle_ends_the_server() {
    let fixture = Fixture::new().await;
    let address = fixture.gitlab.address();
    let clone = fixture.gitlab.clone();
    drop(fixture);
    assert!(TcpStream::connect(address).await.is_ok());
    drop(clone);
    until("nobody listens", async || {
        TcpStream::connect(address).await.err()
    })
    .await;
}

/// Whole seconds from now to then.
fn elapsed_until(then: jiff::Timestamp) -> i64 {
    then.duration_since(jiff::Timestamp::now()).as_secs()
}

/// The most memory that this process ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}
