//! What a cluster lacks is found out by asking for the better thing and reading the refusal: lists of modules
//! differ between Elasticsearch, its core and OpenSearch.

use serde_json::{Value, json};

/// Replaces in a template what the refusal is about by the next best thing, and says so in a line. `None`
/// where there is no next best.
pub(super) fn next_best(template: &mut Value, refusal: &str) -> Option<String> {
    let (lacking, replacement) = lacking_type(refusal)?;
    let lacking = lacking.to_owned();
    if replace(
        &mut template["template"]["mappings"],
        &lacking,
        &replacement,
    ) == 0
    {
        return None;
    }
    Some(format!(
        "this cluster lacks the type {lacking}: {replacement} instead"
    ))
}

/// Whether the refusal says that the cluster has no such API at all.
pub(super) fn is_no_api(refusal: &str) -> bool {
    refusal.starts_with("no handler found for uri") || refusal.starts_with("there is no API")
}

/// Whether it says that the cluster keeps no users: it has no such API, or, as Elasticsearch's core alone, cannot make
/// the index in which they would be.
pub(super) fn is_no_security(refusal: &str) -> bool {
    is_no_api(refusal) || refusal.starts_with("Unknown filter type [pattern_capture]")
}

/// The mapping type that the refusal is about, in Elasticsearch's words and in OpenSearch's, and what it is
/// replaced by.
fn lacking_type(reason: &str) -> Option<(&str, Value)> {
    let after = ["mapper type [", "handler for type ["]
        .iter()
        .find_map(|words| reason.split_once(words))?
        .1;
    let (name, _) = after.split_once(']')?;
    let replacement = match name {
        // Neither has positions or norms; phrases are slower with this, and it takes more space.
        "match_only_text" => json!({"type": "text", "norms": false, "index_options": "docs"}),
        _ => return None,
    };
    Some((name, replacement))
}

/// Replaces every field of a type; how many there were.
fn replace(mapping: &mut Value, lacking: &str, replacement: &Value) -> usize {
    if mapping["type"] == lacking {
        *mapping = replacement.clone();
        return 1;
    }
    let fields = mapping.get_mut("properties").and_then(Value::as_object_mut);
    fields.map_or(0, |fields| {
        fields
            .values_mut()
            .map(|field| replace(field, lacking, replacement))
            .sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_lacking_is_replaced_everywhere() {
        for file in [
            include_str!("../../elasticsearch/lines.json"),
            include_str!("../../elasticsearch/jobs.json"),
            include_str!("../../elasticsearch/rejected.json"),
        ] {
            for refusal in [
                "The mapper type [match_only_text] declared on field [message] does not exist.",
                "No handler for type [match_only_text] declared on field [message]",
            ] {
                let mut template: Value = serde_json::from_str(file).unwrap();
                assert!(template.to_string().contains("match_only_text"));
                let said = next_best(&mut template, refusal).unwrap();
                assert!(said.contains("lacks the type match_only_text"), "{said}");
                assert!(!template.to_string().contains("match_only_text"));
                assert_eq!(
                    next_best(&mut template, refusal),
                    None,
                    "there is none left"
                );
            }
        }
        let refusal = "The mapper type [date_nanos] declared on field [x] does not exist.";
        assert_eq!(next_best(&mut json!({}), refusal), None);
    }
}
