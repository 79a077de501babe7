//! API keys with the rights of our roles, each in a file for the program that comes with it.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use elasticsearch::http::Method;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{hand::Hand, objects};
use crate::{indices::Names, login::ApiKey, privilege::explain};

/// An API key that setup makes, with the rights of the role of the same suffix.
pub(crate) struct KeyFile {
    /// What comes after our name in its name.
    pub suffix: &'static str,
    /// The flag that names the file.
    pub flag: &'static str,
    /// Where it is kept. Elasticsearch says a key once, when it makes it.
    pub path: PathBuf,
}

impl KeyFile {
    /// The key that the file holds; none where there is no file, or an empty one.
    fn read(&self) -> Result<Option<ApiKey>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{self} can't be read")),
        };
        match text.trim_end() {
            "" => Ok(None),
            key => ApiKey::parse(key.to_owned().into())
                .map(Some)
                .map_err(|_| anyhow!("{self} holds no API key: name another one, or remove it")),
        }
    }

    /// A file beside it, for us alone, that becomes it once it is written.
    fn beside(&self) -> Result<NamedTempFile> {
        let folder = self.path.parent().filter(|it| *it != Path::new(""));
        let made = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        made.with_context(|| format!("{self} can't be written"))
    }
}

impl std::fmt::Display for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the file {} of {}", self.path.display(), self.flag)
    }
}

/// Makes the keys whose files hold none, and gives those that are there the rights of today.
pub(super) async fn put_keys(hand: &Hand<'_>, names: &Names, files: &[KeyFile]) -> Result<()> {
    for file in files {
        let name = names.object(file.suffix);
        let mut body = rights(names, &name)?;
        if let Some(key) = file.read()? {
            update(hand, file, &key, &body).await?;
        } else {
            body["name"] = name.into();
            make(hand, file, &body).await?;
        }
    }
    Ok(())
}

/// `role_descriptors` and `metadata` of the key that is called like this role.
fn rights(names: &Names, name: &str) -> Result<Value> {
    let mut roles = objects::roles(names)?.into_iter();
    let mut role = roles.find(|it| it.name == name).context("the role")?.body;
    let metadata = role["metadata"].take();
    role.as_object_mut().context("the role")?.remove("metadata");
    Ok(json!({"role_descriptors": {name: role}, "metadata": metadata}))
}

async fn update(hand: &Hand<'_>, file: &KeyFile, key: &ApiKey, body: &Value) -> Result<()> {
    let what = format!("the API key {} of {file}", key.id());
    let path = format!("_security/api_key/{}", key.id());
    let put = hand.put(&path, body).await;
    put.map_err(|error| explain(&what, error)).with_context(|| {
        format!("{what} could not be brought up to date; if it is of no use any more, remove the file, and a new one is made")
    })?;
    hand.say(&format!("{what} is in place"));
    Ok(())
}

async fn make(hand: &Hand<'_>, file: &KeyFile, body: &Value) -> Result<()> {
    let what = format!("the API key {}", body["name"].as_str().unwrap_or_default());
    // Before there is a key that could not be kept.
    let beside = (!hand.dry_run).then(|| file.beside()).transpose()?;
    let post = hand.change(Method::Post, "_security/api_key", body, None);
    let answer = post.await.map_err(|error| explain(&what, error))?;
    let Some(mut kept) = beside else {
        return Ok(());
    };
    let Some(encoded) = answer["encoded"].as_str() else {
        bail!("Elasticsearch made {what} and did not say it: `encoded` is missing in its answer");
    };
    let written = writeln!(kept, "{encoded}").and_then(|()| kept.as_file().sync_all());
    written
        .and_then(|()| kept.persist(&file.path).map_err(|error| error.error))
        .with_context(|| format!("{file} can't be written"))?;
    hand.say(&format!("{what} is in {file}"));
    Ok(())
}
