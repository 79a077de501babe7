//! Sealing: a caller's token travels through the broker encrypted, bound to one job, for a time.
//!
//! XChaCha20-Poly1305; the associated data is instance, project, job and expiry, so a sealed
//! token can't be moved to another job's message. Keys rotate: the first seals, all open.

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{InstanceName, Invalid, JobId, ProjectId};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The job that a token was given for.
#[derive(Debug, Clone, Copy)]
pub struct TokenBinding<'a> {
    /// The GitLab instance.
    pub instance: &'a InstanceName,
    /// The project.
    pub project_id: ProjectId,
    /// The job.
    pub job_id: JobId,
}

impl TokenBinding<'_> {
    fn associated_data(&self, expires_at: i64) -> Vec<u8> {
        // Neither a name nor a number can hold a `|`, so the parts can't run into one another.
        format!(
            "joblogs|1|{}|{}|{}|{expires_at}",
            self.instance, self.project_id, self.job_id
        )
        .into_bytes()
    }
}

/// A token as it stands in a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedToken {
    /// Which key sealed it: the first 8 hex digits of the key's SHA-256.
    pub key_id: String,
    /// Base64 of the 24 bytes of the nonce and the ciphertext with its tag.
    pub sealed: String,
    /// When it can't be opened any more: seconds since the Unix epoch.
    pub expires_at: i64,
}

/// Why a sealed token could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// None of the keys at hand has the id that the token names.
    #[error("the token was sealed with a key that is not at hand")]
    UnknownKey,
    /// It was altered, or belongs to another job.
    #[error("the sealed token was altered or belongs to another job")]
    Forged,
    /// Its time is over.
    #[error("the sealed token has expired")]
    Expired,
}

struct SealKey {
    id: String,
    cipher: XChaCha20Poly1305,
}

/// The keys of `--seal-key`: the first seals, all open.
pub struct SealKeys(Vec<SealKey>);

impl SealKeys {
    /// Reads one key a line, each base64 of 32 random bytes; blank lines are passed over.
    pub fn parse(text: &SecretString) -> Result<Self, Invalid> {
        const RULE: Invalid = Invalid(
            "must hold a line a key, each the base64 of 32 random bytes (`listener keygen` prints one)",
        );
        let keys: Vec<SealKey> = text
            .expose_secret()
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let bytes = STANDARD.decode(line).map_err(|_| RULE)?;
                let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| RULE)?;
                let id = Sha256::digest(&bytes)[..4]
                    .iter()
                    .fold(String::new(), |id, byte| format!("{id}{byte:02x}"));
                Ok(SealKey { id, cipher })
            })
            .collect::<Result<_, Invalid>>()?;
        if keys.is_empty() {
            return Err(RULE);
        }
        Ok(Self(keys))
    }

    /// A fresh key as a line of text.
    pub fn generate() -> Result<String, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        Ok(STANDARD.encode(key))
    }

    /// Seals a token for one job until `expires_at` (seconds since the Unix epoch).
    pub fn seal(
        &self,
        token: &SecretString,
        binding: TokenBinding<'_>,
        expires_at: i64,
    ) -> Result<SealedToken, getrandom::Error> {
        let key = &self.0[0];
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)?;
        let ciphertext = key
            .cipher
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: token.expose_secret().as_bytes(),
                    aad: &binding.associated_data(expires_at),
                },
            )
            .expect("a token is far shorter than the 256 GiB that the cipher takes");
        Ok(SealedToken {
            key_id: key.id.clone(),
            sealed: STANDARD.encode([nonce.as_slice(), &ciphertext].concat()),
            expires_at,
        })
    }

    /// Opens a token that was sealed for this job; `now` in seconds since the Unix epoch.
    pub fn open(
        &self,
        token: &SealedToken,
        binding: TokenBinding<'_>,
        now: i64,
    ) -> Result<SecretString, SealError> {
        let key = self
            .0
            .iter()
            .find(|key| key.id == token.key_id)
            .ok_or(SealError::UnknownKey)?;
        let bytes = STANDARD
            .decode(&token.sealed)
            .map_err(|_| SealError::Forged)?;
        let (nonce, ciphertext) = bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SealError::Forged)?;
        let clear = key
            .cipher
            .decrypt(
                &XNonce::from(*nonce),
                Payload {
                    msg: ciphertext,
                    aad: &binding.associated_data(token.expires_at),
                },
            )
            .map_err(|_| SealError::Forged)?;
        if now >= token.expires_at {
            return Err(SealError::Expired);
        }
        String::from_utf8(clear)
            .map(SecretString::from)
            .map_err(|_| SealError::Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> (SealKeys, String) {
        let text: Vec<String> = (0..count).map(|_| SealKeys::generate().unwrap()).collect();
        let text = text.join("\n");
        (SealKeys::parse(&text.clone().into()).unwrap(), text)
    }

    fn sealed_by(keys: &SealKeys, instance: &InstanceName) -> SealedToken {
        keys.seal(
            &"glpat-canary".to_owned().into(),
            binding(instance, "7"),
            100,
        )
        .unwrap()
    }

    fn binding<'a>(instance: &'a InstanceName, job: &str) -> TokenBinding<'a> {
        TokenBinding {
            instance,
            project_id: ProjectId::parse("42").unwrap(),
            job_id: JobId::parse(job).unwrap(),
        }
    }

    #[test]
    fn what_was_sealed_opens_for_its_job_until_it_expires() {
        let (keys, _) = keys(1);
        let instance = InstanceName::parse("gitlab.com").unwrap();
        let sealed = sealed_by(&keys, &instance);
        assert!(!serde_json::to_string(&sealed).unwrap().contains("canary"));
        let opened = keys.open(&sealed, binding(&instance, "7"), 99).unwrap();
        assert_eq!(opened.expose_secret(), "glpat-canary");
        let refused = |keys: &SealKeys, sealed: &SealedToken, job, now| {
            keys.open(sealed, binding(&instance, job), now).unwrap_err()
        };
        assert_eq!(refused(&keys, &sealed, "7", 100), SealError::Expired);
        assert_eq!(refused(&keys, &sealed, "8", 99), SealError::Forged);
        let longer = SealedToken {
            expires_at: 1000,
            ..sealed.clone()
        };
        assert_eq!(refused(&keys, &longer, "7", 99), SealError::Forged);
        let short = SealedToken {
            sealed: "AAAA".into(),
            ..sealed
        };
        assert_eq!(refused(&keys, &short, "7", 99), SealError::Forged);
    }

    #[test]
    fn after_a_rotation_old_tokens_open_and_with_a_lost_key_they_do_not() {
        let instance = InstanceName::parse("gitlab.com").unwrap();
        let (old, old_text) = keys(1);
        let sealed = sealed_by(&old, &instance);
        let both =
            SealKeys::parse(&format!("{}\n{old_text}\n", SealKeys::generate().unwrap()).into())
                .unwrap();
        assert!(both.open(&sealed, binding(&instance, "7"), 0).is_ok());
        assert_ne!(sealed_by(&both, &instance).key_id, sealed.key_id);
        let (other, _) = keys(2);
        assert_eq!(
            other.open(&sealed, binding(&instance, "7"), 0).unwrap_err(),
            SealError::UnknownKey
        );
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for text in ["", "\n", "c2hvcnQ=", "not base64 at all"] {
            assert!(
                SealKeys::parse(&text.to_owned().into()).is_err(),
                "{text:?}"
            );
        }
    }
}
