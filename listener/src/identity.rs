//! GitLab's ID tokens: a job proves which one it is, and its pipeline needs no secret.
//!
//! INVARIANT: keys come from the configured GitLab alone, never from where a token says.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result as Checked, anyhow};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, dangerous, decode, decode_header,
    errors::{Error, ErrorKind},
    jwk::{Jwk, JwkSet},
};
use notice::{JobId, ProjectId};
use reqwest::{Client, Url};
use serde::Deserialize;
use service::gitlabs::Configured;
use tokio::time::{Instant, timeout};

use crate::{intake::Fields, noted};

/// Seconds by which GitLab's clock may differ from ours.
const LEEWAY: u64 = 60;
/// How long GitLab may take over its keys.
const FETCH: Duration = Duration::from_secs(3);
/// Of a document that has a few KiB.
const LARGEST_KEYS: usize = 256 * 1024;
/// How long keys are used before they are fetched again, and how long an attempt is not repeated; while there are none
/// at all, not so long.
const FRESH: Duration = Duration::from_hours(1);
const NOT_AGAIN: Duration = Duration::from_mins(1);
const NOT_SOON: Duration = Duration::from_secs(5);

/// What knows the tokens of one GitLab; clones share its keys.
#[derive(Clone)]
pub(crate) struct IdTokens(Arc<Inner>);

struct Inner {
    audience: String,
    issuer: String,
    source: Source,
    keys: Mutex<Keys>,
    /// Held by the one who fetches them.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

/// Where the keys are.
enum Source {
    Gitlab(Client, Url),
    /// For a listener that can't reach GitLab.
    File(PathBuf),
}

#[derive(Default)]
struct Keys {
    set: Option<JwkSet>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// It is none of GitLab's, not for us, or its time is over.
    Refused,
    /// GitLab has not given its keys yet.
    NoKeys,
}

/// Which job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) project_id: ProjectId,
    pub(crate) job_id: JobId,
}

/// What is read of a token's claims. Source: GitLab's documentation of ID tokens.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "GitLab's names")]
struct Claims {
    job_id: String,
    project_id: String,
    /// The project that runs the job: in a merge request's pipeline `project_id` is the fork.
    job_project_id: Option<String>,
}

impl IdTokens {
    /// What knows this GitLab's tokens, if they are for this audience. Nothing is fetched yet; a file is read.
    pub(crate) fn new(
        configured: &Configured,
        audience: &str,
        keys_file: Option<&Path>,
    ) -> Checked<Self> {
        let (source, keys) = if let Some(file) = keys_file {
            let set = read(file).map_err(|why| anyhow!("{why}"));
            let set = set.with_context(|| format!("the file {} of GitLab's keys", file.display()));
            let keys = Keys {
                set: Some(set?),
                ..Keys::default()
            };
            (Source::File(file.to_owned()), keys)
        } else {
            let http = Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .tls_certs_merge(configured.authorities.clone())
                .timeout(FETCH)
                .build()?;
            let url = configured.instance.keys_url();
            (Source::Gitlab(http, url), Keys::default())
        };
        Ok(Self(Arc::new(Inner {
            audience: audience.to_owned(),
            issuer: configured.instance.issuer(),
            source,
            keys: Mutex::new(keys),
            fetching: Arc::default(),
        })))
    }

