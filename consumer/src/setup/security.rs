//! Roles and users of least privilege, where the cluster keeps users of its own.

use anyhow::Result;
use elasticsearch::http::Method;
use secrecy::SecretString;
use serde_json::json;

use super::{adapt::is_no_security, hand::Hand, objects};
use crate::{elasticsearch::ElasticsearchError, indices::Names, privilege::explain};

/// A user that setup makes, who is called like its role: another installation on the cluster has its own.
pub(crate) struct User {
    /// What comes after our name in both.
    pub suffix: &'static str,
    /// Its password; without one the user is left alone.
    pub password: Option<SecretString>,
}

/// What becomes of something that not every cluster can do.
enum Outcome {
    Done,
    /// In the cluster's words.
    Lacking(String),
}

/// Puts the roles and the users. A cluster that has none of its own is no reason to fail, and neither is a lack
/// of the privilege where nobody asked for users.
pub(super) async fn put_users(hand: &Hand<'_>, names: &Names, users: &[User]) -> Result<()> {
    let is_asked_for = users.iter().any(|user| user.password.is_some());
    for role in objects::roles(names)? {
        let path = format!("_security/role/{}", role.name);
        let what = format!("the role {}", role.name);
        let put = hand.put(&path, &role.body).await;
        match outcome(put) {
            Ok(Outcome::Done) => hand.say(&format!("the role {} is in place", role.name)),
            Ok(Outcome::Lacking(reason)) => {
                println!(
                    "this cluster keeps no roles and users of its own ({reason}); for those in files, consumer setup --print-roles prints a roles.yml"
                );
                return Ok(());
            }
            Err(error @ ElasticsearchError::Refused { status: 403, .. }) if !is_asked_for => {
                println!("roles are left out: {:#}", explain(&what, error));
                return Ok(());
            }
            Err(error) => return Err(explain(&what, error)),
        }
    }
    for user in users {
        if let Some(password) = &user.password {
            put_user(hand, names, user, password).await?;
        }
    }
    Ok(())
}

async fn put_user(
    hand: &Hand<'_>,
    names: &Names,
    user: &User,
    password: &SecretString,
) -> Result<()> {
    let name = names.object(user.suffix);
    let path = format!("_security/user/{name}");
    let body = json!({"roles": [name], "full_name": format!("Joblogs, {name}")});
    let put = hand.change(Method::Put, &path, &body, Some(password)).await;
    put.map_err(|error| explain(&format!("the user {name}"), error))?;
    hand.say(&format!(
        "the user {name} is in place, with the role of that name"
    ));
    Ok(())
}

/// Gives Kibana's own user its password.
pub(super) async fn set_kibana_password(hand: &Hand<'_>, password: &SecretString) -> Result<()> {
    let path = "_security/user/kibana_system/_password";
    let body = json!({});
    let post = hand.change(Method::Post, path, &body, Some(password)).await;
    match outcome(post) {
        Ok(Outcome::Done) => hand.say("the password of kibana_system is set"),
        // A cluster without native users has no Kibana either.
        Ok(Outcome::Lacking(reason)) => {
            println!("kibana_system gets no password, as this cluster can't: {reason}");
        }
        Err(error) => return Err(explain("the password of kibana_system", error)),
    }
    Ok(())
}

fn outcome<T>(change: Result<T, ElasticsearchError>) -> Result<Outcome, ElasticsearchError> {
    match change {
        Ok(_) => Ok(Outcome::Done),
        Err(ElasticsearchError::Rejected { reason, .. }) if is_no_security(&reason) => {
            Ok(Outcome::Lacking(reason))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cluster_without_users_lacks_them() {
        let outcome = |reason: &str| {
            let (status, reason) = (400, reason.to_owned());
            outcome::<()>(Err(ElasticsearchError::Rejected { status, reason }))
        };
        for lacking in [
            "no handler found for uri [/_security/role/x] and method [PUT]",
            "Unknown filter type [pattern_capture] for [email]",
        ] {
            assert!(
                matches!(outcome(lacking), Ok(Outcome::Lacking(_))),
                "{lacking}"
            );
        }
        for ours in [
            "Validation Failed: 1: passwords must be at least [6] characters long;",
            "unknown cluster privilege [x]",
        ] {
            assert!(outcome(ours).is_err(), "{ours}");
        }
    }
}
