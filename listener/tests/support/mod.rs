//! The listener as users run it, as a child process, with no broker anywhere: a notice that is
//! taken gets as far as 503, one that is refused does not.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

/// How long a start, or the end of one that is refused, may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Flags without which it doesn't start; nobody listens on the broker's port.
const FLAGS: [&str; 12] = [
    "-p",
    "0",
    "--host",
    "127.0.0.1",
    "--port",
    "1",
    "--user",
    "joblogs",
    "--pass",
    "secret",
    "--seal-key",
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
];

fn command(flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_listener"));
    command
        .args(flags)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The needed flags without those that are given here, and those.
fn with_needed<'a>(flags: &[&'a str], variables: &[(&str, &str)]) -> Vec<&'a str> {
    let mut all = Vec::new();
    for pair in FLAGS.chunks(2) {
        let name = match pair[0].trim_start_matches('-') {
            "p" => "LISTEN_PORT".to_owned(),
            long => long.replace('-', "_").to_uppercase(),
        };
        let variable = format!("JOBLOGS_{name}");
        let file = format!("{}-file", pair[0]);
        let is_given = flags.contains(&pair[0])
            || flags.contains(&file.as_str())
            || variables.iter().any(|(name, _)| *name == variable);
        if !is_given {
            all.extend_from_slice(pair);
        }
    }
    all.extend_from_slice(flags);
    all
}

/// Runs it to its end with these flags alone.
pub(crate) fn run(flags: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut child = command(flags, variables).spawn().unwrap();
    let end = Instant::now() + DEADLINE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!(
                "{flags:?} {variables:?} did not end: {:?}",
                child.wait_with_output()
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// It does not start, and says why: exit 2 and one sentence, which this is.
pub(crate) fn refusal(flags: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(&with_needed(flags, variables), variables);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "{flags:?} {variables:?}: {said}"
    );
    assert_eq!(said.lines().count(), 1, "{flags:?} {variables:?}: {said}");
    assert!(said.starts_with("listener: "), "{said}");
    said
}

/// A listener on a port of its own; killed when dropped.
pub(crate) struct Listener {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    logs: Arc<Mutex<String>>,
    /// A client that uses no proxy.
    pub(crate) http: reqwest::Client,
}

impl Listener {
    /// Starts it with these flags beside those that it needs.
    pub(crate) fn start(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = with_needed(flags, variables);
        all.extend(["--bind", "127.0.0.1"]);
        let mut child = command(&all, variables).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let logs = Arc::new(Mutex::new(String::new()));
        let (tell, address) = mpsc::channel();
        let written = logs.clone();
        thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                written.lock().unwrap().push_str(&line);
                if fields["message"] == "listening" {
                    let _ = tell.send(fields["address"].as_str().unwrap().to_owned());
                }
                line.clear();
            }
        });
        let Ok(address) = address.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            panic!(
                "{flags:?} {variables:?} did not start: {}",
                logs.lock().unwrap()
            );
        };
        Self {
            child,
            url: format!("http://{address}"),
            logs,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(DEADLINE)
                .build()
                .unwrap(),
        }
    }

    /// What it has logged so far.
    pub(crate) fn logs(&self) -> String {
        self.logs.lock().unwrap().clone()
    }

    /// The status and the body of `GET path`.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let mut rest = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            let _ = stdout.read_to_string(&mut rest);
        }
    }
}
