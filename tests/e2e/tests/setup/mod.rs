//! `consumer setup` on clusters that have been set up before, by whomever.

mod fields;
mod versions;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::world::World;

pub(crate) use self::fields::every_field_is_found_by_its_own_name_and_by_its_alias;
pub(crate) use self::versions::{
    a_newer_version_is_refused_and_nothing_changes, an_older_installation_is_upgraded_in_place,
};

/// `consumer setup` on a cluster that is there.
const ENDS: Duration = Duration::from_secs(30);
/// Elasticsearch looks at its file of roles every 5 seconds.
const IN_FORCE: Duration = Duration::from_secs(20);
const CANARY: &str = "canary-of-a-password";

pub(crate) async fn twice_is_the_same(world: &World) -> Result<()> {
    world.set_up().await?;
    let first = installed(world).await?;
    let templates = first["index"]["index_templates"].as_array();
    ensure!(templates.is_some_and(|it| it.len() == 3), "{first}");
    let said = set_up(world, &[], &[]).await?;
    ensure!(!said.contains("brought to version"), "{said}");
    let second = installed(world).await?;
    ensure!(first == second, "first {first}, then {second}");
    Ok(())
}

pub(crate) async fn an_operators_own_template_is_kept_and_wins(world: &World) -> Result<()> {
    world.initmq().await?;
    let elasticsearch = world.elasticsearch();
    let own = format!("_component_template/joblogs-{}-custom", world.name);
    let body = json!({"template": {
        "settings": {"number_of_shards": 2},
        "mappings": {"properties": {"team": {"type": "keyword"}, "level": {"type": "text"}}},
    }});
    elasticsearch.put(&own, &body).await?;
    let before = elasticsearch.ask(&own, None).await?;
    set_up(world, &[], &[]).await?;
    set_up(world, &[], &[]).await?;
    let after = elasticsearch.ask(&own, None).await?;
    ensure!(before == after, "it was {before} and is {after}");
    let index = format!("2026-11-25-{}", world.name);
    elasticsearch.put(&index, &json!({})).await?;
    let made = elasticsearch.ask(&index, None).await?;
    let made = &made[&index];
    let settings = &made["settings"]["index"];
    ensure!(settings["number_of_shards"] == "2", "{made}");
    ensure!(settings["codec"] == "best_compression", "{made}");
    ensure!(
        settings["sort"]["field"] == json!(["job_id", "line"]),
        "{made}"
    );
    let fields = &made["mappings"]["properties"];
    ensure!(fields["team"]["type"] == "keyword", "{made}");
    ensure!(fields["level"]["type"] == "text", "{made}");
    ensure!(fields["job_id"]["type"] == "keyword", "{made}");
    ensure!(made["mappings"]["dynamic"] == "false", "{made}");
    ensure!(
        made["mappings"]["_meta"]["managed_by"] == "joblogs",
        "{made}"
    );
    let alias = format!("joblogs-{}", world.name);
    ensure!(made["aliases"][&alias].is_object(), "{made}");
    Ok(())
}

pub(crate) async fn an_alias_whose_name_an_index_has_is_left_out(world: &World) -> Result<()> {
    world.initmq().await?;
    let elasticsearch = world.elasticsearch();
    let taken = format!("joblogs-{}", world.name);
    elasticsearch.put(&taken, &json!({})).await?;
    let said = set_up(world, &[], &[]).await?;
    ensure!(
        said.contains(&format!("the alias {taken} is left out")),
        "{said}"
    );
    let index = format!("2026-11-25-{}", world.name);
    elasticsearch.put(&index, &json!({})).await?;
    elasticsearch.delete(&taken).await?;
    Ok(())
}

