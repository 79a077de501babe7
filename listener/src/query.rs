//! The query of `GET /`. What is given twice is refused by name: a typing error must not vanish, and which of
//! the two counts would be a guess. Names are compared as they are read, `job%5Fid` being `job_id`.

use crate::intake::Refusal;

/// The names of the `GET`'s parameters.
const PARAMETERS: [&str; 8] = [
    "project_id",
    "runner_id",
    "job_id",
    "job_name",
    "project_name",
    "gitlab_token",
    "index_name",
    "instance",
];
/// What would choose a host. Other parameters than ours pass: the older tool let them.
const HOSTS: [&str; 3] = ["url", "gitlab", "host"];

/// Refuses a query with a parameter that is given twice, or that names a host.
pub(crate) fn check(query: &str) -> Result<(), Refusal> {
    let names: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name)
        .collect();
    let is_twice = |parameter: &&str| names.iter().filter(|name| name == parameter).count() > 1;
    refuse(PARAMETERS.into_iter().filter(is_twice).collect())?;
    match HOSTS
        .iter()
        .find(|host| names.iter().any(|name| name == *host))
    {
        Some(host) => Err(Refusal(format!(
            "not allowed: {host} (which GitLab is asked is configured here, and chosen by its name: instance)"
        ))),
        None => Ok(()),
    }
}

fn refuse(twice: Vec<&str>) -> Result<(), Refusal> {
    if twice.is_empty() {
        return Ok(());
    }
    Err(Refusal(format!("given twice: {}", twice.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_given_twice_is_named() {
        for query in ["", "project_id=1&job_id=2", "x=1&x=2", "job_id=job_id"] {
            assert!(check(query).is_ok(), "{query}");
        }
        for query in [
            "job_id=1&x=1&job_id=canary&x=2",
            "job_id=1&job%5Fid=canary",
            "job_id&%6a%6Fb_id",
        ] {
            let refusal = check(query).unwrap_err();
            assert_eq!(refusal.0, "given twice: job_id", "{query}");
        }
    }

    #[test]
    fn nobody_chooses_a_host() {
        for query in ["url=http://canary/", "job_id=1&host=canary", "%67itlab=x"] {
            let refusal = check(query).unwrap_err();
            assert!(refusal.0.starts_with("not allowed: "), "{query}");
        }
    }
}
