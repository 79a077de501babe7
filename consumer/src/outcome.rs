//! What becomes of an answer of Elasticsearch: one table for requests, one for items.
//!
//! Source: Elasticsearch's bulk reference and its error classes.

use std::ops::RangeInclusive;

/// What to do after a whole bulk request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    /// Read the items.
    Items,
    /// Send the whole body again later.
    Again,
    /// The body is too large: halve it.
    Halve,
    /// An operator has to do something: about the credentials, or about an index.
    Refused,
    /// It was understood and will never be taken: the job becomes a dead letter.
    Broken,
}

/// What to do with one item of a bulk answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemOutcome {
    /// It is there now.
    Created,
    /// It was there before: the same job ingested again.
    Duplicate,
    /// Send it again, alone: something is wrong with its index, which an operator mends.
    Again,
    /// The same, and others would fare no better: the cluster is overloaded, blocked or full.
    Throttled,
    /// This line will never be taken: it goes to the rejected index with the reason.
    Rejected,
}

/// Which answers an outcome is for: HTTP statuses and, unless there are none, kinds of error.
struct Rule<T: 'static> {
    statuses: RangeInclusive<u16>,
    kinds: &'static [&'static str],
    outcome: T,
}

const fn rule<T>(
    statuses: RangeInclusive<u16>,
    kinds: &'static [&'static str],
    outcome: T,
) -> Rule<T> {
    Rule {
        statuses,
        kinds,
        outcome,
    }
}

/// Of status 400, and yet none of the request's own: the limit of shards is reached.
const SHARD_LIMIT: &[&str] = &["validation_exception"];
/// Of status 400, and an operator can open it.
const CLOSED_INDEX: &[&str] = &["index_closed_exception"];
/// A block of the whole cluster; and that of one index, which has no type of its own.
const CLUSTER_BLOCK: &[&str] = &["cluster_block_exception"];
const INDEX_BLOCK: &[&str] = &["cluster_block_exception of an index"];
const ANY: &[&str] = &[];

/// By the request's status; the first row that fits counts. What no other row knows is sent again: a
/// proxy that answers 404 while the cluster starts anew is no reason to give a job up.
const REQUESTS: [Rule<RequestOutcome>; 10] = [
    rule(200..=299, ANY, RequestOutcome::Items),
    rule(400..=400, SHARD_LIMIT, RequestOutcome::Again),
    rule(400..=400, CLOSED_INDEX, RequestOutcome::Refused),
    rule(400..=400, ANY, RequestOutcome::Broken),
    rule(401..=401, ANY, RequestOutcome::Refused),
    rule(403..=403, CLUSTER_BLOCK, RequestOutcome::Again),
    rule(403..=403, ANY, RequestOutcome::Refused),
    // Elastic Cloud Serverless, of an API that it has not.
    rule(410..=410, ANY, RequestOutcome::Broken),
    rule(413..=413, ANY, RequestOutcome::Halve),
    rule(501..=501, ANY, RequestOutcome::Broken),
];

/// By the item's status; the first row that fits counts. What no other row knows is rejected.
const ITEMS: [Rule<ItemOutcome>; 9] = [
    rule(200..=201, ANY, ItemOutcome::Created),
    rule(409..=409, ANY, ItemOutcome::Duplicate),
    rule(400..=400, SHARD_LIMIT, ItemOutcome::Throttled),
    rule(400..=400, CLOSED_INDEX, ItemOutcome::Again),
    rule(403..=403, CLUSTER_BLOCK, ItemOutcome::Throttled),
    // An operator's own block of this index, a privilege that is missing on it, or one that may not be
    // made.
    rule(401..=404, ANY, ItemOutcome::Again),
    // The flood stage of the disk is among them.
    rule(429..=429, ANY, ItemOutcome::Throttled),
    rule(500..=599, ANY, ItemOutcome::Throttled),
    rule(0..=u16::MAX, ANY, ItemOutcome::Rejected),
];

/// What to do after a bulk request with this status, `error.type` and `error.reason`.
pub(crate) fn of_request(status: u16, error_type: &str, reason: &str) -> RequestOutcome {
    let outcome = find(&REQUESTS, status, kind_of(error_type, reason));
    outcome.unwrap_or(RequestOutcome::Again)
}

/// What to do with an item of this status, `error.type` and `error.reason`.
pub(crate) fn of_item(status: u16, error_type: &str, reason: &str) -> ItemOutcome {
    let outcome = find(&ITEMS, status, kind_of(error_type, reason));
    outcome.unwrap_or(ItemOutcome::Rejected)
}

/// The type, but for the one that stands for two things: «index [NAME] blocked by: …» is about that index,
/// «blocked by: …» about the cluster.
fn kind_of<'a>(error_type: &'a str, reason: &str) -> &'a str {
    let is_block = CLUSTER_BLOCK.contains(&error_type);
    if is_block && reason.starts_with("index [") {
        return INDEX_BLOCK[0];
    }
    error_type
}

