//! Certificate authorities of an operator's own.

use std::path::Path;

use anyhow::{Context as _, Result};
use reqwest::Certificate;

/// The certificates in the PEM file that `flag` names, at least one; none where there is no file.
pub fn authorities(flag: &str, file: Option<&Path>) -> Result<Vec<Certificate>> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let shown = file.display();
    let pem =
        std::fs::read(file).with_context(|| format!("the file {shown} of {flag} can't be read"))?;
    Certificate::from_pem_bundle(&pem)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .with_context(|| format!("the file {shown} of {flag} holds no certificate in PEM"))
}
