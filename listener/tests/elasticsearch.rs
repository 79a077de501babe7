//! `/healthcheck?elasticsearch` where the certificate is signed by a CA of one's own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use support::{Listener, refusal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Answers every request as an Elasticsearch does to whom it doesn't know, and gives its port and
/// the PEM of its CA.
async fn elasticsearch() -> (u16, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    service::install_tls_provider();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let _ = stream.read(&mut [0; 4096]).await?;
                stream
                    .write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
                    .await
            });
        }
    });
    (port, authority.pem())
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("joblogs-{name}-{}.pem", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

/// It was 503 for ever: the check knew the system's CAs alone, and went by way of a proxy.
#[tokio::test]
async fn a_ca_of_ones_own_is_trusted_and_verification_can_be_switched_off() {
    const OFF: &str = "certificate is not checked";
    let (port, pem) = elasticsearch().await;
    let (port, ca) = (port.to_string(), file("ca", &pem));
    let ca = ca.to_str().unwrap();
    let host = ["--es-host", "localhost", "--es-port", &port];
    let proxy = ("HTTPS_PROXY", "http://127.0.0.1:1");
    for (flags, variables, status) in [
        (vec![], vec![], 503),
        (vec!["--es-ca", ca], vec![proxy], 200),
        (vec!["--es-verify-ssl", "false"], vec![], 200),
        (vec![], vec![("JOBLOGS_ES_VERIFY_SSL", "0")], 200),
        (vec!["--es-verify-ssl"], vec![("JOBLOGS_ES_CA", ca)], 200),
    ] {
        let flags = [host.to_vec(), flags].concat();
        let listener = Listener::start(&flags, &variables);
        let got = listener.get("/healthcheck?elasticsearch").await;
        assert_eq!(got.0, status, "{flags:?} {variables:?}: {got:?}");
        let is_off =
            status == 200 && !flags.contains(&"--es-ca") && !flags.ends_with(&["--es-verify-ssl"]);
        assert_eq!(listener.logs().contains(OFF), is_off, "{flags:?}");
    }
    fs::remove_file(ca).unwrap();
}

#[test]
fn a_file_without_a_certificate_is_refused() {
    let garbage = "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n";
    for (name, text) in [("empty", ""), ("text", "canary"), ("garbage", garbage)] {
        let path = file(name, text);
        let said = refusal(&["--es-ca", path.to_str().unwrap()], &[]);
        assert!(
            said.contains("--es-ca") && !said.contains("canary"),
            "{said}"
        );
        fs::remove_file(path).unwrap();
    }
}

/// `https://::1:9200/` is no URL; the check was refused for ever.
#[tokio::test]
async fn an_ipv6_address_is_a_host() {
    let Ok(socket) = TcpListener::bind("[::1]:0").await else {
        return; // There is no IPv6 here.
    };
    let port = socket.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    for host in ["::1", "[::1]"] {
        let flags = [
            "--es-host",
            host,
            "--es-port",
            &port,
            "--es-url-scheme",
            "http",
        ];
        let got = Listener::start(&flags, &[])
            .get("/healthcheck?elasticsearch")
            .await;
        assert_eq!(got.0, 200, "{host}: {got:?}");
    }
}

/// Each of 400 anonymous calls was a request to Elasticsearch, at once.
#[tokio::test]
async fn many_who_ask_are_one_question_to_elasticsearch() {
    const CALL: &str = "/healthcheck?elasticsearch";
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                while stream.read(&mut [0; 4096]).await? > 0 {
                    count.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(300)).await;
                    let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).await?;
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    let flags = ["--es-host", "127.0.0.1", "--es-port", &port];
    let flags = [&flags[..], &["--es-url-scheme", "http"]].concat();
    let listener = Listener::start(&flags, &[]);
    // One hangs up meanwhile.
    let hung_up = timeout(Duration::from_millis(100), listener.get(CALL)).await;
    assert!(hung_up.is_err(), "{hung_up:?}");
    for got in join_all((0..40).map(|_| listener.get(CALL))).await {
        assert_eq!(got.0, 200, "{got:?}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // What is old counts no more.
    let again = async {
        while asked.load(Ordering::Relaxed) < 2 {
            assert_eq!(listener.get(CALL).await.0, 200);
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(10), again).await.unwrap();
}
