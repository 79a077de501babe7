//! States, traces and samples.

use super::*;

#[tokio::test]
async fn a_finished_job_has_all_facts_and_its_whole_trace() {
    let fixture = Fixture::new().await;
    let job = fixture
        .gitlab
        .job(&fixture.project)
        .name("build")
        .stage("compile")
        .trace(Trace::Lines(2_000))
        .finished();
    let facts = fixture.facts(&job).await;
    assert_eq!(facts["status"], "success");
    assert_eq!(facts["name"], "build");
    assert_eq!(facts["stage"], "compile");
    assert_eq!(facts.get("failure_reason"), None);
    assert_eq!(
        facts["web_url"],
        format!("{}acme/demo/-/jobs/{}", fixture.gitlab.url(), job.id())
    );
    assert_eq!(facts["pipeline"]["project_id"], fixture.project.id());
    let time = |name: &str| -> jiff::Timestamp { facts[name].as_str().unwrap().parse().unwrap() };
    assert!(time("created_at") < time("started_at"));
    assert!(time("started_at") < time("finished_at"));
    let sample = samples::named("hello.ts");
    for (field, _) in sample.facts.as_object().unwrap() {
        let is_ours = ["trace_size", "sha256"].contains(&field.as_str());
        assert_eq!(facts.get(field).is_none(), is_ours, "{field}");
    }

    let reply = fixture.get(&format!("{}/trace", path(&job))).await;
    assert_eq!(reply.header("content-type"), "text/plain");
    assert_eq!(
        reply.header("content-disposition"),
        format!("infile; filename=\"{}.log\"", job.id())
    );
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());
    assert_eq!(reply.body, job.trace());
    assert!(reply.body.ends_with(b"Job succeeded\x1b[0;m\n"));
    assert_eq!(job.expected_lines().count(), 2_013);
    assert_eq!(job.expected_texts().unwrap().count(), 2_013);
    fixture.gitlab.assert_no_violations();
}

#[tokio::test]
async fn a_job_moves_on_command() {
    let fixture = Fixture::new().await;
    let job = fixture
        .gitlab
        .job(&fixture.project)
        .waiting(Status::Pending);
    let facts = fixture.facts(&job).await;
    assert_eq!(facts["status"], "pending");
    assert_eq!(facts["started_at"], Value::Null);
    assert_eq!(facts["runner"], Value::Null);
    assert_eq!(fixture.trace(&job).await, b"");

    job.enter(Status::Running);
    let facts = fixture.facts(&job).await;
    assert_eq!(facts["status"], "running");
    assert_eq!(facts["finished_at"], Value::Null);
    assert_ne!(facts["started_at"], Value::Null);

    job.finish(Status::Failed);
    let facts = fixture.facts(&job).await;
    assert_eq!(facts["status"], "failed");
    assert_eq!(facts["failure_reason"], "script_failure");
    assert_ne!(facts["finished_at"], Value::Null);
    let trace = fixture.trace(&job).await;
    assert!(trace.ends_with(b"ERROR: Job failed: exit code 1\x1b[0;m\n"));
    let last = job.expected_texts().unwrap().last();
    assert_eq!(last.unwrap(), "ERROR: Job failed: exit code 1");
}

#[tokio::test]
async fn a_job_ends_by_the_clock_and_its_trace_grows_until_then() {
    let fixture = Fixture::new().await;
    let job = fixture
        .gitlab
        .job(&fixture.project)
        .trace(Trace::Lines(5_000))
        .finish_after(Duration::from_secs(1))
        .start();
    assert_eq!(fixture.facts(&job).await["status"], "running");
    let whole = job.trace();
    let mut grown = 0;
    let mut sizes = Vec::new();
    until("the end of the job", async || {
        let trace = fixture.trace(&job).await;
        assert!(whole.starts_with(&trace));
        assert!(trace.len() >= grown);
        grown = trace.len();
        sizes.push(grown);
        (fixture.facts(&job).await["status"] == "success").then_some(())
    })
    .await;
    sizes.dedup();
    assert!(sizes.len() > 2, "it grew in steps: {sizes:?}");
    assert_eq!(fixture.trace(&job).await, whole);
}

