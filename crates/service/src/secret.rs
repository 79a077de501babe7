//! Secrets: each is given as a flag, a variable, or the path of a file that holds it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use secrecy::SecretString;

/// Reads the secret called `flag` (such as `--es-pass`) from its value or from its file
/// (`--es-pass-file`). A file's trailing line end is dropped. Giving both is refused.
pub fn read(flag: &str, value: Option<&str>, file: Option<&Path>) -> Result<Option<SecretString>> {
    let secret = match (value, file) {
        (Some(_), Some(_)) => bail!("{flag} and {flag}-file are both given; give one of them"),
        (Some(value), None) => value.to_owned(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("the file {} of {flag}-file can't be read", path.display()))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        (None, None) => return Ok(None),
    };
    if secret.is_empty() {
        bail!("{flag} is empty; give the secret or the path of a file that holds it ({flag}-file)");
    }
    Ok(Some(secret.into()))
}

/// As [`read`], for a secret that the program can't do without.
pub fn require(flag: &str, value: Option<&str>, file: Option<&Path>) -> Result<SecretString> {
    read(flag, value, file)?.with_context(|| {
        format!("{flag} is missing; give it, or the path of a file that holds it ({flag}-file)")
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_comes_from_its_value_or_its_file_but_not_both() {
        let path = std::env::temp_dir().join(format!("joblogs-secret-{}", std::process::id()));
        std::fs::write(&path, "from a file\n").unwrap();
        let from_file = read("--x", None, Some(&path)).unwrap().unwrap();
        assert_eq!(from_file.expose_secret(), "from a file");
        assert_eq!(
            read("--x", Some("a"), None)
                .unwrap()
                .unwrap()
                .expose_secret(),
            "a"
        );
        let both = read("--x", Some("canary"), Some(&path))
            .unwrap_err()
            .to_string();
        assert!(
            both.contains("--x-file") && !both.contains("canary"),
            "{both}"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(
            read("--x", None, Some(&path))
                .unwrap_err()
                .to_string()
                .contains("--x-file")
        );
        assert!(read("--x", Some(""), None).is_err());
        assert!(
            require("--x", None, None)
                .unwrap_err()
                .to_string()
                .contains("--x")
        );
    }
}
