//! Answers: what GitLab says, and how it gets over the wire.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::body::Body;
use super::fault::{At, Fault};
use super::limit::Standing;

/// What `gitlab.com` allows in a minute; a number for the headers of a refusal that no limit of ours is behind.
const LIMIT: u64 = 2_000;

/// An answer, its body made only while it goes out.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
    pub(super) delivery: Delivery,
}

/// How an answer goes out: whole, at once and with its true length, unless it says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    pub(super) later: Duration,
    /// The connection is reset after so many bytes of the body.
    pub(super) reset_at: Option<usize>,
    /// Bytes that the `Content-Length` is wrong by.
    pub(super) wrong_by: i64,
    /// Bytes a second.
    pub(super) drip: Option<usize>,
}

impl Answer {
    fn new(status: u16, content_type: &str, body: impl Into<Body>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: body.into(),
            delivery: Delivery::default(),
        }
    }

    /// A status alone.
    pub(super) fn empty(status: u16) -> Self {
        Self::new(status, "text/plain", Vec::new())
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string().into_bytes())
    }

    /// The disposition is «infile» in GitLab's source.
    pub(super) fn trace(job_id: u64, body: Body) -> Self {
        let disposition = format!("infile; filename=\"{job_id}.log\"");
        Self::new(200, "text/plain", body).header("Content-Disposition", disposition)
    }

    /// Not HTTP, as far as GitLab's server can tell.
    pub(super) fn bad_request() -> Self {
        Self::new(400, "text/plain", b"400 Bad Request\n".to_vec())
    }

    /// As `Rack::Attack` refuses: plain text, `RateLimit-Reset` a time and not a span.
    pub(super) fn rate_limited(retry_after: u64, now: Timestamp) -> Self {
        let reset = now + Duration::from_secs(retry_after);
        let standing = Standing {
            limit: LIMIT,
            observed: LIMIT + 1,
            reset,
        };
        Self::new(429, "text/plain", b"Retry later\n".to_vec())
            .header("Retry-After", retry_after)
            .header(
                "RateLimit-ResetTime",
                reset.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            )
            .standing(standing)
    }

    /// How its client stands with the rate limit.
    pub(super) fn standing(mut self, standing: Standing) -> Self {
        self.headers
            .retain(|(name, _)| !name.starts_with("RateLimit-") || name.ends_with("ResetTime"));
        self.header("RateLimit-Limit", standing.limit)
            .header("RateLimit-Name", "throttle_authenticated_api")
            .header("RateLimit-Observed", standing.observed)
            .header("RateLimit-Remaining", standing.remaining())
            .header("RateLimit-Reset", standing.reset.as_second())
    }

    pub(super) fn proxy_page(status: u16) -> Self {
        let page = format!(
            "<html><head><title>{status}</title></head><body>GitLab is not responding</body></html>"
        );
        Self::new(status, "text/html", page.into_bytes())
    }

    pub(super) fn login_page() -> Self {
        const PAGE: &str = "<!DOCTYPE html>\n<html class=\"devise-layout-html\">\n<head><title>Sign in · GitLab</title>\
            </head>\n<body>\n<h1>GitLab</h1>\n<p>You need to sign in or sign up before continuing.</p>\n</body>\n</html>\n";
        Self::new(200, "text/html; charset=utf-8", PAGE.as_bytes().to_vec())
    }

    pub(super) fn redirect(to: &str) -> Self {
        let page =
            format!("<html><body>You are being <a href=\"{to}\">redirected</a>.</body></html>");
        Self::new(302, "text/html; charset=utf-8", page.into_bytes()).header("Location", to)
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The same answer, delivered with a fault that leaves it what it is.
    pub(super) fn with(mut self, fault: &Fault) -> Self {
        let size = self.body.size();
        match fault {
            Fault::Delay(delay) => self.delivery.later = *delay,
            Fault::ResetAt(At::Half) => self.delivery.reset_at = Some(size / 2),
            Fault::ResetAt(At::Byte(byte)) => self.delivery.reset_at = Some(size.min(*byte)),
            Fault::WrongLength(by) => self.delivery.wrong_by = *by,
            Fault::Drip(bytes_a_second) => self.delivery.drip = Some(*bytes_a_second),
            Fault::All(faults) => return faults.iter().fold(self, Self::with),
            other => panic!("{other:?} does not leave an answer what it is"),
        }
        self
    }
}
