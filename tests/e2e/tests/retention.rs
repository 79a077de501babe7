//! Old indices go, and nothing that is not ours.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use serde_json::json;

use crate::tests::setup::set_up;
use crate::world::World;

const DAYS: i32 = 40;
const KEPT: i32 = 30;
const DONE: Duration = Duration::from_secs(40);
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn exactly_the_old_indices_that_are_ours_go(world: &World) -> Result<()> {
    world.initmq().await?;
    let today = today();
    let day = |age: i32| day_before(today, age);
    let name = &world.name;
    // The older tool's, which has no mark.
    make(world, &format!("{}-{name}", day(45))).await?;
    set_up(world, &[], &[]).await?;
    for age in 0..=DAYS {
        make(world, &format!("{}-{name}", day(age))).await?;
    }
    for (age, kind) in [29, 30, 31, DAYS]
        .into_iter()
        .flat_map(|age| [(age, "jobs"), (age, "rejected")])
    {
        make(world, &format!("{}-{name}-{kind}", day(age))).await?;
    }
    let left = foreign(world, today).await?;

    let before = indices(world).await?;
    let said = retention(world, &["--dry-run"], &[]).await?;
    ensure!(
        indices(world).await? == before,
        "a dry run removed something"
    );
    let listed = said
        .lines()
        .filter(|line| line.ends_with(" would be removed"))
        .count();
    ensure!(listed == 10 + 4, "{listed} would be removed: {said}");

    let said = retention(world, &[], &[]).await?;
    for (index, why) in &left {
        let line = format!("{index} is left: {why}");
        ensure!(said.contains(&line), "no {line:?} in {said}");
    }
    let after = indices(world).await?;
    // Midnight may have come meanwhile.
    let right = [today, self::today()].map(|today| stays(&before, name, today));
    ensure!(
        right.contains(&after),
        "{after:?} are there, and {right:?} should be"
    );
    ensure!(after.len() < before.len(), "nothing was removed");
    let said = retention(world, &[], &[]).await?;
    ensure!(said.contains("0 indices are removed"), "{said}");
    Ok(())
}

pub(crate) async fn names_with_the_date_behind_are_read_too(world: &World) -> Result<()> {
    world.initmq().await?;
    let suffix = [
        ("JOBLOGS_ES_INDEX_DATE", "suffix".to_owned()),
        ("JOBLOGS_INDEX_NAMES", format!("{}-team-?", world.name)),
    ];
    set_up(world, &[], &suffix).await?;
    let (today, name) = (today(), &world.name);
    let (young, old) = (day_before(today, KEPT - 1), day_before(today, KEPT + 1));
    let goes = ["", "-jobs", "-rejected", "-team-a", "-team-b-jobs"];
    for infix in goes.into_iter().chain(["-team-ab"]) {
        make(world, &format!("{name}{infix}-{young}")).await?;
        make(world, &format!("{name}{infix}-{old}")).await?;
    }
    let said = retention(world, &[], &suffix).await?;
    let foreign = format!("{name}-team-ab-{old} is left: its name is none of ours");
    ensure!(said.contains(&foreign), "no {foreign:?} in {said}");
    let after = indices(world).await?;
    for infix in goes {
        let (young, old) = (
            format!("{name}{infix}-{young}"),
            format!("{name}{infix}-{old}"),
        );
        ensure!(after.contains(&young), "{young} is gone");
        ensure!(!after.contains(&old), "{old} is there");
    }
    ensure!(
        after.contains(&format!("{name}-team-ab-{old}")),
        "{after:?}"
    );
    Ok(())
}

