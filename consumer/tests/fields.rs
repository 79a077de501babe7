//! `docs/fields.md` is made of the mapping files: `UPDATE_README=1 cargo test the_fields` writes it.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde_json::Value;

const HEAD: &str = "# Fields

What the documents have, made of the mapping files in [consumer/elasticsearch](../consumer/elasticsearch). A field can
be searched by its name and by each of its aliases: those are the names of ECS and OpenTelemetry.
";

/// The tables: title, what is said about them, file.
const TABLES: [(&str, &str, &str); 4] = [
    (
        "The job",
        "On every document: of lines, of manifests and of rejected lines.",
        include_str!("../elasticsearch/facts.json"),
    ),
    (
        "Lines",
        "`YYYY-MM-DD-NAME`, one document a line, and what is said about the job.",
        include_str!("../elasticsearch/lines.json"),
    ),
    (
        "Manifests",
        "`YYYY-MM-DD-NAME-jobs`, one document a job.",
        include_str!("../elasticsearch/jobs.json"),
    ),
    (
        "Rejected lines",
        "`YYYY-MM-DD-NAME-rejected`, one document a line that Elasticsearch did not take.",
        include_str!("../elasticsearch/rejected.json"),
    ),
];

/// A row: the field's whole name, its type, and what it is.
struct Row {
    name: String,
    kind: String,
    what: String,
}

#[test]
fn the_fields_are_those_of_the_mapping() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fields.md");
    let right = page();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, &right).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == right, "run UPDATE_README=1 cargo test the_fields");
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, about, file) in TABLES {
        let template: Value = serde_json::from_str(file).expect("a mapping file is JSON");
        let (mut rows, mut aliases) = (Vec::new(), BTreeMap::new());
        let mapping = &template["template"]["mappings"];
        collect(mapping, ("", ""), &mut rows, &mut aliases);
        let head = "| field | type | aliases | |\n|---|---|---|---|";
        let _ = write!(page, "\n## {title}\n\n{about}\n\n{head}\n");
        for Row { name, kind, what } in rows {
            let also = aliases.remove(&name).unwrap_or_default().join(", ");
            let _ = writeln!(page, "| `{name}` | {kind} | {also} | {what} |");
        }
        assert!(
            aliases.is_empty(),
            "{title}: aliases that lead nowhere: {aliases:?}"
        );
    }
    page
}

/// `above` is the beginning of the names, and the end of the types.
fn collect(
    mapping: &Value,
    above: (&str, &str),
    rows: &mut Vec<Row>,
    aliases: &mut BTreeMap<String, Vec<String>>,
) {
    for (name, field) in mapping["properties"].as_object().into_iter().flatten() {
        let name = format!("{}{name}", above.0);
        if field["properties"].is_object() {
            let nested = if field["type"] == "nested" {
                ", nested"
            } else {
                above.1
            };
            collect(field, (&format!("{name}."), nested), rows, aliases);
            continue;
        }
        if let Some(path) = field["path"].as_str() {
            aliases
                .entry(path.to_owned())
                .or_default()
                .push(format!("`{name}`"));
            continue;
        }
        let what = field["meta"]["description"].as_str();
        let what = what.unwrap_or_else(|| panic!("nothing is said about {name}"));
        rows.push(Row {
            kind: format!("{}{}", field["type"].as_str().unwrap_or_default(), above.1),
            what: what.to_owned(),
            name,
        });
    }
}
