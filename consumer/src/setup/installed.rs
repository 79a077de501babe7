//! Which version of our templates a cluster has.

use anyhow::{Result, bail};
use serde_json::Value;

use super::{hand::Hand, objects::VERSION};
use crate::{
    indices::{Kind, Names},
    privilege::explain,
};

/// A template of ours as it stands in the cluster.
#[derive(Debug, PartialEq, Eq)]
struct Installed {
    /// `index template NAME`, `component template NAME`.
    what: String,
    /// `_meta.version`; older ones have none.
    version: Option<u64>,
}

/// Refuses to go on where a template is newer than ours, before anything is changed; says which are older.
pub(super) async fn check(hand: &Hand<'_>, names: &Names) -> Result<()> {
    let mut installed = Vec::new();
    for kind in ["index", "component"] {
        let what = format!("to show its {kind} templates");
        let path = format!(
            "_{kind}_template/{}*?filter_path={kind}_templates.name,{kind}_templates.{kind}_template._meta",
            names.object("")
        );
        let answer = hand.look(&path).await;
        let answer = answer.map_err(|error| explain(&what, error))?;
        installed.extend(read(kind, names, &answer.unwrap_or_default()));
    }
    if let Some(sentence) = refusal(&installed) {
        bail!(sentence);
    }
    if let Some(line) = upgrade(&installed) {
        println!("{line}");
    }
    Ok(())
}

/// Our own ones among those that an answer has, but for the operator's.
fn read(kind: &str, names: &Names, answer: &Value) -> Vec<Installed> {
    let suffixes = match kind {
        "index" => Kind::ALL.map(Kind::suffix).to_vec(),
        _ => vec!["-settings", "-facts", "-lines", "-jobs", "-rejected"],
    };
    let ours: Vec<String> = suffixes.iter().map(|it| names.object(it)).collect();
    let templates = answer[format!("{kind}_templates")].as_array();
    let installed = |it: &Value| {
        let name = it["name"].as_str()?;
        ours.iter().any(|our| our == name).then(|| Installed {
            what: format!("{kind} template {name}"),
            version: it[format!("{kind}_template")]["_meta"]["version"].as_u64(),
        })
    };
    templates
        .into_iter()
        .flatten()
        .filter_map(installed)
        .collect()
}

fn refusal(installed: &[Installed]) -> Option<String> {
    let newer = installed.iter().find(|it| it.version > Some(VERSION))?;
    let all: Vec<&str> = installed.iter().map(|it| it.what.as_str()).collect();
    Some(format!(
        "the {} is of version {}, and this consumer's is {VERSION}: run the setup of the consumer that put it, or a newer one; to go back, first delete these in this order: {}",
        newer.what,
        newer.version.unwrap_or_default(),
        all.join(", "),
    ))
}

fn upgrade(installed: &[Installed]) -> Option<String> {
    let older = installed.iter().filter(|it| it.version < Some(VERSION));
    let oldest = older.min_by_key(|it| it.version)?;
    let version = match oldest.version {
        Some(version) => format!("of version {version}"),
        None => "without a version".to_owned(),
    };
    Some(format!(
        "the {} is {version}: all are brought to version {VERSION}",
        oldest.what
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(version: Option<u64>) -> Installed {
        Installed {
            what: "index template joblogs-x".to_owned(),
            version,
        }
    }

    #[test]
    fn newer_is_refused_with_both_versions_and_a_way_out() {
        let said = refusal(&[installed(None), installed(Some(VERSION + 6))]).unwrap();
        assert!(
            said.starts_with("the index template joblogs-x is of version 8,"),
            "{said}"
        );
        assert!(
            said.contains("this consumer's is 2") && said.contains("delete"),
            "{said}"
        );
        assert_eq!(refusal(&[installed(None), installed(Some(VERSION))]), None);
    }

    #[test]
    fn older_is_said_in_a_line_and_the_same_is_not() {
        assert_eq!(upgrade(&[]), None);
        assert_eq!(upgrade(&[installed(Some(VERSION))]), None);
        let said = upgrade(&[installed(Some(VERSION)), installed(None)]).unwrap();
        assert!(said.contains("without a version"), "{said}");
        let said = upgrade(&[installed(Some(0))]).unwrap();
        assert!(said.contains("of version 0"), "{said}");
    }
}
