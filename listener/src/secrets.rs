//! Secrets that callers share with us: several are valid at once, so that one can be exchanged for
//! another without a moment in which neither is.

use anyhow::{Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The shortest secret that nobody guesses.
const SHORTEST: usize = 16;
/// How GitLab writes a signing token: this, and the base64 of 32 bytes.
const SIGNING_PREFIX: &str = "whsec_";
const SIGNING_BYTES: usize = 32;

/// Secrets that come as they are, in a header.
#[derive(Default)]
pub(crate) struct Secrets(Vec<SecretString>);

/// Keys with which GitLab signs what its webhooks send.
#[derive(Default)]
pub(crate) struct SigningKeys(Vec<SecretBox<Vec<u8>>>);

/// Reads secrets, one a line. Those that begin with `whsec_` are GitLab's signing tokens.
pub(crate) fn parse(text: &SecretString) -> Result<(Secrets, SigningKeys)> {
    let (mut secrets, mut keys) = (Secrets::default(), SigningKeys::default());
    let lines = text.expose_secret().lines().map(str::trim);
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let number = number + 1;
        if let Some(encoded) = line.strip_prefix(SIGNING_PREFIX) {
            let key = STANDARD.decode(encoded).unwrap_or_default();
            ensure!(
                key.len() == SIGNING_BYTES,
                "line {number} begins with {SIGNING_PREFIX} and is no signing token: it must go on with the base64 of {SIGNING_BYTES} bytes, as GitLab shows it"
            );
            keys.0.push(SecretBox::new(Box::new(key)));
            continue;
        }
        let is_visible = line.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(
            is_visible && line.len() >= SHORTEST,
            "line {number} must be at least {SHORTEST} visible ASCII characters, such as `openssl rand -hex 32` prints"
        );
        secrets.0.push(line.to_owned().into());
    }
    if secrets.0.is_empty() && keys.0.is_empty() {
        bail!("there is no secret in it");
    }
    Ok((secrets, keys))
}

impl Secrets {
    /// Whether this is one of them, in a time that does not depend on which, or on how much of it is.
    pub(crate) fn allow(&self, given: &str) -> bool {
        let given = Sha256::digest(given);
        let is_it = |secret: &SecretString| Sha256::digest(secret.expose_secret()).ct_eq(&given);
        self.0
            .iter()
            .fold(false, |found, secret| found | bool::from(is_it(secret)))
    }

    pub(crate) fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl SigningKeys {
    pub(crate) fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether one of them made one of the signatures, which stand as `v1,BASE64`, by spaces.
    /// Source: Standard Webhooks, which GitLab follows.
    pub(crate) fn signed(&self, content: &[&[u8]], signatures: &str) -> bool {
        let signatures = signatures
            .split(' ')
            .filter_map(|it| it.strip_prefix("v1,"));
        let signatures: Vec<Vec<u8>> = signatures
            .filter_map(|it| STANDARD.decode(it).ok())
            .collect();
        self.0.iter().any(|key| {
            let mac = Hmac::<Sha256>::new_from_slice(key.expose_secret());
            let mut mac = mac.expect("HMAC takes keys of any length");
            for part in content {
                mac.update(part);
            }
            let is_it = |it: &Vec<u8>| mac.clone().verify_slice(it).is_ok();
            signatures.iter().any(is_it)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "canary-0123456789abcdef";

    fn parsed(text: &str) -> Result<(Secrets, SigningKeys)> {
        parse(&text.to_owned().into())
    }

    #[test]
    fn each_of_several_is_valid_and_nothing_else() {
        let (secrets, keys) = parsed(&format!("{SECRET}\n\nanother-0123456789abcdef\n")).unwrap();
        assert!(keys.is_empty());
        assert!(secrets.allow(SECRET) && secrets.allow("another-0123456789abcdef"));
        for wrong in [
            "",
            "canary",
            &SECRET[1..],
            &format!("{SECRET} "),
            &SECRET.to_uppercase(),
        ] {
            assert!(!secrets.allow(wrong), "{wrong:?}");
        }
        assert!(!Secrets::default().allow(""));
    }

    #[test]
    fn what_is_no_secret_is_named_by_its_line_and_not_repeated() {
        for (text, line) in [
            ("", "no secret"),
            ("\n \n", "no secret"),
            ("canary", "line 1"),
            (&format!("{SECRET}\ncanary canary canary"), "line 2"),
            ("whsec_canary", "line 1"),
            ("whsec_Y2FuYXJ5", "line 1"),
        ] {
            let refused = parsed(text).err().unwrap().to_string();
            assert!(
                refused.contains(line) && !refused.contains("canary"),
                "{refused}"
            );
        }
    }

    /// The example of Standard Webhooks' own libraries.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let key = SigningKeys(vec![SecretBox::new(Box::new(
            STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap(),
        ))]);
        let content: [&[u8]; 1] =
            [br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#];
        let right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(key.signed(&content, right));
        assert!(key.signed(&content, &format!("v1,AAAA v2,x {right}")));
        for wrong in [
            "",
            "v1,",
            "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "v1,AAAA",
        ] {
            assert!(!key.signed(&content, wrong), "{wrong}");
        }
        assert!(!SigningKeys::default().signed(&content, right));
    }
}
