//! A wrong flag, variable or file is one sentence that names it, and exit 2.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use support::{Listener, refusal, run};

#[test]
fn a_wrong_flag_is_named_in_one_sentence() {
    // The AMQP library panics at such a name.
    let long = "x".repeat(256);
    let missing = "/nonexistent/joblogs";
    for (flags, name) in [
        (["--bind", "nowhere"], "--bind"),
        (["-p", "70000"], "--listen-port"),
        (["-p", "-1"], "-1"),
        (["--gitlab", "gitlab.com"], "--gitlab"),
        (["--gitlab", ""], "--gitlab"),
        (["--kibana", "kibana:5601"], "--kibana"),
        (["--kibana", "https://x/app/discover#/"], "--kibana"),
        (["--exchange", ""], "--exchange"),
        (["--exchange", &long], "--exchange"),
        (["--routekey", ""], "--routekey"),
        (["--routekey", &long], "--routekey"),
        (["--host", ""], "--host"),
        (["--user", ""], "--user"),
        (["--vhost", ""], "--vhost"),
        (["--pass", ""], "--pass"),
        (["--pass-file", missing], "--pass-file"),
        (["--seal-key", "short"], "--seal-key"),
        (["--seal-key-file", missing], "--seal-key-file"),
        (["--seal-hours", "0"], "--seal-hours"),
        (["--es-index", "Upper"], "--es-index"),
        (["--es-host", ""], "--es-host"),
        (["--es-host", "es/path"], "--es-host"),
        (["--es-host", "es:9200"], "--es-host"),
        (["--es-host", "es#x"], "--es-host"),
        (["--es-host", "http://es"], "--es-host"),
        (["--es-port", "0"], "--es-port"),
        (["--es-ca", missing], "--es-ca"),
        (["--es-ca", "Cargo.toml"], "--es-ca"),
        (["--es-verify-ssl", "perhaps"], "--es-verify-ssl"),
        (["--index-names", "team-a, Team-b"], "--index-names"),
        (["--index-names", "team-a,,team-b"], "--index-names"),
        (["--index-names", "team b"], "--index-names"),
        (["--index-names", "*-jobs"], "--index-names"),
    ] {
        let said = refusal(&flags, &[]);
        assert!(said.contains(name), "{flags:?}: {said}");
        assert!(!said.contains("variable"), "{flags:?}: {said}");
    }
}

#[test]
fn a_wrong_variable_is_named_in_one_sentence() {
    for (name, value) in [
        ("JOBLOGS_BIND", "nowhere"),
        ("JOBLOGS_LISTEN_PORT", "70000"),
        ("JOBLOGS_GITLAB", "gitlab.com"),
        ("JOBLOGS_KIBANA", "kibana:5601"),
        ("JOBLOGS_INDEX_NAMES", "team-a, Team-b"),
        ("JOBLOGS_DEBUG", "perhaps"),
        ("JOBLOGS_ES_VERIFY_SSL", "perhaps"),
        ("JOBLOGS_ES_HOST", "es/path"),
        ("JOBLOGS_ES_URL_SCHEME", "ftp"),
    ] {
        let said = refusal(&[], &[(name, value)]);
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[test]
fn a_short_flag_is_not_blamed_on_the_variable() {
    let said = refusal(&["-p", "70000"], &[("JOBLOGS_LISTEN_PORT", "8080")]);
    assert!(!said.contains("JOBLOGS_LISTEN_PORT"), "{said}");
}

/// It was `user:PASSWORD@host`, and the sentence is for logs.
#[test]
fn a_refused_host_is_not_repeated() {
    let said = refusal(&["--es-host", "elastic:canary@es"], &[]);
    assert!(
        said.contains("--es-host") && !said.contains("canary"),
        "{said}"
    );
}

/// `JOBLOGS_DEBUG=1` was refused, where other switches took 1.
#[tokio::test]
async fn switches_take_what_people_write() {
    for value in ["1", "0", "true", "false", "yes", "no"] {
        Listener::start(&[], &[("JOBLOGS_DEBUG", value)]);
    }
    for flag in ["--debug", "--debug=1", "--debug=no"] {
        Listener::start(&[flag], &[]);
    }
    let keygen = run(&["--debug", "keygen"], &[]);
    assert!(keygen.status.success(), "{keygen:?}");
}

/// Compose sets a variable that nobody gave to the empty text.
#[tokio::test]
async fn a_variable_that_is_set_but_empty_counts_as_unset() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let file = std::env::temp_dir().join(format!("joblogs-key-{}", std::process::id()));
    std::fs::write(&file, key).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let empty = [
        "JOBLOGS_DEBUG",
        "JOBLOGS_INDEX_NAMES",
        "JOBLOGS_ES_HOST",
        "JOBLOGS_ES_PORT",
        "JOBLOGS_ES_CA",
        "JOBLOGS_ES_VERIFY_SSL",
        "JOBLOGS_ES_INDEX",
        "JOBLOGS_EXCHANGE",
        "JOBLOGS_GITLAB",
        "JOBLOGS_KIBANA",
        "JOBLOGS_SEAL_KEY",
    ];
    let variables: Vec<(&str, &str)> = empty.into_iter().map(|name| (name, "")).collect();
    let listener = Listener::start(&["--seal-key-file", file.to_str().unwrap()], &variables);
    let (status, body) = listener.get("/healthcheck?elasticsearch").await;
    assert!(
        status == 503 && body.contains("without --es-host"),
        "{body}"
    );
    std::fs::remove_file(&file).unwrap();
    assert!(refusal(&[], &[("JOBLOGS_HOST", "")]).contains("--host is missing"));
}

/// It asked 127.0.0.1, where nobody listened.
#[test]
fn a_healthcheck_asks_the_address_that_is_listened_on() {
    for (bind, asked) in [
        ("127.0.0.1", "127.0.0.1:0"),
        ("127.0.0.2", "127.0.0.2:0"),
        ("0.0.0.0", "127.0.0.1:0"),
        ("::1", "[::1]:0"),
        ("::", "[::1]:0"),
    ] {
        let Ok(socket) = TcpListener::bind(asked) else {
            assert!(bind.contains("::"), "{bind} is no address of this host");
            continue; // There is no IPv6 here.
        };
        let port = socket.local_addr().unwrap().port().to_string();
        thread::spawn(move || {
            for stream in socket.incoming() {
                let mut stream = stream?;
                let _ = stream.read(&mut [0; 4096])?;
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                )?;
            }
            Ok::<_, std::io::Error>(())
        });
        let flags = ["healthcheck", "-p", &port];
        let by_variable = run(&flags, &[("JOBLOGS_BIND", bind)]);
        assert!(by_variable.status.success(), "{bind}: {by_variable:?}");
        let by_flag = run(&[&flags[..], &["--bind", bind]].concat(), &[]);
        assert!(by_flag.status.success(), "{bind}: {by_flag:?}");
    }
}
