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
    /// `POST /v1/jobs` with an ID token that GitLab gave to the job, for the audience of --id-token-audience.
    IdToken,
    /// `POST /v1/webhooks/gitlab` with one of the secrets of --webhook-secret.
    Webhook,
}

/// Those that are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways(Vec<Way>);

impl Ways {
    /// Those that were asked for, or else all for which is given what they need.
    pub(crate) fn open(asked: &[Way], given: &[Way]) -> Result<Self> {
        let needs = [
            (Way::ApiSecret, "--api-secret"),
            (Way::IdToken, "--id-token-audience"),
            (Way::Webhook, "--webhook-secret"),
        ];
        if asked.is_empty() {
            let ways = [Way::UrlToken, Way::PrivateToken];
            return Ok(Self(ways.iter().chain(given).copied().collect()));
        }
        for (way, flag) in needs {
            let (is_open, is_given) = (asked.contains(&way), given.contains(&way));
            let way = way.name();
            ensure!(
                !is_open || is_given,
                "--accept (JOBLOGS_ACCEPT) opens {way}, and {flag} is missing; give it, or leave {way} out"
            );
            ensure!(
                is_open || !is_given,
                "{flag} is given, and --accept (JOBLOGS_ACCEPT) does not open {way}; add it there, or leave {flag} out"
            );
        }
        Ok(Self(asked.to_vec()))
    }

    pub(crate) fn opens(&self, way: Way) -> bool {
        self.0.contains(&way)
    }

    /// Whether strangers get in by made-up tokens beside those whom the listener knows: only GitLab can tell what a token
    /// is worth, and is asked much later.
    pub(crate) fn let_strangers_in(&self) -> bool {
        let knows = [Way::ApiSecret, Way::IdToken, Way::Webhook];
        self.bring_tokens() && knows.into_iter().any(|way| self.opens(way))
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
        if self.opens(Way::IdToken) {
            ways.push("the job's ID token there");
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
        let ways = Ways::open(&[], &[]).unwrap();
        assert_eq!(ways.names(), "url-token, private-token");
        let ways = Ways::open(&[], &[Way::ApiSecret, Way::Webhook]).unwrap();
        assert_eq!(
            ways.names(),
            "url-token, private-token, api-secret, webhook"
        );
        let ways = Ways::open(&[Way::Webhook], &[Way::Webhook]).unwrap();
        assert_eq!(ways.names(), "webhook");
        assert!(!ways.bring_tokens());
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_flag() {
        let url_token = &[Way::UrlToken][..];
        for (asked, given, flag) in [
            (&[Way::Webhook][..], &[][..], "--webhook-secret is missing"),
            (&[Way::ApiSecret], &[], "--api-secret is missing"),
            (&[Way::IdToken], &[], "--id-token-audience is missing"),
            (url_token, &[Way::ApiSecret], "--api-secret is given"),
            (url_token, &[Way::IdToken], "--id-token-audience is given"),
            (url_token, &[Way::Webhook], "--webhook-secret is given"),
        ] {
            let refused = Ways::open(asked, given).unwrap_err().to_string();
            assert!(refused.contains(flag), "{refused}");
        }
    }
}
