//! The users that `consumer setup` has for Elasticsearch, with roles from files: without native users, as in a
//! stand-in, there is no other way.

use anyhow::{Context as _, Result, ensure};
use e2e::elasticsearch::Elasticsearch;
use e2e::gitlab::Trace;
use serde_json::{Value, json};

use super::INDEXED;
use crate::world::World;

/// One of them, and how a program comes as it.
struct User {
    name: String,
    client: Elasticsearch,
    variables: [(&'static str, String); 2],
}

/// What a user may try.
enum Attempt {
    See(String),
    Write(String),
    Remove(String),
}
use Attempt::{Remove, See, Write};

pub(crate) async fn d27_elasticsearchs_users_may_do_what_they_need_and_nothing_else(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let [consumer, reader, retention] = users(world).await?;
    let listener = world.listener().await?;
    let gitlab = world.gitlab.url();
    world.consumer_with(&gitlab, &consumer.variables).await?;
    let job = world.job().trace(Trace::Lines(100)).finished();
    listener.post(&job, &world.token).await?;
    let manifest = world.exact(&job, INDEXED).await?;
    let everything = json!({"match_all": {}});
    let manifests = format!("20{}", world.indices("jobs"));
    let seen = consumer.client.count(&manifests, &everything).await?;
    ensure!(seen == 1, "the consumer sees {seen} manifests");
    for (kind, right) in [("", &manifest["lines"]), ("-jobs", &json!(1))] {
        let alias = format!("joblogs-{}{kind}", world.name);
        let seen = reader.client.count(&alias, &everything).await?;
        ensure!(*right == seen, "{seen} documents by {alias}, not {right}");
    }
    let old = format!("2020-01-01-{}-rejected", world.name);
    let document = json!({"job_id": "1"});
    let path = format!("{old}/_create/1");
    consumer.client.put(&path, &document).await?;
    let variables = [&world.consumer_variables()?[..], &retention.variables].concat();
    let said = world.run("consumer", &["retention"], &variables).await?;
    let said = said.output();
    ensure!(said.contains(&format!("{old} is removed")), "{said}");
    are_refused_the_rest(world, [&consumer, &reader, &retention]).await
}

async fn are_refused_the_rest(world: &World, users: [&User; 3]) -> Result<()> {
    let [consumer, reader, retention] = users;
    let (lines, foreign) = (
        format!("2026-11-25-{}", world.name),
        format!("foreign-of-{}", world.name),
    );
    let document = json!({"job_id": "1"});
    for index in [&lines, &foreign] {
        let path = format!("{index}/_doc/1");
        world.elasticsearch().put(&path, &document).await?;
    }
    for user in users {
        is_refused(user, See(format!("{foreign}/_search"))).await?;
        is_refused(user, Write(format!("{foreign}/_doc/2"))).await?;
        is_refused(user, Remove(foreign.clone())).await?;
        is_refused(user, Remove(format!("{lines}/_doc/1"))).await?;
        is_refused(user, See("_security/user".to_owned())).await?;
        let template = format!("_index_template/joblogs-{}", world.name);
        is_refused(user, Remove(template)).await?;
    }
    for user in [consumer, retention] {
        is_refused(user, See(format!("{lines}/_search"))).await?;
    }
    for user in [reader, retention] {
        is_refused(user, Write(format!("{lines}/_doc/2"))).await?;
    }
    for user in [consumer, reader] {
        is_refused(user, Remove(lines.clone())).await?;
    }
    let path = format!("{lines}/_doc/1");
    world.elasticsearch().delete(&path).await?;
    world.elasticsearch().delete(&foreign).await
}

async fn is_refused(user: &User, attempt: Attempt) -> Result<()> {
    let (what, path, answer) = match attempt {
        See(path) => ("see", path.clone(), user.client.ask(&path, None).await),
        Write(path) => {
            let put = user.client.put(&path, &json!({"job_id": "2"})).await;
            ("write", path, put.map(|()| Value::Null))
        }
        Remove(path) => {
            let deleted = user.client.delete(&path).await;
            ("remove", path, deleted.map(|()| Value::Null))
        }
    };
    let error = answer.err();
    let error = error.with_context(|| format!("{} may {what} {path}", user.name))?;
    ensure!(
        format!("{error:#}").contains("403 Forbidden"),
        "{}, {what} {path}: {error:#}",
        user.name
    );
    Ok(())
}

/// Users with the roles that `consumer setup` prints.
async fn users(world: &World) -> Result<[User; 3]> {
    let name = [("JOBLOGS_ES_INDEX", world.name.clone())];
    let flags = ["setup", "--print-roles"];
    let said = world.run("consumer", &flags, &name).await?;
    let mut roles = json!({});
    for line in said.output().lines() {
        let (name, role) = line.split_once(": ").context("a role is a line")?;
        roles[name] = serde_json::from_str(role)?;
    }
    world.servers.set_roles(&roles).await?;
    Ok([
        user(world, "consumer", "index").await?,
        user(world, "reader", "read").await?,
        user(world, "retention", "delete_index").await?,
    ])
}

/// A user, once it has a privilege of its role.
async fn user(world: &World, kind: &str, privilege: &str) -> Result<User> {
    let name = format!("joblogs-{}-{kind}", world.name);
    let (client, password) = world.servers.add_user(&name).await?;
    let index = format!("2026-11-25-{}", world.name);
    let asked = json!({"index": [{"names": [index], "privileges": [privilege]}]});
    world
        .until("the user has its role", INDEXED, async || {
            let path = "_security/user/_has_privileges";
            let has = client.ask(path, Some(&asked)).await?;
            ensure!(has["has_all_requested"] == true, "{has}");
            Ok(())
        })
        .await?;
    let variables = [
        ("JOBLOGS_ES_USER", name.clone()),
        ("JOBLOGS_ES_PASS_FILE", world.secret(&name, &password)?),
    ];
    Ok(User {
        name,
        client,
        variables,
    })
}
