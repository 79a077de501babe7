//! A simulated Kibana that keeps what it takes, and refuses what Kibana refuses: calls without its header, forms that
//! are none, types and versions that it does not know, references that lead nowhere.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use poem::{
    Body, EndpointExt, Request, Response, Route, Server,
    http::StatusCode,
    listener::{Acceptor, Listener, TcpListener},
    web::{Data, Multipart, Query},
};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) const USER: &str = "elastic";
pub(crate) const PASSWORD: &str = "not to be said";

/// By type: the newest version of its objects that is known.
type Types = &'static [(&'static str, &'static str)];
const KIBANA_8_19: Types = &[
    ("index-pattern", "8.0.0"),
    ("search", "8.0.0"),
    ("lens", "8.9.0"),
    ("visualization", "8.5.0"),
    ("dashboard", "8.9.0"),
];
const OPENSEARCH_DASHBOARDS: Types = &[
    ("index-pattern", "7.6.0"),
    ("search", "7.9.3"),
    ("visualization", "7.10.0"),
    ("dashboard", "7.9.3"),
];
/// References to these are checked, as Kibana does.
const CHECKED: [&str; 2] = ["index-pattern", "search"];

/// One Kibana; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Kibana(Arc<Mutex<State>>);

pub(crate) struct State {
    is_opensearch_dashboards: bool,
    pub(crate) types: BTreeMap<&'static str, &'static str>,
    /// How often it still says that it is not ready.
    pub(crate) not_ready: usize,
    /// By type and id.
    pub(crate) objects: BTreeMap<(String, String), Value>,
    pub(crate) imports: usize,
    pub(crate) port: u16,
}

impl Kibana {
    pub(crate) async fn start() -> Self {
        Self::start_as(false, KIBANA_8_19).await
    }

    pub(crate) async fn start_opensearch_dashboards() -> Self {
        Self::start_as(true, OPENSEARCH_DASHBOARDS).await
    }

    async fn start_as(is_opensearch_dashboards: bool, types: Types) -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0")
            .into_acceptor()
            .await
            .unwrap();
        let address = acceptor.local_addr()[0]
            .0
            .as_socket_addr()
            .copied()
            .unwrap();
        let kibana = Self(Arc::new(Mutex::new(State {
            is_opensearch_dashboards,
            types: types.iter().copied().collect(),
            not_ready: 0,
            objects: BTreeMap::new(),
            imports: 0,
            port: address.port(),
        })));
        let app = Route::new()
            .at("/base/api/status", poem::get(say_status))
            .at("/base/api/saved_objects/_import", poem::post(take_import))
            .at("/base/api/saved_objects/_export", poem::post(give_export))
            .data(kibana.clone());
        tokio::spawn(Server::new_with_acceptor(acceptor).run(app));
        kibana
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// With a path, as behind a proxy.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/base", self.state().port)
    }
}

impl State {
    /// What every call needs.
    fn refusal(&self, request: &Request, changes: bool) -> Option<Response> {
        let header = if self.is_opensearch_dashboards {
            "osd-xsrf"
        } else {
            "kbn-xsrf"
        };
        if changes && request.header(header).is_none() {
            let why = format!("Request must contain a {header} header.");
            return Some(error(StatusCode::BAD_REQUEST, &why));
        }
        let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        (request.header("authorization") != Some(&right))
            .then(|| error(StatusCode::UNAUTHORIZED, "Unauthorized"))
    }

    /// Takes an object, or says why not. A version from the future spoils the whole import.
    fn take(
        &mut self,
        object: &Value,
        all: &[Value],
        overwrite: bool,
    ) -> Result<Option<Value>, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, id) = (text(&object["type"]), text(&object["id"]));
        let refused = |error: Value| {
            Ok(Some(
                json!({"type": kind, "id": id, "title": object["attributes"]["title"], "error": error}),
            ))
        };
        let Some(known) = self.types.get(kind.as_str()) else {
            return refused(json!({"type": "unsupported_type"}));
        };
        let version = if self.is_opensearch_dashboards {
            text(&object["migrationVersion"][&kind])
        } else {
            text(&object["typeMigrationVersion"])
        };
        if numbers(&version) > numbers(known) {
            return Err(format!(
                "Document \"{id}\" belongs to a more recent version of Kibana [{version}] when the last known version is [{known}]."
            ));
        }
        let references = object["references"].as_array().cloned().unwrap_or_default();
        let missing: Vec<Value> = references
            .into_iter()
            .map(|it| json!({"type": it["type"], "id": it["id"]}))
            .filter(|it| CHECKED.contains(&text(&it["type"]).as_str()))
            .filter(|it| {
                let comes = all
                    .iter()
                    .any(|other| other["type"] == it["type"] && other["id"] == it["id"]);
                !comes
                    && !self
                        .objects
                        .contains_key(&(text(&it["type"]), text(&it["id"])))
            })
            .collect();
        if !missing.is_empty() {
            return refused(json!({"type": "missing_references", "references": missing}));
        }
        let key = (kind.clone(), id.clone());
        if self.objects.contains_key(&key) && !overwrite {
            return refused(json!({"type": "conflict"}));
        }
        self.objects.insert(key, object.clone());
        Ok(None)
    }
}

