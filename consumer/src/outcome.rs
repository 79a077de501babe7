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
    /// The credentials are refused: nobody's work can go on.
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

/// Which answers an outcome is for: HTTP statuses and, unless there are none, `error.type`s.
struct Rule<T: 'static> {
    statuses: RangeInclusive<u16>,
    error_types: &'static [&'static str],
    outcome: T,
}

const fn rule<T>(
    statuses: RangeInclusive<u16>,
    error_types: &'static [&'static str],
    outcome: T,
) -> Rule<T> {
    Rule {
        statuses,
        error_types,
        outcome,
    }
}

/// Of status 400, and yet none of the request's own: the limit of shards is reached.
const SHARD_LIMIT: &[&str] = &["validation_exception"];
const ANY: &[&str] = &[];

/// By the request's status; the first row that fits counts. What no other row knows is sent again: a
/// proxy that answers 404 while the cluster starts anew is no reason to give a job up.
const REQUESTS: [Rule<RequestOutcome>; 8] = [
    rule(200..=299, ANY, RequestOutcome::Items),
    rule(400..=400, SHARD_LIMIT, RequestOutcome::Again),
    rule(400..=400, ANY, RequestOutcome::Broken),
    rule(401..=401, ANY, RequestOutcome::Refused),
    // Of a whole request only a block of the cluster or the index is no lack of rights.
    rule(
        403..=403,
        &["cluster_block_exception"],
        RequestOutcome::Again,
    ),
    rule(403..=403, ANY, RequestOutcome::Refused),
    rule(413..=413, ANY, RequestOutcome::Halve),
    rule(501..=501, ANY, RequestOutcome::Broken),
];

/// By the item's status; the first row that fits counts. What no other row knows is rejected.
const ITEMS: [Rule<ItemOutcome>; 8] = [
    rule(200..=201, ANY, ItemOutcome::Created),
    rule(409..=409, ANY, ItemOutcome::Duplicate),
    rule(400..=400, SHARD_LIMIT, ItemOutcome::Throttled),
    // The flood stage of the disk, or an operator's own block.
    rule(
        403..=403,
        &["cluster_block_exception"],
        ItemOutcome::Throttled,
    ),
    // A privilege that is missing on this index, or an index that may not be made.
    rule(401..=404, ANY, ItemOutcome::Again),
    rule(429..=429, ANY, ItemOutcome::Throttled),
    rule(500..=599, ANY, ItemOutcome::Throttled),
    rule(0..=u16::MAX, ANY, ItemOutcome::Rejected),
];

/// What to do after a bulk request with this status and `error.type`.
pub(crate) fn of_request(status: u16, error_type: &str) -> RequestOutcome {
    find(&REQUESTS, status, error_type).unwrap_or(RequestOutcome::Again)
}

/// What to do with an item of this status and `error.type`.
pub(crate) fn of_item(status: u16, error_type: &str) -> ItemOutcome {
    find(&ITEMS, status, error_type).unwrap_or(ItemOutcome::Rejected)
}

fn find<T: Copy>(rules: &[Rule<T>], status: u16, error_type: &str) -> Option<T> {
    let fits = |rule: &&Rule<T>| {
        let is_type = rule.error_types.is_empty() || rule.error_types.contains(&error_type);
        is_type && rule.statuses.contains(&status)
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
            (401, "security_exception", RequestOutcome::Refused),
            (403, "security_exception", RequestOutcome::Refused),
            (403, "cluster_block_exception", RequestOutcome::Again),
            (404, "index_not_found_exception", RequestOutcome::Again),
            (404, "", RequestOutcome::Again),
            (408, "", RequestOutcome::Again),
            (413, "", RequestOutcome::Halve),
            (
                429,
                "es_rejected_execution_exception",
                RequestOutcome::Again,
            ),
            (500, "", RequestOutcome::Again),
            (501, "", RequestOutcome::Broken),
            (502, "", RequestOutcome::Again),
            (503, "", RequestOutcome::Again),
            (504, "", RequestOutcome::Again),
        ] {
            assert_eq!(
                of_request(status, error_type),
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
            (429, "circuit_breaking_exception", ItemOutcome::Throttled),
            (429, "cluster_block_exception", ItemOutcome::Throttled),
            (503, "unavailable_shards_exception", ItemOutcome::Throttled),
            (403, "cluster_block_exception", ItemOutcome::Throttled),
            (403, "security_exception", ItemOutcome::Again),
            (404, "index_not_found_exception", ItemOutcome::Again),
            (400, "validation_exception", ItemOutcome::Throttled),
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
                of_item(status, error_type),
                outcome,
                "{status} {error_type}"
            );
        }
    }

    #[test]
    fn no_row_stands_in_the_shadow_of_another() {
        fn is_reached<T: Copy + PartialEq>(rules: &[Rule<T>]) -> bool {
            rules.iter().all(|rule| {
                let error_type = rule.error_types.first().copied().unwrap_or_default();
                let mut statuses = rule.statuses.clone();
                statuses.any(|status| find(rules, status, error_type) == Some(rule.outcome))
            })
        }
        assert!(is_reached(&REQUESTS) && is_reached(&ITEMS));
    }
}
