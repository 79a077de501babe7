//! What must hold for any body and any query, for the fuzzer: see `fuzz/README.md`.

use notice::{IndexName, IndexPatterns, Instance, Source};

use crate::{
    body::{self, Malformed},
    intake::{Fields, Rules},
    query,
    webhook::{self, Event},
};

/// Long enough for all our names, ten of a caller's, and a sentence.
const LONGEST_REFUSAL: usize = 1_000;

/// The body of `POST /v1/jobs`: it is a notice or gets one short sentence, which has no control character.
pub fn notice(body: &[u8]) {
    match body::fields(body) {
        Ok(fields) => {
            let object: serde_json::Value =
                serde_json::from_slice(body).expect("what has fields is JSON");
            assert!(object.is_object(), "{object}");
            become_a_message(&fields);
        }
        Err(Malformed::NoObject) => {}
        Err(Malformed::Fields(refusal)) => is_short(&refusal.0),
    }
}

/// The body of a webhook: each job of which it tells can become a message.
pub fn webhook(body: &[u8]) {
    if let Ok(Event::Ended(jobs)) = webhook::read(body) {
        assert!(!jobs.is_empty());
        for job in &jobs {
            assert!(become_a_message(job), "{job:?}");
        }
    }
}

/// The query of `GET /`.
pub fn query(query: &[u8]) {
    if let Err(refusal) = std::str::from_utf8(query).map_or(Ok(()), query::check) {
        is_short(&refusal.0);
    }
}

fn become_a_message(fields: &Fields) -> bool {
    let index = IndexName::parse("joblogs").expect("a name");
    let rules = Rules {
        index_names: IndexPatterns::default().and(&index),
        seal_keys: None,
        seal_seconds: 1,
    };
    let instance = Instance::parse("https://gitlab.com/").expect("a URL");
    match rules.message(&[&instance], fields, None, Source::Api) {
        Ok(message) => {
            assert!(serde_json::from_slice::<serde_json::Value>(&message.to_body()).is_ok());
            true
        }
        Err(refusal) => {
            is_short(&refusal.0);
            false
        }
    }
}

fn is_short(refusal: &str) {
    assert!(refusal.len() < LONGEST_REFUSAL, "{refusal}");
    assert!(!refusal.chars().any(char::is_control), "{refusal:?}");
}
