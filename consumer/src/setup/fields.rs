//! Fields that are new come into the indices that are there: what today's index does not map can't be searched for, and
//! jobs of today go on coming into it.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    adapt::next_best,
    hand::Hand,
    objects::{MANAGED_BY, VERSION, mapping},
};
use crate::{
    elasticsearch::ElasticsearchError,
    indices::{Kind, Names},
    privilege::explain,
};

/// Adds them to each open index of ours that an earlier version made; one that does not take them stays as it is.
pub(super) async fn add(hand: &Hand<'_>, names: &Names) -> Result<()> {
    let patterns = Kind::ALL.iter().flat_map(|kind| names.patterns(*kind));
    let patterns: Vec<String> = patterns.collect();
    let path = format!(
        "{}?expand_wildcards=open&filter_path=*.mappings._meta",
        patterns.join(",")
    );
    let found = match hand.look(&path).await {
        Ok(found) => found.unwrap_or_default(),
        // Who may not look into indices may put templates all the same.
        Err(ElasticsearchError::Refused { status: 403, .. }) => return Ok(()),
        Err(error) => return Err(explain("to show the indices", error)),
    };
    for (index, answer) in found.as_object().into_iter().flatten() {
        let kind = names.kind(index);
        if let (Some(kind), true) = (kind, is_older(names, &answer["mappings"]["_meta"])) {
            add_to(hand, names, kind, index).await?;
        }
    }
    Ok(())
}

/// Whether an earlier version of this installation made it. Others' indices, and those from before there was this mark,
/// are not touched.
fn is_older(names: &Names, meta: &Value) -> bool {
    let name = &meta["name"];
    meta["managed_by"] == MANAGED_BY
        && (name.is_null() || name == names.naming.name.as_str())
        && meta["version"].as_u64() < Some(VERSION)
}

async fn add_to(hand: &Hand<'_>, names: &Names, kind: Kind, index: &str) -> Result<()> {
    let mut template = json!({"template": {"mappings": mapping(names, kind)?}});
    let path = format!("{index}/_mapping");
    loop {
        let error = match hand.put(&path, &template["template"]["mappings"]).await {
            Ok(()) => {
                hand.say(&format!("{index} has the fields of version {VERSION}"));
                return Ok(());
            }
            Err(error) => error,
        };
        let replaced = match &error {
            ElasticsearchError::Rejected { reason, .. } => next_best(&mut template, reason),
            ElasticsearchError::Refused { .. } => None,
            _ => return Err(error).context(format!("the fields of {index}")),
        };
        if replaced.is_none() {
            let what = format!("the fields of version {VERSION} in {index}, which keeps its own");
            println!("{:#}", explain(&what, error));
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use notice::{IndexName, IndexPatterns};

    use super::*;
    use crate::indices::{DatePlace, Naming};

    #[test]
    fn only_indices_of_ours_and_of_earlier_versions_get_fields() {
        let name = IndexName::parse("joblogs").unwrap();
        let names = Names {
            asked: IndexPatterns::default().and(&name),
            naming: Naming {
                name,
                date: DatePlace::Prefix,
            },
        };
        for (meta, right) in [
            (json!({"managed_by": "joblogs", "version": 1}), true),
            (
                json!({"managed_by": "joblogs", "name": "joblogs", "version": 1}),
                true,
            ),
            (
                json!({"managed_by": "joblogs", "name": "joblogs", "version": VERSION}),
                false,
            ),
            (
                json!({"managed_by": "joblogs", "name": "joblogs", "version": VERSION + 1}),
                false,
            ),
            (
                json!({"managed_by": "joblogs", "name": "archive", "version": 1}),
                false,
            ),
            (json!({"managed_by": "somebody", "version": 1}), false),
            (Value::Null, false),
        ] {
            assert_eq!(is_older(&names, &meta), right, "{meta}");
        }
    }
}
