//! JSON bodies: as they came, and the one of `POST /v1/jobs` as fields.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use poem::{Request, RequestBody, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    error::ContentTypeError,
    payload::Json,
    registry::{MetaRequest, Registry},
    types::ParseFromJSON,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use crate::intake::{Fields, Refusal};

/// Names that a refusal has room for.
const MOST_NAMED: usize = 10;

/// A JSON body as it came: a signature is made over its bytes, and in an error of a parser stands what was sent.
/// In the OpenAPI document it is [`Json`].
pub(crate) struct RawJson<T> {
    pub(crate) bytes: Bytes,
    form: PhantomData<T>,
}

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for RawJson<T> {
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
        _options: ExtractParamOptions<()>,
    ) -> Result<Self> {
        let kind = request.content_type().unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let content_type = kind.to_owned();
            return Err(ContentTypeError::NotSupported { content_type }.into());
        }
        Ok(Self {
            bytes: body.take()?.into_bytes().await?,
            form: PhantomData,
        })
    }
}

/// Why a body is no notice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is no JSON object.
    NoObject,
    /// These of its fields are wrong.
    Fields(Refusal),
}

/// The fields of a notice: none unknown, none twice, ids as numbers or text, the rest as text.
pub(crate) fn fields(body: &[u8]) -> Result<Fields, Malformed> {
    let object: Object = serde_json::from_slice(body).map_err(|_| Malformed::NoObject)?;
    let mut fields = Fields::default();
    let (mut seen, mut twice): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let (mut unknown, mut malformed) = (Vec::new(), Vec::new());
    for (name, value) in &object.0 {
        let Some((name, field, is_id)) = field(&mut fields, name) else {
            unknown.push(harmless(name).unwrap_or("a field with another name"));
            continue;
        };
        if seen.contains(&name) {
            twice.push(name);
            continue;
        }
        seen.push(name);
        *field = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if is_id => Some(number.to_string()),
            _ => {
                malformed.push(name);
                None
            }
        };
    }
    let faults = [
        ("unknown", unknown),
        ("given twice", twice),
        ("malformed or not allowed", malformed),
    ];
    let faults = faults.into_iter().filter(|(_, names)| !names.is_empty());
    let faults: Vec<String> = faults
        .map(|(what, mut names)| {
            names.sort_unstable();
            names.dedup();
            let others = if names.len() > MOST_NAMED {
                ", …"
            } else {
                ""
            };
            names.truncate(MOST_NAMED);
            format!("{what}: {}{others}", names.join(", "))
        })
        .collect();
    if faults.is_empty() {
        Ok(fields)
    } else {
        Err(Malformed::Fields(Refusal(faults.join("; "))))
    }
}

/// The field of this name, and whether it is an id.
fn field<'a>(
    fields: &'a mut Fields,
    name: &str,
) -> Option<(&'static str, &'a mut Option<String>, bool)> {
    Some(match name {
        "instance" => ("instance", &mut fields.instance, false),
        "project_id" => ("project_id", &mut fields.project_id, true),
        "runner_id" => ("runner_id", &mut fields.runner_id, true),
        "job_id" => ("job_id", &mut fields.job_id, true),
        "job_name" => ("job_name", &mut fields.job_name, false),
        "project_name" => ("project_name", &mut fields.project_name, false),
        "index_name" => ("index_name", &mut fields.index_name, false),
        _ => return None,
    })
}

/// A name that a caller made up, if it is harmless to repeat.
fn harmless(name: &str) -> Option<&str> {
    let is_harmless = (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_harmless.then_some(name)
}

/// All fields of an object in their order, those too that stand in it twice.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_or_text_and_the_rest_is_text() {
        let read = |body: &str| fields(body.as_bytes()).unwrap();
        let notice = read(r#"{"project_id":42,"job_id":"{4711}","job_name":"a","runner_id":null}"#);
        assert_eq!(notice.project_id.as_deref(), Some("42"));
        assert_eq!(notice.job_id.as_deref(), Some("{4711}"));
        assert_eq!(notice.job_name.as_deref(), Some("a"));
        assert_eq!(notice.runner_id, None);
        assert_eq!(read("{}"), Fields::default());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_repeated() {
        for (body, what) in [
            (
                r#"{"job_id":1,"b":2,"job_id":"canary","job_id":3}"#,
                "unknown: b; given twice: job_id",
            ),
            (
                r#"{"job_id":1,"job\u005fid":"canary"}"#,
                "given twice: job_id",
            ),
            (
                r#"{"colour":"canary","a":{"b":1,"b":2}}"#,
                "unknown: a, colour",
            ),
            (r#"{"Canary":1}"#, "unknown: a field with another name"),
            (r#"{"":1}"#, "unknown: a field with another name"),
            (
                r#"{"job_name":1,"job_id":["canary"]}"#,
                "malformed or not allowed: job_id, job_name",
            ),
        ] {
            let refusal = Malformed::Fields(Refusal(what.to_owned()));
            assert_eq!(fields(body.as_bytes()), Err(refusal), "{body}");
        }
        for body in [
            "",
            "{",
            "[1,1]",
            "null",
            "{} {}",
            "\"a\"",
            "{\"a\":\"\\ud800\"}",
        ] {
            assert_eq!(fields(body.as_bytes()), Err(Malformed::NoObject), "{body}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(30_000));
        assert_eq!(fields(deep.as_bytes()), Err(Malformed::NoObject));
    }
}
