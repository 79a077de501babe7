//! Answers as they go over the wire.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use wiremock::ResponseTemplate;

/// What `gitlab.com` allows in a minute; a number for the `RateLimit-…` headers.
const LIMIT: u32 = 2_000;

/// An answer, its body made only when it goes out.
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    content_type: &'static str,
    body: Box<dyn FnOnce() -> Vec<u8>>,
    delay: Option<Duration>,
}

impl Answer {
    fn new(
        status: u16,
        content_type: &'static str,
        body: impl FnOnce() -> Vec<u8> + 'static,
    ) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type,
            body: Box::new(body),
            delay: None,
        }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        let body = body.to_string().into_bytes();
        Self::new(status, "application/json", move || body)
    }

    /// The disposition is «infile» in GitLab's source.
    pub(super) fn trace(job_id: u64, bytes: impl FnOnce() -> Vec<u8> + 'static) -> Self {
        let disposition = format!("infile; filename=\"{job_id}.log\"");
        Self::new(200, "text/plain", bytes).header("Content-Disposition", &disposition)
    }

    /// As `Rack::Attack` refuses: plain text, `RateLimit-Reset` a time and not a span.
    pub(super) fn rate_limited(retry_after: u64, now: Timestamp) -> Self {
        let reset = now + Duration::from_secs(retry_after);
        Self::new(429, "text/plain", || b"Retry later\n".to_vec())
            .header("Retry-After", &retry_after.to_string())
            .header("RateLimit-Limit", &LIMIT.to_string())
            .header("RateLimit-Name", "throttle_authenticated_api")
            .header("RateLimit-Observed", &(LIMIT + 1).to_string())
            .header("RateLimit-Remaining", "0")
            .header("RateLimit-Reset", &reset.as_second().to_string())
            .header(
                "RateLimit-ResetTime",
                &reset.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            )
    }

    pub(super) fn proxy_page(status: u16) -> Self {
        let page = format!(
            "<html><head><title>{status}</title></head><body>GitLab is not responding</body></html>"
        );
        Self::new(status, "text/html", || page.into_bytes())
    }

    pub(super) fn login_page() -> Self {
        const PAGE: &str = "<!DOCTYPE html>\n<html class=\"devise-layout-html\">\n<head><title>Sign in · GitLab</title>\
            </head>\n<body>\n<h1>GitLab</h1>\n<p>You need to sign in or sign up before continuing.</p>\n</body>\n</html>\n";
        Self::new(200, "text/html; charset=utf-8", || PAGE.as_bytes().to_vec())
    }

    pub(super) fn redirect(to: &str) -> Self {
        let page =
            format!("<html><body>You are being <a href=\"{to}\">redirected</a>.</body></html>");
        Self::new(302, "text/html; charset=utf-8", || page.into_bytes()).header("Location", to)
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn later(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }
}

impl From<Answer> for ResponseTemplate {
    fn from(answer: Answer) -> Self {
        let mut template =
            Self::new(answer.status).set_body_raw((answer.body)(), answer.content_type);
        for (name, value) in answer.headers {
            template = template.insert_header(name, value);
        }
        match answer.delay {
            Some(delay) => template.set_delay(delay),
            None => template,
        }
    }
}