pub(crate) async fn it_outlives_an_elasticsearch_that_is_away_and_ends_on_sigterm(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    set_up(world, &[], &[]).await?;
    let old = format!("{}-{}", day_before(today(), KEPT + 5), world.name);
    make(world, &old).await?;
    let proxy = world
        .proxy("retention", world.servers.elasticsearch_port)
        .await?;
    proxy.cut();
    let others = [
        ("JOBLOGS_ES_PORT", proxy.port().to_string()),
        ("JOBLOGS_WAIT_SECONDS", "1".to_owned()),
    ];
    let variables = [&world.consumer_variables()?[..], &others].concat();
    let flags = ["retention", "--every", "1s"];
    let retention = world.start("consumer", &flags, &variables)?;
    world
        .until("rounds have failed", DONE, async || {
            let failed = retention.all_logged("this round of retention failed");
            ensure!(failed.len() >= 2, "{} rounds", failed.len());
            Ok(())
        })
        .await?;
    ensure!(indices(world).await?.contains(&old), "who removed it?");
    proxy.mend();
    world
        .until("the old index is gone", DONE, async || {
            ensure!(!indices(world).await?.contains(&old), "it is there");
            Ok(())
        })
        .await?;
    let status = retention.terminate(GRACE).await?;
    ensure!(status.success(), "on SIGTERM: {status}");
    Ok(())
}

/// Makes what only looks like ours, or must stay for another reason; each with the reason.
async fn foreign(world: &World, today: Date) -> Result<Vec<(String, &'static str)>> {
    let name = &world.name;
    let day = |age: i32| day_before(today, age);
    let elasticsearch = world.elasticsearch();
    let (other, closed) = (
        format!("{}-my-{name}", day(DAYS)),
        format!("{}-{name}", day(44)),
    );
    let (hidden, alias) = (format!("{}-{name}", day(43)), format!("{}-{name}", day(42)));
    let backup = format!("{}-{name}-backup", day(DAYS));
    // It has our mark, as another installation's has.
    let marked = json!({"mappings": {"_meta": {"managed_by": "joblogs"}}});
    elasticsearch.put(&other, &marked).await?;
    elasticsearch.put(&backup, &marked).await?;
    let archive = format!("{}-{name}", day(41));
    let theirs = json!({"managed_by": "joblogs", "name": "archive", "version": 2});
    let theirs = json!({"mappings": {"_meta": theirs}});
    elasticsearch.put(&archive, &theirs).await?;
    make(world, &closed).await?;
    elasticsearch.act(&format!("{closed}/_close")).await?;
    let settings = json!({"settings": {"index.hidden": true}});
    elasticsearch.put(&hidden, &settings).await?;
    elasticsearch
        .put(&format!("{backup}/_alias/{alias}"), &json!({}))
        .await?;
    Ok(vec![
        (format!("{}-{name}", day(45)), "its mapping does not say"),
        (other, "its name is none of ours"),
        (archive, "it belongs to another installation, archive"),
        (closed, "it is closed"),
        (hidden, "it is hidden"),
        (alias, "it is an alias"),
    ])
}

/// What is right to be there after a round on this day.
fn stays(before: &BTreeSet<String>, name: &str, today: Date) -> BTreeSet<String> {
    let goes: BTreeSet<String> = (KEPT + 1..=DAYS)
        .flat_map(|age| {
            let day = day_before(today, age);
            ["", "-jobs", "-rejected"].map(|kind| format!("{day}-{name}{kind}"))
        })
        .collect();
    before.difference(&goes).cloned().collect()
}

async fn retention(
    world: &World,
    flags: &[&str],
    others: &[(&'static str, String)],
) -> Result<String> {
    let flags = [&["retention"], flags].concat();
    let variables = [&world.consumer_variables()?, others].concat();
    let retention = world.run("consumer", &flags, &variables).await?;
    Ok(retention.output())
}

async fn make(world: &World, index: &str) -> Result<()> {
    world.elasticsearch().put(index, &json!({})).await
}

/// All indices of this world, whatever their state.
async fn indices(world: &World) -> Result<BTreeSet<String>> {
    let path = format!(
        "*{}*?expand_wildcards=all&filter_path=*.settings.index.uuid",
        world.name
    );
    let answer = world.elasticsearch().ask(&path, None).await?;
    let indices = answer.as_object().context("indices are an object")?;
    Ok(indices.keys().cloned().collect())
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

fn day_before(today: Date, days: i32) -> Date {
    today.saturating_sub(days.days())
}