fn find<T: Copy>(rules: &[Rule<T>], status: u16, kind: &str) -> Option<T> {
    let fits = |rule: &&Rule<T>| {
        let is_kind = rule.kinds.is_empty() || rule.kinds.contains(&kind);
        is_kind && rule.statuses.contains(&status)
    };
    rules.iter().find(fits).map(|rule| rule.outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_by_their_status() {
        for (status, error_type, outcome) in [
            (200, "", RequestOutcome::Items),
            (400, "illegal_argument_exception", RequestOutcome::Broken),
            (400, "validation_exception", RequestOutcome::Again),
            (400, "index_closed_exception", RequestOutcome::Refused),
            (401, "security_exception", RequestOutcome::Refused),
            (403, "security_exception", RequestOutcome::Refused),
            (403, "cluster_block_exception", RequestOutcome::Again),
            (404, "index_not_found_exception", RequestOutcome::Again),
            (404, "", RequestOutcome::Again),
            (408, "", RequestOutcome::Again),
            (410, "api_not_available_exception", RequestOutcome::Broken),
            (413, "", RequestOutcome::Halve),
            (
                429,
                "es_rejected_execution_exception",
                RequestOutcome::Again,
            ),
            // OpenSearch's name of it.
            (429, "rejected_execution_exception", RequestOutcome::Again),
            (500, "", RequestOutcome::Again),
            (501, "", RequestOutcome::Broken),
            (502, "", RequestOutcome::Again),
            (503, "", RequestOutcome::Again),
            (504, "", RequestOutcome::Again),
        ] {
            assert_eq!(
                of_request(status, error_type, "why"),
                outcome,
                "{status} {error_type}"
            );
        }
    }

    #[test]
    fn items_go_by_status_and_type() {
        for (status, error_type, outcome) in [
            (201, "", ItemOutcome::Created),
            (
                409,
                "version_conflict_engine_exception",
                ItemOutcome::Duplicate,
            ),
            (
                429,
                "es_rejected_execution_exception",
                ItemOutcome::Throttled,
            ),
            (429, "rejected_execution_exception", ItemOutcome::Throttled),
            (429, "circuit_breaking_exception", ItemOutcome::Throttled),
            (429, "cluster_block_exception", ItemOutcome::Throttled),
            (503, "unavailable_shards_exception", ItemOutcome::Throttled),
            (403, "cluster_block_exception", ItemOutcome::Throttled),
            (403, "security_exception", ItemOutcome::Again),
            (404, "index_not_found_exception", ItemOutcome::Again),
            (400, "validation_exception", ItemOutcome::Throttled),
            (400, "index_closed_exception", ItemOutcome::Again),
            (400, "document_parsing_exception", ItemOutcome::Rejected),
            (400, "mapper_parsing_exception", ItemOutcome::Rejected),
            (
                400,
                "strict_dynamic_mapping_exception",
                ItemOutcome::Rejected,
            ),
            (413, "request_entity_too_large", ItemOutcome::Rejected),
        ] {
            assert_eq!(
                of_item(status, error_type, "why"),
                outcome,
                "{status} {error_type}"
            );
        }
    }

    /// The texts are Elasticsearch's own.
    #[test]
    fn a_block_of_an_index_is_none_of_the_cluster() {
        let kind = "cluster_block_exception";
        let index = "index [2026-11-25-joblogs] blocked by: [FORBIDDEN/8/index write (api)];";
        let cluster = "blocked by: [FORBIDDEN/6/cluster read-only (api)];";
        let full = "index [2026-11-25-joblogs] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has read-only-allow-delete block];";
        assert_eq!(of_item(403, kind, index), ItemOutcome::Again);
        assert_eq!(of_item(403, kind, cluster), ItemOutcome::Throttled);
        assert_eq!(of_item(429, kind, full), ItemOutcome::Throttled);
        assert_eq!(of_request(403, kind, index), RequestOutcome::Refused);
        assert_eq!(of_request(403, kind, cluster), RequestOutcome::Again);
        assert_eq!(of_request(429, kind, full), RequestOutcome::Again);
    }

    #[test]
    fn no_row_stands_in_the_shadow_of_another() {
        fn is_reached<T: Copy + PartialEq>(rules: &[Rule<T>]) -> bool {
            rules.iter().all(|rule| {
                let kind = rule.kinds.first().copied().unwrap_or_default();
                let mut statuses = rule.statuses.clone();
                statuses.any(|status| find(rules, status, kind) == Some(rule.outcome))
            })
        }
        assert!(is_reached(&REQUESTS) && is_reached(&ITEMS));
    }
}