    /// The job that a token is of.
    pub(crate) async fn identify(&self, token: &str) -> Result<Identity, Unproven> {
        let refused = |error: Error| refused_for(fault(error.kind()));
        let header = decode_header(token).map_err(refused)?;
        let id = header
            .kid
            .ok_or_else(|| refused_for("ID token: unknown key"))?;
        let key = timeout(noted::left(FETCH), self.key(&id)).await;
        let key = key.unwrap_or(Err(Unproven::NoKeys))?;
        // Whatever algorithm its header names: none but this one is GitLab's.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.0.audience]);
        validation.set_issuer(&[&self.0.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let claims = decode::<Claims>(token, &key, &validation)
            .map_err(refused)?
            .claims;
        let project = claims.job_project_id.unwrap_or(claims.project_id);
        Ok(Identity {
            project_id: ProjectId::parse(&project).map_err(|_| refused_for(MALFORMED))?,
            job_id: JobId::parse(&claims.job_id).map_err(|_| refused_for(MALFORMED))?,
        })
    }

    /// The key of this id. One that is not known may be new; GitLab is asked once a minute at most, and while it
    /// does not answer the keys that are known stay. Nobody who has a key waits for that, and a stranger with a made-up
    /// id only where none is known yet, or where it is asked on his behalf.
    async fn key(&self, id: &str) -> Result<DecodingKey, Unproven> {
        let (is_known, has_none) = {
            let keys = self.keys();
            (keys.find(id).is_some(), keys.set.is_none())
        };
        let is_begun = self.fetch_if_due(id);
        if !is_known && (is_begun || has_none) {
            // Whoever fetches them holds it until they are there.
            drop(self.0.fetching.lock().await);
        }
        let keys = self.keys();
        match (keys.find(id), &keys.set) {
            (Some(key), _) => {
                DecodingKey::from_jwk(key).map_err(|_| refused_for("ID token: unusable key"))
            }
            (None, Some(_)) => Err(refused_for("ID token: unknown key")),
            (None, None) => Err(Unproven::NoKeys),
        }
    }

    /// Begins to fetch the keys, and tells whether it did. It is a task of its own: a caller may hang up at any time,
    /// and the others wait for the same keys.
    fn fetch_if_due(&self, id: &str) -> bool {
        let now = Instant::now();
        let mut keys = self.keys();
        if !keys.are_due(id, now) {
            return false;
        }
        let Ok(turn) = self.0.fetching.clone().try_lock_owned() else {
            return false;
        };
        keys.tried_at = Some(now);
        drop(keys);
        let tokens = self.clone();
        tokio::spawn(async move {
            let _turn = turn;
            let fetched = timeout(FETCH, tokens.fetch()).await;
            match fetched.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(set) => {
                    let mut keys = tokens.keys();
                    keys.set = Some(set);
                    keys.fetched_at = Some(Instant::now());
                }
                Err(why) => tracing::warn!(why, "GitLab's keys for ID tokens can't be fetched"),
            }
        });
        true
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        match &self.0.source {
            Source::Gitlab(http, url) => fetch(http, url).await,
            Source::File(file) => read(file),
        }
    }
}

async fn fetch(http: &Client, url: &Url) -> Result<JwkSet, String> {
    let text = |error: reqwest::Error| error.without_url().to_string();
    let mut answer = http.get(url.clone()).send().await.map_err(text)?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(text)? {
        body.extend_from_slice(&piece);
        if body.len() > LARGEST_KEYS {
            return Err("the answer is too large".to_owned());
        }
    }
    parse(&body)
}

fn read(file: &Path) -> Result<JwkSet, String> {
    let keys = std::fs::read(file).map_err(|error| format!("can't be read: {error}"))?;
    parse(&keys)
}

fn parse(keys: &[u8]) -> Result<JwkSet, String> {
    serde_json::from_slice(keys).map_err(|_| "it is no JWK set".to_owned())
}

const MALFORMED: &str = "ID token: malformed";

/// Refused, and noted for what.
fn refused_for(fault: &'static str) -> Unproven {
    noted::fault(fault);
    Unproven::Refused
}

/// The kind of an error; its text may quote the token.
fn fault(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "ID token: signature",
        ErrorKind::InvalidAudience => "ID token: audience",
        ErrorKind::InvalidIssuer => "ID token: issuer",
        ErrorKind::ExpiredSignature => "ID token: expired",
        ErrorKind::ImmatureSignature => "ID token: not valid yet",
        ErrorKind::MissingRequiredClaim(_) => "ID token: a claim is missing",
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::MissingAlgorithm => "ID token: algorithm",
        _ => MALFORMED,
    }
}

