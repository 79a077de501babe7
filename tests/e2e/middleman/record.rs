//! What a middleman saw: which document came how often, and what was answered.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::bulk::outcome;

/// How often each status came, with the type of its error.
pub(crate) type Answers = BTreeMap<(u16, String), usize>;

#[derive(Default)]
pub(super) struct Record {
    /// By index and `_id`: what was answered each time that the document came.
    documents: HashMap<(String, String), Vec<u16>>,
    pub(super) items: Answers,
    /// Of whole bulk requests that have no items.
    pub(super) requests: Answers,
    /// Of requests that write a manifest, in the order of their answers.
    pub(super) manifests: Vec<u16>,
}

impl Record {
    /// A bulk request that was answered item by item.
    pub(super) fn answered<'a>(
        &mut self,
        index: &str,
        answers: impl Iterator<Item = (&'a str, &'a Value)>,
    ) {
        for (id, item) in answers {
            let (status, error) = outcome(item);
            let key = (index.to_owned(), id.to_owned());
            self.documents.entry(key).or_default().push(status);
            *self.items.entry((status, error)).or_default() += 1;
        }
    }

    /// A bulk request that was refused as a whole.
    pub(super) fn refused(&mut self, status: u16, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let error = answer["error"]["type"].as_str().unwrap_or_default();
        *self.requests.entry((status, error.to_owned())).or_default() += 1;
    }

    /// Documents that were sent again although they had not been refused for a time.
    pub(super) fn sent_in_vain(&self) -> Vec<String> {
        let is_in_vain = |answers: &[u16]| {
            let before_the_last = answers.split_last().map_or(&[][..], |(_, before)| before);
            before_the_last.iter().any(|status| *status != 429)
        };
        let in_vain = self.documents.iter();
        let in_vain = in_vain.filter(|(_, answers)| is_in_vain(answers));
        in_vain
            .map(|((index, id), answers)| format!("{id} of {index}: {answers:?}"))
            .collect()
    }
}
