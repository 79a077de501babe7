//! ID tokens: what a job gets where its pipeline asks for one, and the keys by which they are known.

use std::fmt;

use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// Signs with one key, as GitLab does.
pub(super) struct Signer {
    key: EncodingKey,
    /// The public half.
    jwk: Value,
}

/// The id of every instance's key, so that one instance's token names a key that the others have, too.
const KEY_ID: &str = "kewiQq9jiC84CvSsJYOB-N6A8WFLSV20Mb-y7IlWDSQ";

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}

impl Signer {
    pub(super) fn new() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256);
        let pem = pair.expect("RSA keys can be made").serialize_pem();
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("it is an RSA key");
        let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).expect("it has a public half");
        let mut jwk = serde_json::to_value(jwk).expect("a JWK is JSON");
        jwk["kid"] = KEY_ID.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = "RS256".into();
        Self { key, jwk }
    }

    /// `GET /oauth/discovery/keys`.
    pub(super) fn keys(&self) -> Value {
        json!({"keys": [self.jwk]})
    }

    /// A token with these claims.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(KEY_ID.to_owned());
        encode(&header, claims, &self.key).expect("claims are JSON")
    }
}

/// The claims of a job's token; GitLab writes most ids as strings.
pub(super) fn claims(url: &str, audience: &str, project: (u64, &str), job: u64) -> Value {
    let (project_id, path) = project;
    let now = Timestamp::now().as_second();
    json!({
        "iss": url.trim_end_matches('/'),
        "sub": format!("project_path:{path}:ref_type:branch:ref:main"),
        "aud": audience,
        "iat": now,
        "nbf": now - 5,
        "exp": now + 300,
        "jti": format!("jti-{project_id}-{job}"),
        "namespace_id": "72",
        "namespace_path": path.split('/').next(),
        "project_id": project_id.to_string(),
        "project_path": path,
        "job_project_id": project_id.to_string(),
        "user_id": "1",
        "user_login": "ann",
        "pipeline_id": "574",
        "pipeline_source": "push",
        "job_id": job.to_string(),
        "ref": "main",
        "ref_type": "branch",
        "ref_protected": "true",
        "runner_id": 7,
        "runner_environment": "self-hosted",
        "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        "project_visibility": "private",
    })
}
