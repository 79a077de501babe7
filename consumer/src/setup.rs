//! `consumer setup`: templates, lifecycle, roles, users and API keys, adapted to what the cluster can do. Idempotent, and
//! never a step back: what a newer consumer put stays.

mod adapt;
mod fields;
mod hand;
mod installed;
mod keys;
mod objects;
mod security;

use std::time::Duration;

use anyhow::{Result, anyhow};
use elasticsearch::http::Method;
use secrecy::SecretString;
use tokio::time::Instant;

use self::{
    adapt::{is_no_api, next_best},
    objects::Object,
};
pub(crate) use self::{
    hand::Hand,
    keys::KeyFile,
    objects::{MANAGED_BY, roles_file},
    security::User,
};
use crate::{
    elasticsearch::{Elasticsearch, ElasticsearchError},
    indices::{Kind, Names, Naming},
    privilege::explain,
};

/// Between two looks whether Elasticsearch is there.
const PAUSE: Duration = Duration::from_secs(2);

/// What `setup` is to do.
pub(crate) struct Setup {
    /// How indices are named.
    pub names: Names,
    /// After how many days indices are removed; 0: never.
    pub retain_days: u16,
    /// The users that it makes.
    pub users: Vec<User>,
    /// The API keys that it makes.
    pub keys: Vec<KeyFile>,
    /// The password for `kibana_system`.
    pub kibana_password: Option<SecretString>,
    /// How long to wait for Elasticsearch.
    pub patience: Duration,
    /// Whether requests are only shown.
    pub dry_run: bool,
}

/// Whether the templates are there: an index that is made without them has a guessed mapping for ever.
/// Whoever may not ask is taken at the operator's word.
pub(crate) async fn is_done(
    elasticsearch: &Elasticsearch,
    naming: &Naming,
) -> Result<(), ElasticsearchError> {
    let name = format!("joblogs-{}", naming.name);
    let path = format!("_index_template/{name}?filter_path=index_templates.name");
    match elasticsearch.json(Method::Get, &path, None).await {
        Ok(Some(_)) | Err(ElasticsearchError::Refused { status: 403, .. }) => Ok(()),
        Ok(None) => Err(ElasticsearchError::unavailable(format!(
            "it has no index template {name}; run `consumer setup`"
        ))),
        Err(error) => Err(error),
    }
}

/// Waits for a cluster that answers; wrong credentials are an end at once.
pub(crate) async fn wait_until_there(hand: &Hand<'_>) -> Result<()> {
    hand.finds_it().await.map_err(|error| match error {
        ElasticsearchError::Refused { .. } => anyhow!(
            "{error}; give the password or the API key that Elasticsearch has. In the appliance ELASTIC_PASSWORD counts only when the volume is new: after a reset (bin/elasticsearch-reset-password -u elastic) say so once by ELASTIC_PASSWORD_IN_USE=yes make up"
        ),
        error => anyhow!(error),
    })
}

impl Setup {
    /// Does it, saying each step in a line.
    pub(crate) async fn run(&self, elasticsearch: &Elasticsearch) -> Result<()> {
        let hand = Hand {
            elasticsearch,
            end: Instant::now() + self.patience,
            dry_run: self.dry_run,
        };
        wait_until_there(&hand).await?;
        installed::check(&hand, &self.names).await?;
        let lifecycle = self.put_lifecycle(&hand).await?;
        self.put_components(&hand, lifecycle.as_deref()).await?;
        self.put_templates(&hand).await?;
        fields::add(&hand, &self.names).await?;
        security::put_users(&hand, &self.names, &self.users).await?;
        keys::put_keys(&hand, &self.names, &self.keys).await?;
        if let Some(password) = &self.kibana_password {
            security::set_kibana_password(&hand, password).await?;
        }
        Ok(())
    }

