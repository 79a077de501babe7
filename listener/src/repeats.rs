//! What is given twice is refused by name: a typing error must not vanish, and which of the two
//! counts would be a guess. Names are compared as they are read, `job%5Fid` being `job_id`.

use std::{collections::HashSet, fmt};

use poem::{Body, Request, RequestBody, Result, error::ResponseError, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    payload::Json,
    registry::{MetaRequest, Registry},
    types::ParseFromJSON,
};
use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};

use crate::intake::Refusal;

/// The names of the `GET`'s parameters.
const PARAMETERS: [&str; 7] = [
    "project_id",
    "runner_id",
    "job_id",
    "job_name",
    "project_name",
    "gitlab_token",
    "index_name",
];

/// Refuses a query with a parameter that is given twice. Others than ours pass: the older tool let
/// them.
pub(crate) fn check_query(query: &str) -> Result<(), Refusal> {
    let names: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, _)| name)
        .collect();
    let is_twice = |parameter: &&str| names.iter().filter(|name| name == parameter).count() > 1;
    refuse(PARAMETERS.into_iter().filter(is_twice).collect())
}

/// Refuses a JSON object in which a name stands twice. What is no object is for others to refuse.
fn check_json(body: &[u8]) -> Result<(), Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let twice = json.deserialize_map(Names).unwrap_or_default();
    let name = |name| harmless(name).unwrap_or("an unknown field");
    refuse(twice.iter().map(String::as_str).map(name).collect())
}

fn refuse(twice: Vec<&str>) -> Result<(), Refusal> {
    if twice.is_empty() {
        return Ok(());
    }
    Err(Refusal(format!("given twice: {}", twice.join(", "))))
}

/// A name that a caller made up, if it is harmless to repeat.
pub(crate) fn harmless(name: &str) -> Option<&str> {
    let is_harmless = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_harmless.then_some(name)
}

/// Visits an object and yields the names that stand in it more than once, each once.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = HashSet::new();
        let mut twice: Vec<String> = Vec::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
            if seen.contains(&name) {
                if !twice.contains(&name) {
                    twice.push(name);
                }
            } else {
                seen.insert(name);
            }
        }
        Ok(twice)
    }
}

/// A JSON body in which no name stands twice; in the OpenAPI document it is [`Json`].
pub(crate) struct UnrepeatedJson<T>(pub(crate) T);

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for UnrepeatedJson<T> {
    const TYPES: &'static [ApiExtractorType] = <Json<T> as ApiExtractor>::TYPES;

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Json<T> as ApiExtractor>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        <Json<T> as ApiExtractor>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> Result<Self> {
        let bytes = body.take()?.into_bytes().await?;
        check_json(&bytes)?;
        let mut body = RequestBody::new(Body::from_bytes(bytes));
        let json = <Json<T> as ApiExtractor>::from_request(request, &mut body, options).await?;
        Ok(Self(json.0))
    }
}

impl ResponseError for Refusal {
    fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_given_twice_is_named() {
        for query in ["", "project_id=1&job_id=2", "x=1&x=2", "job_id=job_id"] {
            assert!(check_query(query).is_ok(), "{query}");
        }
        for query in [
            "job_id=1&x=1&job_id=canary&x=2",
            "job_id=1&job%5Fid=canary",
            "job_id&%6a%6Fb_id",
        ] {
            let refusal = check_query(query).unwrap_err();
            assert_eq!(refusal.0, "given twice: job_id", "{query}");
        }
    }

    #[test]
    fn a_field_given_twice_is_named() {
        for body in ["", "{", "[1,1]", "null", r#"{"a":{"b":1,"b":2},"b":3}"#] {
            assert!(check_json(body.as_bytes()).is_ok(), "{body}");
        }
        for (body, twice) in [
            (r#"{"a":1,"b":2,"a":"canary","a":3}"#, "a"),
            (r#"{"a_b":1,"a\u005fb":2}"#, "a_b"),
            (r#"{"Canary":1,"Canary":2}"#, "an unknown field"),
        ] {
            let refusal = check_json(body.as_bytes()).unwrap_err();
            assert_eq!(refusal.0, format!("given twice: {twice}"), "{body}");
        }
    }
}