/// A version's numbers, for `8.10.0` is newer than `8.9.0`.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|it| it.parse().unwrap()).collect()
}

#[poem::handler]
fn say_status(kibana: Data<&Kibana>, request: &Request) -> Response {
    let mut state = kibana.state();
    if let Some(refusal) = state.refusal(request, false) {
        return refusal;
    }
    let is_ready = state.not_ready == 0;
    state.not_ready = state.not_ready.saturating_sub(1);
    let overall = match (state.is_opensearch_dashboards, is_ready) {
        (false, true) => json!({"level": "available", "summary": "All services are available"}),
        (false, false) => json!({"level": "unavailable", "summary": "1 service is unavailable"}),
        (true, true) => json!({"state": "green"}),
        (true, false) => json!({"state": "red"}),
    };
    let number = if state.is_opensearch_dashboards {
        "2.19.3"
    } else {
        "8.19.21"
    };
    let body =
        json!({"name": "kibana", "version": {"number": number}, "status": {"overall": overall}});
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer(status, &body)
}

#[derive(Deserialize)]
struct HowToImport {
    #[serde(default)]
    overwrite: bool,
}

#[poem::handler]
async fn take_import(
    kibana: Data<&Kibana>,
    request: &Request,
    Query(how): Query<HowToImport>,
    form: Result<Multipart, poem::Error>,
) -> Response {
    if let Some(refusal) = kibana.state().refusal(request, true) {
        return refusal;
    }
    let Ok(mut form) = form else {
        return error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported Media Type");
    };
    let mut objects = Vec::new();
    while let Ok(Some(field)) = form.next_field().await {
        let is_file = field.name() == Some("file");
        if !is_file
            || !field
                .file_name()
                .is_some_and(|name| name.ends_with(".ndjson"))
        {
            return error(
                StatusCode::BAD_REQUEST,
                "[request body.file]: expected an .ndjson file",
            );
        }
        let text = field.text().await.unwrap();
        objects.extend(
            text.lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()),
        );
    }
    let mut state = kibana.state();
    state.imports += 1;
    let mut errors = Vec::new();
    for object in &objects {
        match state.take(object, &objects, how.overwrite) {
            Ok(refusal) => errors.extend(refusal),
            Err(why) => return error(StatusCode::UNPROCESSABLE_ENTITY, &why),
        }
    }
    let count = objects.len() - errors.len();
    let mut body = json!({"success": errors.is_empty(), "successCount": count, "warnings": []});
    if !errors.is_empty() {
        body["errors"] = errors.into();
    }
    answer(StatusCode::OK, &body)
}

#[poem::handler]
async fn give_export(kibana: Data<&Kibana>, request: &Request, body: Body) -> Response {
    if let Some(refusal) = kibana.state().refusal(request, true) {
        return refusal;
    }
    let question: Value = body.into_json().await.unwrap();
    let state = kibana.state();
    let mut lines = Vec::new();
    for asked in question["objects"].as_array().unwrap() {
        let key = |name: &str| asked[name].as_str().unwrap().to_owned();
        match state.objects.get(&(key("type"), key("id"))) {
            Some(object) => lines.push(object.to_string()),
            None => return error(StatusCode::BAD_REQUEST, "Error fetching objects to export"),
        }
    }
    Response::builder()
        .content_type("application/ndjson")
        .body(lines.join("\n"))
}

fn error(status: StatusCode, message: &str) -> Response {
    let reason = status.canonical_reason();
    answer(
        status,
        &json!({"statusCode": status.as_u16(), "error": reason, "message": message}),
    )
}

fn answer(status: StatusCode, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .content_type("application/json")
        .body(body.to_string())
}
