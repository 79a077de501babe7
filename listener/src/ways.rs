//! The ways in which notices may come, of which the operator opens those that are needed.

use anyhow::{Result, ensure};
use clap::ValueEnum;

pub(crate) const NOT_THIS_WAY: &str = "this listener takes no notices this way; see /docs";

/// One of them, as `--accept` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// `GET /`, with a GitLab token in the URL or the header, as the older tool took it.
    UrlToken,
    /// `POST /v1/jobs` with a GitLab token in the header PRIVATE-TOKEN.
    PrivateToken,
    /// `POST /v1/jobs` with one of the secrets of --api-secret.
    ApiSecret,
    /// `POST /v1/webhooks/gitlab` with one of the secrets of --webhook-secret.
    Webhook,
}

/// Those that are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways(Vec<Way>);

impl Ways {
    /// Those that were asked for, or else all for which there is what they need.
    pub(crate) fn open(
        asked: &[Way],
        has_api_secret: bool,
        has_webhook_secret: bool,
    ) -> Result<Self> {
        let needs = [
            (Way::ApiSecret, "--api-secret", has_api_secret),
            (Way::Webhook, "--webhook-secret", has_webhook_secret),
        ];
        if asked.is_empty() {
            let with_secret = needs.iter().filter(|(.., has_secret)| *has_secret);
            let with_secret = with_secret.map(|(way, ..)| *way);
            let ways = [Way::UrlToken, Way::PrivateToken];
            return Ok(Self(ways.into_iter().chain(with_secret).collect()));
        }
        for (way, flag, has_secret) in needs {
            let (is_open, way) = (asked.contains(&way), way.name());
            ensure!(
                !is_open || has_secret,
                "--accept (JOBLOGS_ACCEPT) opens {way}, and {flag} is missing; give it, or the path of a file that holds it ({flag}-file)"
            );
            ensure!(
                is_open || !has_secret,
                "{flag} is given, and --accept (JOBLOGS_ACCEPT) does not open {way}; add it there, or leave {flag} out"
            );
        }
        Ok(Self(asked.to_vec()))
    }

    pub(crate) fn opens(&self, way: Way) -> bool {
        self.0.contains(&way)
    }

    /// Whether any of them brings a caller's token.
    pub(crate) fn bring_tokens(&self) -> bool {
        self.opens(Way::UrlToken) || self.opens(Way::PrivateToken)
    }

    /// What a caller of `POST /v1/jobs` has to give.
    pub(crate) fn credentials(&self) -> String {
        let mut ways = Vec::new();
        if self.opens(Way::PrivateToken) {
            ways.push("a GitLab token with the scope read_api in the header PRIVATE-TOKEN");
        }
        if self.opens(Way::ApiSecret) {
            ways.push(
                "a secret of this listener's in the header Authorization, after the word Bearer",
            );
        }
        if ways.is_empty() {
            return NOT_THIS_WAY.to_owned();
        }
        format!("give {}", ways.join(", or "))
    }

    /// For the log.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|way| way.name()).collect();
        names.join(", ")
    }
}

impl Way {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_by_default_is_what_has_what_it_needs() {
        let ways = Ways::open(&[], false, false).unwrap();
        assert_eq!(ways.names(), "url-token, private-token");
        let ways = Ways::open(&[], true, true).unwrap();
        assert_eq!(
            ways.names(),
            "url-token, private-token, api-secret, webhook"
        );
        let ways = Ways::open(&[Way::Webhook], false, true).unwrap();
        assert_eq!(ways.names(), "webhook");
        assert!(!ways.bring_tokens());
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_flag() {
        for (asked, api, webhook, flag) in [
            (
                &[Way::Webhook][..],
                false,
                false,
                "--webhook-secret is missing",
            ),
            (&[Way::ApiSecret], false, false, "--api-secret is missing"),
            (&[Way::UrlToken], true, false, "--api-secret is given"),
            (&[Way::UrlToken], false, true, "--webhook-secret is given"),
        ] {
            let refused = Ways::open(asked, api, webhook).unwrap_err().to_string();
            assert!(refused.contains(flag), "{refused}");
        }
    }
}
