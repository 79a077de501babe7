//! Secrets: each is given as a flag, a variable, or the path of a file that holds it.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use anyhow::{Context, Result, bail, ensure};
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

/// Refuses a file of keys that everybody on this host can read.
pub fn only_for_us(flag: &str, file: Option<&Path>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(file) = file else {
        return Ok(());
    };
    // Whoever can't read it at all says so later.
    let mode = std::fs::metadata(file).map_or(0, |file| file.permissions().mode());
    ensure!(
        mode & 0o004 == 0,
        "the file {} of {flag} can be read by everybody on this host: chmod o-r it",
        file.display()
    );
    Ok(())
}

/// As [`read`], for a secret that the program can't do without.
pub fn require(flag: &str, value: Option<&str>, file: Option<&Path>) -> Result<SecretString> {
    read(flag, value, file)?.with_context(|| {
        format!("{flag} is missing; give it, or the path of a file that holds it ({flag}-file)")
    })
}

/// A secret that may change while the program runs: it is read again when its file has changed.
#[derive(Debug)]
pub struct Changing {
    flag: &'static str,
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    secret: SecretString,
    /// When its file had been written.
    written: Option<SystemTime>,
}

impl Changing {
    /// As [`read`].
    pub fn read(
        flag: &'static str,
        value: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<Self>> {
        let written = file.and_then(written);
        let secret = read(flag, value, file)?;
        Ok(secret.map(|secret| Self {
            flag,
            file: file.map(Path::to_owned),
            known: Mutex::new(Known { secret, written }),
        }))
    }

    /// The secret as its file holds it now. While that can't be read, or holds none, the last one stays.
    pub fn current(&self) -> SecretString {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &self.file else {
            return known.secret.clone();
        };
        let written = written(file);
        if written.is_some() && written != known.written {
            match read(self.flag, None, Some(file)) {
                Ok(Some(secret)) => {
                    known.written = written;
                    tracing::info!(
                        flag = self.flag,
                        "the secret's file has changed and was read again"
                    );
                    known.secret = secret;
                }
                Ok(None) => {}
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the last secret stays in use");
                }
            }
        }
        known.secret.clone()
    }
}

fn written(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file)
        .and_then(|file| file.modified())
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert!(Changing::read("--x", None, None).unwrap().is_none());
        assert!(
            require("--x", None, None)
                .unwrap_err()
                .to_string()
                .contains("--x")
        );
    }

    #[test]
    fn a_file_of_keys_that_everybody_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("joblogs-key-{}", std::process::id()));
        std::fs::write(&path, "canary").unwrap();
        let read_with = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).unwrap();
            only_for_us("--x-file", Some(&path))
        };
        for mode in [0o600, 0o640, 0o440] {
            assert!(read_with(mode).is_ok(), "{mode:o}");
        }
        let refused = read_with(0o644).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(
            refused.contains("--x-file") && refused.contains("chmod"),
            "{refused}"
        );
        assert!(!refused.contains("canary"), "{refused}");
    }

    #[test]
    fn a_secret_is_read_again_when_its_file_changes() {
        let path = std::env::temp_dir().join(format!("joblogs-changing-{}", std::process::id()));
        let first = SystemTime::now() - Duration::from_mins(1);
        let mut writes = 0;
        let mut write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            writes += 1;
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(first + Duration::from_secs(writes))
                .unwrap();
        };
        write("one\n");
        let secret = Changing::read("--x", None, Some(&path)).unwrap().unwrap();
        assert_eq!(secret.current().expose_secret(), "one");
        write("two\n");
        assert_eq!(secret.current().expose_secret(), "two");
        write("");
        assert_eq!(secret.current().expose_secret(), "two", "it holds none");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secret.current().expose_secret(), "two", "it is away");
        write("three");
        assert_eq!(secret.current().expose_secret(), "three");
        std::fs::remove_file(&path).unwrap();
    }
}
