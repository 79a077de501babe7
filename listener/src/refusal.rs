//! Refusals in fixed sentences: the framework's own texts may quote what was sent.

use poem::{
    IntoResponse, Request, Response,
    error::{MethodNotAllowedError, NotFoundError},
    http::{Method, StatusCode},
};

use crate::{accept::problem, api, hooks};

/// How a call is refused: the older tool's in plain text, the others with problem JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    is_plain: bool,
    allowed: &'static str,
}

impl Form {
    pub(crate) fn of(request: &Request) -> Self {
        let path = request.uri().path();
        Self {
            is_plain: path == "/" && request.method() == Method::GET,
            allowed: match path {
                api::PATH | hooks::PATH => "POST",
                "/" => "GET",
                _ => "GET, HEAD",
            },
        }
    }

    /// This status with one sentence.
    pub(crate) fn refuse(self, status: StatusCode, sentence: &str) -> Response {
        if self.is_plain {
            return Response::builder()
                .status(status)
                .content_type("text/plain; charset=utf-8")
                .body(sentence.to_owned());
        }
        let title = status.canonical_reason().unwrap_or("Refused");
        problem(status.as_u16(), title, sentence)
            .into_response()
            .with_content_type("application/problem+json")
            .with_status(status)
            .into_response()
    }

    /// In place of an error of the framework's.
    pub(crate) fn refuse_error(self, error: &poem::Error) -> Response {
        if error.is::<NotFoundError>() {
            return self.refuse(StatusCode::NOT_FOUND, "there is no such call; see /docs");
        }
        if error.is::<MethodNotAllowedError>() {
            let refusal = self.refuse(error.status(), "this call has another method; see /docs");
            return refusal.with_header("Allow", self.allowed).into_response();
        }
        let sentence = match error.status() {
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "the Content-Type must be application/json",
            _ => "the request is not of the form that /docs describes",
        };
        self.refuse(error.status(), sentence)
    }
}
