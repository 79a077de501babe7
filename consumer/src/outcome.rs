//! What becomes of an answer of Elasticsearch: one table for requests, one for items.
//!
//! Source: Elasticsearch's bulk reference and its error classes.

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
    /// Send it again, alone.
    Again,
    /// This line will never be taken: it goes to the rejected index with the reason.
    Rejected,
}

/// Errors of status 400 that an operator mends: the limit of shards is reached.
const MENDABLE: [&str; 1] = ["validation_exception"];

/// By the HTTP status of the request, and its `error.type`. What no row knows is sent again: a proxy
/// that answers 404 while the cluster starts anew is no reason to give a job up.
pub(crate) fn of_request(status: u16, error_type: &str) -> RequestOutcome {
    match status {
        200..=299 => RequestOutcome::Items,
        400 if MENDABLE.contains(&error_type) => RequestOutcome::Again,
        400 | 501 => RequestOutcome::Broken,
        401 | 403 => RequestOutcome::Refused,
        413 => RequestOutcome::Halve,
        _ => RequestOutcome::Again,
    }
}

/// By the item's status and `error.type`.
pub(crate) fn of_item(status: u16, error_type: &str) -> ItemOutcome {
    match status {
        200 | 201 => ItemOutcome::Created,
        409 => ItemOutcome::Duplicate,
        400 if MENDABLE.contains(&error_type) => ItemOutcome::Again,
        // What the surroundings cause and an operator mends: overload, a block, a privilege that is
        // missing on this index, an index that may not be made.
        401 | 403 | 404 | 429 | 500..=599 => ItemOutcome::Again,
        _ => ItemOutcome::Rejected,
    }
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
            (429, "es_rejected_execution_exception", ItemOutcome::Again),
            (429, "cluster_block_exception", ItemOutcome::Again),
            (503, "unavailable_shards_exception", ItemOutcome::Again),
            (403, "cluster_block_exception", ItemOutcome::Again),
            (403, "security_exception", ItemOutcome::Again),
            (404, "index_not_found_exception", ItemOutcome::Again),
            (400, "validation_exception", ItemOutcome::Again),
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
}
