//! TLS of the listener's own: its certificate, which is read again when its file changes, and certificates of
//! clients.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How ALPN calls HTTP/2.
pub(crate) const HTTP2: &[u8] = b"h2";
/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(5);

/// Whether the client has shown a certificate of the authority that it should have one of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certified(pub(crate) bool);

/// The files, as the flags give them.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_authority: Option<PathBuf>,
}

/// What accepts connections with the certificate as its files hold it now.
pub(crate) struct Tls {
    files: Files,
    known: Mutex<Known>,
}

struct Known {
    config: Arc<ServerConfig>,
    written: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl Tls {
    /// Reads the files; an error names the flag and the file.
    pub(crate) fn read(files: Files) -> Result<Self> {
        let known = Known {
            written: files.written(),
            config: Arc::new(files.config()?),
            looked: Instant::now(),
        };
        Ok(Self {
            files,
            known: Mutex::new(known),
        })
    }

    /// The handshake.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    /// While the files hold no certificate with its key, the last one stays.
    fn current(&self) -> Arc<ServerConfig> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.looked.elapsed() >= LOOK {
            known.looked = Instant::now();
            let written = self.files.written();
            if written != known.written {
                // Tried again until it can be read: permissions may follow, which change no time.
                match self.files.config() {
                    Ok(config) => {
                        known.written = written;
                        known.config = Arc::new(config);
                        tracing::info!("the certificate has changed and was read again");
                    }
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "the last certificate stays in use");
                    }
                }
            }
        }
        known.config.clone()
    }
}

impl Files {
    fn written(&self) -> Vec<Option<SystemTime>> {
        let files = [&self.certificate, &self.key];
        let written = |file: &PathBuf| std::fs::metadata(file).and_then(|it| it.modified()).ok();
        files
            .into_iter()
            .chain(&self.client_authority)
            .map(written)
            .collect()
    }

    fn config(&self) -> Result<ServerConfig> {
        let certificates = certificates("--tls-cert", &self.certificate)?;
        let path = self.key.display();
        service::secret::only_for_us("--tls-key", Some(&self.key))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| {
            anyhow::anyhow!("the file {path} of --tls-key holds no private key in PEM: {error}")
        })?;
        let config = ServerConfig::builder();
        let config = match &self.client_authority {
            None => config.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                let path = file.display();
                for authority in self::certificates("--tls-client-ca", file)? {
                    roots.add(authority).with_context(|| {
                        format!("the file {path} of --tls-client-ca holds no certificate authority")
                    })?;
                }
                // Health and metrics are for those too that have none: see `server.rs`.
                let verifier =
                    WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated();
                config.with_client_cert_verifier(verifier.build().context("--tls-client-ca")?)
            }
        };
        let mut config = config
            .with_single_cert(certificates, key)
            .context("--tls-cert and --tls-key are not of one pair")?;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(flag: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let path = file.display();
    let pem =
        std::fs::read(file).with_context(|| format!("the file {path} of {flag} can't be read"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.unwrap_or_default();
    ensure!(
        !certificates.is_empty(),
        "the file {path} of {flag} holds no certificate in PEM"
    );
    Ok(certificates)
}