pub(crate) async fn a_read_only_user_gets_one_sentence_with_the_privilege(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let user = format!("{}-reader", world.name);
    let role =
        json!({"cluster": ["monitor"], "indices": [{"names": ["*"], "privileges": ["read"]}]});
    world
        .servers
        .set_roles(&json!({user.as_str(): role}))
        .await?;
    let (reader, password) = world.servers.add_user(&user).await?;
    world
        .until("the user may look", IN_FORCE, async || {
            reader.ask("_cluster/health", None).await
        })
        .await?;
    let as_reader = [
        ("JOBLOGS_ES_USER", user.clone()),
        ("JOBLOGS_ES_PASS_FILE", world.secret("reader", &password)?),
    ];
    let said = refused(world, &as_reader).await?;
    let sentences: Vec<&str> = said
        .lines()
        .filter(|it| it.contains("consumer: "))
        .collect();
    ensure!(sentences.len() == 1, "{said}");
    for words in [
        "template joblogs-",
        &format!("its user {user} lacks the cluster privilege"),
        "manage_index_templates",
        "--es-user",
    ] {
        ensure!(sentences[0].contains(words), "no {words:?} in {said}");
    }
    ensure!(is_nothing_installed(world).await?, "something was put");
    Ok(())
}

pub(crate) async fn a_dry_run_shows_all_and_changes_nothing(world: &World) -> Result<()> {
    world.initmq().await?;
    let secrets = [
        (
            "JOBLOGS_CONSUMER_PASS_FILE",
            world.secret("consumer", CANARY)?,
        ),
        ("JOBLOGS_KIBANA_PASS_FILE", world.secret("kibana", CANARY)?),
    ];
    let said = set_up(world, &["--dry-run"], &secrets).await?;
    let name = format!("joblogs-{}", world.name);
    for request in [
        format!("PUT _component_template/{name}-settings"),
        format!("PUT _component_template/{name}-custom?create=true"),
        format!("PUT _index_template/{name}-rejected"),
        format!("PUT _security/role/{name}-consumer"),
        format!("PUT _security/user/{name}-consumer"),
        "POST _security/user/kibana_system/_password".to_owned(),
    ] {
        ensure!(
            said.lines().any(|line| line == request),
            "no {request} in {said}"
        );
    }
    ensure!(said.contains(r#""password": "***""#), "{said}");
    ensure!(!said.contains(CANARY), "a secret is shown");
    ensure!(is_nothing_installed(world).await?, "something was put");
    Ok(())
}

/// Sets up with these flags and variables; what it said.
pub(super) async fn set_up(
    world: &World,
    flags: &[&str],
    others: &[(&'static str, String)],
) -> Result<String> {
    let flags = [&["setup"], flags].concat();
    let variables = [&world.consumer_variables()?, others].concat();
    let setup = world.run("consumer", &flags, &variables).await?;
    Ok(setup.output())
}

/// The same where it does not end well.
pub(super) async fn refused(world: &World, others: &[(&'static str, String)]) -> Result<String> {
    let setup = world.setup_starting(others)?;
    let status = setup.end(ENDS).await?;
    ensure!(status.code() == Some(1), "{status}: {}", setup.output());
    Ok(setup.output())
}

/// All templates of this world.
pub(super) async fn installed(world: &World) -> Result<Value> {
    let mut all = json!({});
    for kind in ["index", "component"] {
        let path = format!("_{kind}_template/joblogs-{}*", world.name);
        let answer = world.elasticsearch().ask(&path, None).await;
        // Where there are none of a kind, Elasticsearch may say 404.
        all[kind] = match answer {
            Err(error) if format!("{error:#}").contains("404 Not Found") => json!({}),
            answer => answer?,
        };
        without_times(&mut all[kind]);
    }
    Ok(all)
}

async fn is_nothing_installed(world: &World) -> Result<bool> {
    let all = installed(world).await?;
    let count = |kind: &str| {
        let templates = all[kind][format!("{kind}_templates")].as_array();
        templates.map_or(0, Vec::len)
    };
    Ok(count("index") + count("component") == 0)
}

/// When a template was put last, which newer servers tell.
fn without_times(answer: &mut Value) {
    match answer {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !name.starts_with("created_date") && !name.starts_with("modified_date")
            });
            fields.values_mut().for_each(without_times);
        }
        Value::Array(all) => all.iter_mut().for_each(without_times),
        _ => {}
    }
}