    /// The name of the policy by which the cluster removes old indices itself, if it can.
    async fn put_lifecycle(&self, hand: &Hand<'_>) -> Result<Option<String>> {
        let Object { name, body } = objects::lifecycle(&self.names, self.retain_days)?;
        let path = format!("_ilm/policy/{name}");
        let what = format!("the lifecycle policy {name}");
        // Elasticsearch says 404 where there is no such policy, and 400 where there are no policies at all.
        let put = match hand.look(&path).await {
            Ok(_) => hand.put(&path, &body).await,
            Err(error) => Err(error),
        };
        match put {
            Ok(()) => {
                hand.say(&format!(
                    "{what} is in place: {}",
                    kept_for(self.retain_days)
                ));
                Ok(Some(name))
            }
            Err(ElasticsearchError::Rejected { reason, .. }) if is_no_api(&reason) => {
                println!(
                    "this cluster has no lifecycle policies: `consumer retention` removes old indices"
                );
                Ok(None)
            }
            Err(error) => Err(explain(&what, error)),
        }
    }

    async fn put_components(&self, hand: &Hand<'_>, lifecycle: Option<&str>) -> Result<()> {
        for component in objects::components(&self.names, lifecycle)? {
            put_template(hand, "component", component).await?;
        }
        let Object { name, body } = objects::operators_own(&self.names)?;
        let path = format!("_component_template/{name}");
        let what = format!("the component template {name}");
        let there = hand.look(&path).await;
        if there.map_err(|error| explain(&what, error))?.is_none() {
            let put = hand.put(&format!("{path}?create=true"), &body).await;
            put.map_err(|error| explain(&what, error))?;
            hand.say(&format!(
                "{what} is empty, for settings and fields of your own"
            ));
        }
        Ok(())
    }

    async fn put_templates(&self, hand: &Hand<'_>) -> Result<()> {
        // Lines last: by their template the consumer knows that all is in place (`is_done`).
        for kind in Kind::ALL.into_iter().rev() {
            let alias = self.free_alias(hand, kind).await?;
            let template = objects::template(&self.names, kind, alias.as_deref());
            let name = template.name.clone();
            put_template(hand, "index", template).await?;
            let patterns = self.names.patterns(kind).join(", ");
            hand.say(&format!("template {name} is in place, for {patterns}"));
        }
        Ok(())
    }

    /// The alias of a kind, unless something else has that name: then no index with it could be made.
    async fn free_alias(&self, hand: &Hand<'_>, kind: Kind) -> Result<Option<String>> {
        let Some(alias) = objects::alias(&self.names, kind) else {
            return Ok(None);
        };
        let found = match hand.look(&format!("_resolve/index/{alias}")).await {
            Ok(found) => found.unwrap_or_default(),
            // Who may not look for indices may put templates all the same.
            Err(ElasticsearchError::Refused { status: 403, .. }) => return Ok(Some(alias)),
            Err(error) => return Err(explain(&format!("to look for {alias}"), error)),
        };
        let is_taken = ["indices", "data_streams"]
            .iter()
            .any(|it| found[*it].as_array().is_some_and(|all| !all.is_empty()));
        if is_taken {
            println!("the alias {alias} is left out: an index has that name");
        }
        Ok((!is_taken).then_some(alias))
    }
}

/// Puts an index or component template; where the cluster lacks something, with the next best.
async fn put_template(hand: &Hand<'_>, kind: &str, template: Object) -> Result<()> {
    let Object { name, mut body } = template;
    let path = format!("_{kind}_template/{name}");
    loop {
        let error = match hand.put(&path, &body).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let replaced = match &error {
            ElasticsearchError::Rejected { reason, .. } => next_best(&mut body, reason),
            _ => None,
        };
        match replaced {
            Some(line) => println!("{name}: {line}"),
            None => return Err(explain(&format!("the {kind} template {name}"), error)),
        }
    }
}

/// For how long indices are kept, in words.
pub(crate) fn kept_for(days: u16) -> String {
    match days {
        0 => "indices are kept for ever".to_owned(),
        days => format!("indices are kept for {days} days"),
    }
}