#[tokio::test]
async fn a_running_job_shows_what_was_received_even_half_a_character() {
    let fixture = Fixture::new().await;
    let job = fixture
        .gitlab
        .job(&fixture.project)
        .trace(Trace::Bytes("Łódź\n".into()))
        .start();
    job.receive(1);
    assert_eq!(fixture.trace(&job).await, [0xc5]);
    job.finish(Status::Canceled);
    assert_eq!(fixture.trace(&job).await, "Łódź\n".as_bytes());
}

#[tokio::test]
async fn the_tail_comes_after_the_status() {
    let fixture = Fixture::new().await;
    let job = fixture
        .gitlab
        .job(&fixture.project)
        .tail_after(100, Duration::from_secs(1))
        .finished();
    assert_eq!(fixture.facts(&job).await["status"], "success");
    let whole = job.trace();
    assert_eq!(fixture.trace(&job).await, whole[..whole.len() - 100]);
    until("the tail", async || {
        (fixture.trace(&job).await == whole).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_erased_a_skipped_and_an_empty_job_have_empty_traces() {
    let fixture = Fixture::new().await;
    let erased = fixture.gitlab.job(&fixture.project).finished();
    erased.erase();
    let skipped = fixture.gitlab.job(&fixture.project).trace(Trace::None);
    let skipped = skipped.outcome(Status::Skipped).finished();
    let empty = fixture.gitlab.job(&fixture.project);
    let empty = empty.trace(Trace::Bytes(Vec::new())).finished();
    for job in [&erased, &skipped, &empty] {
        let reply = fixture.get(&format!("{}/trace", path(job))).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0));
        assert_eq!(reply.header("content-length"), "0");
    }
    assert_ne!(fixture.facts(&erased).await["erased_at"], Value::Null);
    assert_eq!(fixture.facts(&empty).await["erased_at"], Value::Null);
    let facts = fixture.facts(&skipped).await;
    assert_eq!(facts["status"], "skipped");
    assert_eq!(facts["started_at"], Value::Null);
    assert_eq!(facts["finished_at"], Value::Null);
}

#[tokio::test]
async fn a_job_of_long_ago_is_archived() {
    let fixture = Fixture::new().await;
    let long_ago = jiff::Timestamp::now() - Duration::from_hours(24);
    let job = fixture.gitlab.job(&fixture.project).finished_at(long_ago);
    let facts = fixture.facts(&job).await;
    assert_eq!(facts["finished_at"], format!("{long_ago:.3}"));
    let trace = json!({
        "file_type": "trace", "size": job.trace_size(), "filename": "job.log", "file_format": null,
    });
    assert_eq!(facts["artifacts"], json!([trace]));
    let fresh = fixture.gitlab.job(&fixture.project).finished();
    assert_eq!(fixture.facts(&fresh).await["artifacts"], json!([]));
}

#[tokio::test]
async fn every_sample_is_served_as_it_is() {
    let fixture = Fixture::new().await;
    for sample in samples::all() {
        let job = fixture
            .gitlab
            .sample_job(&fixture.project, &sample)
            .finished();
        let facts = fixture.facts(&job).await;
        for field in [
            "id",
            "name",
            "stage",
            "status",
            "failure_reason",
            "user",
            "runner",
            "tag_list",
        ] {
            assert_eq!(
                facts.get(field),
                sample.facts.get(field),
                "{} {field}",
                sample.name
            );
        }
        let duration = |facts: &Value| facts["duration"].as_f64().unwrap_or_default();
        assert!(
            (duration(&facts) - duration(&sample.facts)).abs() < 0.01,
            "{}",
            sample.name
        );
        assert_eq!(fixture.trace(&job).await, sample.trace, "{}", sample.name);
    }
    // Once more, while it runs: the id is taken by now.
    let sample = samples::named("fail-exit1.ts");
    let job = fixture.gitlab.sample_job(&fixture.project, &sample).start();
    assert_eq!(fixture.facts(&job).await["status"], "running");
    assert_ne!(sample.facts["id"], job.id());
}
