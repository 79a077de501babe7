//! The OpenAPI document: what poem-openapi makes of the calls, and what it can't know. Answers that are given
//! before a call sees the request, the forms of fields that the calls check by themselves so that all faults are
//! named together, credentials, and the calls of health and metrics (`openapi.json`).

use std::sync::Arc;

use poem_openapi::OpenApiService;
use serde_json::{Map, Value, json};

use crate::{
    accept::Api,
    api::{self, Calls},
    hooks::{self, Hooks},
    intake::{LARGEST_ID, LONGEST_NAME, LONGEST_TOKEN},
};

/// A number as GitLab's ids are, in the braces of the older tool's curl or without.
const ID: &str = r"^([1-9][0-9]{0,17}|\{[1-9][0-9]{0,17}\})$";

/// What the page and the OpenAPI document are called.
pub(crate) const TITLE: &str = "Joblogs listener";

/// What stands above the calls.
const DESCRIPTION: &str = "\
Takes notices of GitLab CI jobs («job 4711 of project 42 has ended, or is about to»), so that their
logs get into Elasticsearch. A 2xx says that RabbitMQ has confirmed the notice; the log follows once
the job has ended.

This description as JSON: [`/openapi.json`](/openapi.json).";

/// The API with its OpenAPI document.
pub(crate) fn service(api: Arc<Api>) -> OpenApiService<(Calls, Hooks), ()> {
    let calls = (Calls(api.clone()), Hooks(api));
    OpenApiService::new(calls, TITLE, env!("CARGO_PKG_VERSION")).description(DESCRIPTION)
}

/// The document as JSON. `spec` is poem-openapi's.
pub(crate) fn of(spec: &str, api: &Api) -> String {
    let mut document: Value = serde_json::from_str(spec).unwrap_or_default();
    let more: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
    // By its kind an event has one of three forms, which no struct has.
    document["components"]["schemas"]["WebhookEvent"].take();
    merge(&mut document, more);
    for (path, method) in [("/", "get"), (api::PATH, "post"), (hooks::PATH, "post")] {
        let call = &mut document["paths"][path][method];
        add_answers(call, path == "/");
    }
    let forms = forms(api);
    let parameters = document["paths"]["/"]["get"]["parameters"].as_array_mut();
    for parameter in parameters.into_iter().flatten() {
        if let Some(form) = parameter["name"].as_str().and_then(|name| forms.get(name)) {
            parameter["schema"] = form.clone();
            // Whatever else the older tool's users send, an id is needed.
            if parameter["name"] == "project_id" || parameter["name"] == "job_id" {
                parameter["required"] = true.into();
            }
        }
    }
    let notice = &mut document["components"]["schemas"]["JobNotice"];
    if let Some(properties) = notice["properties"].as_object_mut() {
        for (name, property) in properties {
            if let Some(form) = forms.get(name) {
                let description = property["description"].take();
                *property = in_json(name, form);
                property["description"] = description;
            }
        }
    }
    notice["required"] = json!(["project_id", "job_id"]);
    notice["additionalProperties"] = false.into();
    document.to_string()
}

/// The forms of fields in a query, by name.
fn forms(api: &Api) -> Map<String, Value> {
    let name = json!({
        "type": "string", "maxLength": LONGEST_NAME, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$",
    });
    // Empty, it is absent.
    let token = json!({
        "type": "string", "maxLength": LONGEST_TOKEN, "pattern": r"^[\x21-\x7e]*$",
    });
    let mut instances: Vec<&str> = vec![""];
    let all = api.origins.instances();
    instances.extend(all.iter().map(|it| it.name().as_str()));
    let index = format!("^({})?$", api.rules.index_names.regex());
    let optional_id = format!("^({})?$", ID.trim_matches(['^', '$']));
    let forms = json!({
        "project_id": {"type": "string", "pattern": ID, "example": "42"},
        "job_id": {"type": "string", "pattern": ID, "example": "4711"},
        "runner_id": {"type": "string", "pattern": optional_id, "example": "7"},
        "job_name": name,
        "project_name": name,
        "gitlab_token": token,
        "PRIVATE-TOKEN": token,
        "index_name": {"type": "string", "maxLength": 200, "pattern": index},
        "instance": {"type": "string", "enum": instances},
    });
    match forms {
        Value::Object(forms) => forms,
        _ => Map::new(),
    }
}

/// The same of a JSON body, where ids may be numbers too, and what is optional may be null.
fn in_json(name: &str, form: &Value) -> Value {
    let mut form = form.clone();
    if !name.ends_with("_id") {
        form["nullable"] = true.into();
        if let Some(Value::Array(values)) = form.get_mut("enum") {
            values.push(Value::Null);
        }
        return form;
    }
    let number = json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": LARGEST_ID});
    let mut either = vec![number, form];
    if name == "runner_id" {
        either.push(json!({"type": "string", "nullable": true, "enum": [null]}));
    }
    json!({"anyOf": either})
}

/// What a caller gets before the call sees the request.
fn add_answers(call: &mut Value, is_plain: bool) {
    let (kind, schema) = if is_plain {
        ("text/plain; charset=utf-8", json!({"type": "string"}))
    } else {
        let problem = json!({"$ref": "#/components/schemas/Problem"});
        ("application/problem+json", problem)
    };
    let mut answers = vec![
        ("408", "The body took longer than 5 s."),
        ("413", "The body is too large."),
        (
            "429",
            "Too many requests of this client, or of all; come again in a second.",
        ),
    ];
    if !is_plain {
        answers.push(("415", "The body is no JSON by its Content-Type."));
    }
    for (status, description) in answers {
        let mut answer = json!({
            "description": description,
            "content": {kind: {"schema": schema}},
        });
        if status == "429" {
            answer["headers"] = json!({"Retry-After": {
                "description": "After how many seconds to try again.", "required": true,
                "schema": {"type": "integer", "format": "uint32"},
            }});
        }
        call["responses"][status] = answer;
    }
}

/// Objects into objects; anything else in place of what was there.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
