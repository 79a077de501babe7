//! The health calls of the older tool; unlike there, each tells the truth.

use std::{sync::Arc, time::Duration};

use poem::{Endpoint, Response, endpoint::make};
use reqwest::RequestBuilder;
use service::admin::{Readiness, answer};
use tokio::{sync::Mutex, time::Instant};

/// How long Elasticsearch may take to show that it lives.
const ELASTICSEARCH: Duration = Duration::from_secs(3);
/// How long its answer counts: anybody may ask, as often as he likes.
const FRESH: Duration = Duration::from_secs(2);

/// What the health calls look at.
pub(crate) struct Health {
    pub(crate) readiness: Readiness,
    pub(crate) elasticsearch: Option<Elasticsearch>,
    pub(crate) checked: Checked,
}

/// What Elasticsearch answered last, and when; held by the one who asks.
pub(crate) type Checked = Arc<Mutex<Option<(Instant, Result<(), String>)>>>;

/// The Elasticsearch to ask, and the client that knows its certificate authority.
pub(crate) struct Elasticsearch {
    pub(crate) url: reqwest::Url,
    pub(crate) client: reqwest::Client,
    /// Whether the server's certificate is checked.
    pub(crate) is_verified: bool,
}

impl Health {
    fn rabbitmq(&self) -> Result<(), String> {
        match self.readiness.faults().as_slice() {
            [] => Ok(()),
            faults => Err(faults.join("; ")),
        }
    }

    /// Any HTTP answer below 500 shows that it lives; we come without credentials, so 401 is one. One asks for all who
    /// want to know meanwhile, in a task of its own: whoever hangs up leaves the answer to the others.
    async fn elasticsearch(&self) -> Result<(), String> {
        let Some(elasticsearch) = &self.elasticsearch else {
            return Err(
                "elasticsearch: not checked, the listener was started without --es-host".into(),
            );
        };
        let mut checked = self.checked.clone().lock_owned().await;
        if let Some((at, outcome)) = &*checked
            && at.elapsed() < FRESH
        {
            return outcome.clone();
        }
        let request = elasticsearch.client.get(elasticsearch.url.clone());
        let asking = tokio::spawn(async move {
            let outcome = ask(request).await;
            *checked = Some((Instant::now(), outcome.clone()));
            outcome
        });
        let outcome = asking.await;
        outcome.unwrap_or_else(|_| Err("elasticsearch: the check failed".into()))
    }
}

async fn ask(request: RequestBuilder) -> Result<(), String> {
    match request.timeout(ELASTICSEARCH).send().await {
        Ok(answer) if answer.status().as_u16() < 500 => Ok(()),
        Ok(answer) => Err(format!(
            "elasticsearch: answered {}",
            answer.status().as_u16()
        )),
        Err(_) => Err("elasticsearch: can't be reached".into()),
    }
}

/// `/healthcheck`: what is configured; `?rabbitmq`, `?elasticsearch`: that one.
pub(crate) fn healthcheck(health: Arc<Health>) -> impl Endpoint<Output = Response> {
    make(move |request| {
        let health = health.clone();
        async move {
            health
                .check(request.uri().query().unwrap_or_default())
                .await
        }
    })
}

impl Health {
    async fn check(&self, query: &str) -> Response {
        let names = |name: &str| {
            let mut pairs = query.split('&');
            pairs.any(|pair| pair.split('=').next() == Some(name))
        };
        let (rabbitmq, elasticsearch) = (names("rabbitmq"), names("elasticsearch"));
        let is_any = rabbitmq || elasticsearch;
        let mut outcomes = Vec::new();
        if rabbitmq || !is_any {
            outcomes.push(self.rabbitmq());
        }
        if elasticsearch || (!is_any && self.elasticsearch.is_some()) {
            outcomes.push(self.elasticsearch().await);
        }
        let faults: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
        answer(&faults)
    }
}