/// The GitLab that a token says it is from, which proves nothing.
pub(crate) fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let claimed = dangerous::insecure_decode::<Issuer>(token).ok()?;
    Some(claimed.claims.iss)
}

impl Identity {
    /// Whether these fields may be about this job; those that can't be read are for others to refuse.
    pub(crate) fn may_be(&self, fields: &Fields) -> bool {
        let project_id = fields.project_id.as_deref();
        let job_id = fields.job_id.as_deref();
        let project_id = project_id.and_then(|it| ProjectId::parse(it).ok());
        let job_id = job_id.and_then(|it| JobId::parse(it).ok());
        project_id.is_none_or(|it| it == self.project_id)
            && job_id.is_none_or(|it| it == self.job_id)
    }
}

impl Keys {
    fn find(&self, id: &str) -> Option<&Jwk> {
        self.set.as_ref()?.find(id)
    }

    /// Whether they are to be fetched for a token of this id.
    fn are_due(&self, id: &str, now: Instant) -> bool {
        let is_over = |at: Option<Instant>, after| at.is_none_or(|at| now - at >= after);
        let not_again = self.set.as_ref().map_or(NOT_SOON, |_| NOT_AGAIN);
        (self.find(id).is_none() || is_over(self.fetched_at, FRESH))
            && is_over(self.tried_at, not_again)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::sleep,
    };

    use super::*;

    const KEYS: &str = r#"{"keys":[{"kty":"RSA","kid":"one","n":"AQAB","e":"AQAB"}]}"#;

    /// A GitLab that thinks so long before it tells its keys, and how often it was asked.
    async fn gitlab(thinks: Duration) -> (SocketAddr, Arc<AtomicUsize>) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let _ = stream.read(&mut [0; 4096]).await?;
                    sleep(thinks).await;
                    let length = KEYS.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{KEYS}");
                    stream.write_all(answer.as_bytes()).await
                });
            }
        });
        (address, asked)
    }

    fn tokens(gitlab: SocketAddr) -> IdTokens {
        service::install_tls_provider();
        let url = format!("http://{gitlab}");
        let configured = Configured {
            instance: notice::Instance::parse(&url).unwrap(),
            authorities: Vec::new(),
            entry: service::gitlabs::Entry::default(),
        };
        IdTokens::new(&configured, "joblogs", None).unwrap()
    }

    /// A stranger who hung up kept the keys from everybody for a minute.
    #[tokio::test]
    async fn who_hangs_up_in_a_fetch_keeps_no_keys_from_others() {
        let (address, asked) = gitlab(Duration::from_millis(300)).await;
        let tokens = tokens(address);
        let hung_up = timeout(Duration::from_millis(100), tokens.key("made-up")).await;
        assert!(hung_up.is_err(), "it was to be cut off in the fetch");
        assert!(tokens.key("one").await.is_ok());
        assert_eq!(tokens.key("made-up").await.err(), Some(Unproven::Refused));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn keys_are_fetched_again_sooner_where_there_are_none() {
        let tried_at = Instant::now();
        let mut keys = Keys {
            tried_at: Some(tried_at),
            ..Keys::default()
        };
        assert!(!keys.are_due("one", tried_at + NOT_SOON / 2));
        assert!(keys.are_due("one", tried_at + NOT_SOON));
        keys.set = parse(KEYS.as_bytes()).ok();
        keys.fetched_at = keys.tried_at;
        assert!(!keys.are_due("two", tried_at + NOT_SOON));
        assert!(keys.are_due("two", tried_at + NOT_AGAIN));
        assert!(!keys.are_due("one", tried_at + NOT_AGAIN));
        assert!(keys.are_due("one", tried_at + FRESH));
    }
}
