//! `consumer retention`: removes the indices of jobs that ended too many days ago, where no lifecycle policy does.
//!
//! It must never remove what is not ours: an index goes only if its name, its mark and its state all say so.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use elasticsearch::http::Method;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    elasticsearch::{Elasticsearch, ElasticsearchError},
    indices::{Kind, Named, Names},
    privilege::explain,
    setup::{Hand, MANAGED_BY, kept_for, wait_until_there},
};

/// What `retention` is to do.
pub(crate) struct Retention {
    /// How our indices are named.
    pub names: Names,
    /// How many days after its job's end a document goes; 0: never.
    pub retain_days: u16,
    /// How often; without it once.
    pub every: Option<Duration>,
    /// How long to wait for Elasticsearch in each round.
    pub patience: Duration,
    /// Whether nothing is removed.
    pub dry_run: bool,
}

/// What is known of an index, an alias or a data stream whose name a pattern of ours takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    name: String,
    what: What,
    /// Whose it is.
    mark: Mark,
    /// The lifecycle policy that it has.
    policy: Option<String>,
}

/// What `_meta` of a mapping says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    /// That it is none of Joblogs.
    None,
    /// That it is of the installation of this name; version 1 did not say which.
    Of(Option<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Index,
    ClosedIndex,
    HiddenIndex,
    Alias,
    DataStream,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is young enough.
    Stays,
    /// It is old enough, and is left for this reason.
    IsLeft(String),
    Goes,
}

impl Retention {
    /// Does it once, or for ever: then a round that fails is told of, and the next one tries again.
    pub(crate) async fn run(&self, elasticsearch: &Elasticsearch) -> Result<()> {
        let Some(every) = self.every else {
            return self.round(elasticsearch).await;
        };
        loop {
            if let Err(error) = self.round(elasticsearch).await {
                let error = format!("{error:#}");
                tracing::warn!(error, next_in = ?every, "this round of retention failed");
            }
            sleep(every).await;
        }
    }

    async fn round(&self, elasticsearch: &Elasticsearch) -> Result<()> {
        if self.retain_days == 0 {
            println!("{} (--retain-days 0)", kept_for(0));
            return Ok(());
        }
        let hand = Hand {
            elasticsearch,
            end: Instant::now() + self.patience,
            dry_run: self.dry_run,
        };
        wait_until_there(&hand).await?;
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let mut old = Vec::new();
        for found in self.find(&hand).await? {
            match self.fate(&found, today) {
                Fate::Stays => {}
                Fate::IsLeft(why) => println!("{} is left: {why}", found.name),
                Fate::Goes if self.dry_run => println!("{} would be removed", found.name),
                Fate::Goes => old.push(found.name),
            }
        }
        if self.dry_run {
            return Ok(());
        }
        self.remove(elasticsearch, old).await
    }

    /// Removes these; one that is refused keeps no other.
    async fn remove(&self, elasticsearch: &Elasticsearch, old: Vec<String>) -> Result<()> {
        let (mut removed, mut refusals) = (0, Vec::new());
        for index in old {
            // INVARIANT: a name that was read as ours holds no wildcard and no comma.
            match elasticsearch.json(Method::Delete, &index, None).await {
                // One that is gone meanwhile is as good.
                Ok(_) => {
                    println!("{index} is removed");
                    removed += 1;
                }
                Err(error @ ElasticsearchError::Unavailable { .. }) => bail!(error),
                Err(error) => refusals.push(explain(&format!("to remove {index}"), error)),
            }
        }
        println!(
            "{removed} indices are removed; {}",
            kept_for(self.retain_days)
        );
        let count = refusals.len();
        match refusals.into_iter().next() {
            None => Ok(()),
            Some(only) if count == 1 => Err(only),
            Some(first) => Err(first.context(format!("{count} indices are not removed"))),
        }
    }

    fn fate(&self, found: &Found, today: Date) -> Fate {
        let left = |why: &str| Fate::IsLeft(why.to_owned());
        let is_old = |day: Date| (today - day).get_days() > i32::from(self.retain_days);
        match (self.names.read(&found.name), found.what) {
            (Named::Ours(day) | Named::Foreign(Some(day)), _) if !is_old(day) => Fate::Stays,
            (_, What::Alias) => left("it is an alias"),
            (_, What::DataStream) => left("it is a data stream"),
            (Named::Foreign(_), _) => left("its name is none of ours"),
            (_, What::ClosedIndex) => left("it is closed"),
            (_, What::HiddenIndex) => left("it is hidden"),
            _ => match (&found.mark, &found.policy) {
                (Mark::None, _) => left("its mapping does not say that it is ours"),
                (Mark::Of(Some(name)), _) if name != self.names.naming.name.as_str() => {
                    Fate::IsLeft(format!("it belongs to another installation, {name}"))
                }
                (Mark::Of(_), Some(policy)) => {
                    Fate::IsLeft(format!("the lifecycle policy {policy} sees to it"))
                }
                (Mark::Of(_), None) => Fate::Goes,
            },
        }
    }

    /// All that our patterns take.
    async fn find(&self, hand: &Hand<'_>) -> Result<Vec<Found>> {
        let patterns: Vec<String> = Kind::ALL
            .iter()
            .flat_map(|kind| self.names.patterns(*kind))
            .collect();
        let patterns = patterns.join(",");
        let look = async |path: String| {
            let answer = hand.look(&path).await;
            answer.map_err(|error| explain("to show the indices", error))
        };
        let resolved = look(format!("_resolve/index/{patterns}?expand_wildcards=all"));
        let resolved: Option<Resolved> = resolved.await?.map(serde_json::from_value).transpose()?;
        let details = look(format!(
            "{patterns}?expand_wildcards=all&filter_path=*.mappings._meta,*.settings.index.lifecycle"
        ));
        let details = details.await?.unwrap_or_default();
        Ok(resolved.unwrap_or_default().into_found(&details))
    }
}

/// The answer of `_resolve/index`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Resolved {
    indices: Vec<ResolvedIndex>,
    aliases: Vec<ResolvedName>,
    data_streams: Vec<ResolvedName>,
}

#[derive(Deserialize)]
struct ResolvedIndex {
    name: String,
    /// `open`, `closed`, `hidden`, `system`, `frozen`.
    #[serde(default)]
    attributes: Vec<String>,
}

#[derive(Deserialize)]
struct ResolvedName {
    name: String,
}

impl Mark {
    fn read(meta: &Value) -> Self {
        if meta["managed_by"] == MANAGED_BY {
            Self::Of(meta["name"].as_str().map(str::to_owned))
        } else {
            Self::None
        }
    }
}

impl Resolved {
    /// With the details of each index; the order is that of the names.
    fn into_found(self, details: &Value) -> Vec<Found> {
        let index = |it: ResolvedIndex| {
            let is = |attribute: &str| it.attributes.iter().any(|has| has == attribute);
            let what = if is("closed") {
                What::ClosedIndex
            } else if is("hidden") || is("system") {
                What::HiddenIndex
            } else {
                What::Index
            };
            let details = &details[&it.name];
            Found {
                what,
                mark: Mark::read(&details["mappings"]["_meta"]),
                policy: details["settings"]["index"]["lifecycle"]["name"]
                    .as_str()
                    .map(str::to_owned),
                name: it.name,
            }
        };
        let other = |what| {
            move |it: ResolvedName| Found {
                name: it.name,
                what,
                mark: Mark::None,
                policy: None,
            }
        };
        let aliases = self.aliases.into_iter().map(other(What::Alias));
        let streams = self.data_streams.into_iter().map(other(What::DataStream));
        let found = self.indices.into_iter().map(index);
        let found = found.chain(aliases).chain(streams);
        let by_name: BTreeMap<_, _> = found.map(|it| (it.name.clone(), it)).collect();
        by_name.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use notice::{IndexName, IndexPatterns};
    use serde_json::json;

    use super::*;
    use crate::indices::{DatePlace, Naming};

    fn retention() -> Retention {
        let name = IndexName::parse("joblogs").unwrap();
        Retention {
            names: Names {
                asked: IndexPatterns::default().and(&name),
                naming: Naming {
                    name,
                    date: DatePlace::Prefix,
                },
            },
            retain_days: 30,
            every: None,
            patience: Duration::ZERO,
            dry_run: false,
        }
    }

    fn ours(name: &str) -> Found {
        Found {
            name: name.to_owned(),
            what: What::Index,
            mark: Mark::Of(Some("joblogs".to_owned())),
            policy: None,
        }
    }

    fn fate(found: &Found) -> Fate {
        retention().fate(found, date(2026, 11, 25))
    }

    fn is_left(found: &Found, why: &str) {
        match fate(found) {
            Fate::IsLeft(said) => assert!(said.contains(why), "{said}"),
            fate => panic!("{found:?}: {fate:?}"),
        }
    }

    #[test]
    fn what_is_older_than_so_many_days_goes_and_not_a_day_before() {
        for (name, right) in [
            ("2026-10-25-joblogs", Fate::Goes), // 31 days
            ("2026-10-26-joblogs", Fate::Stays),
            ("2026-10-27-joblogs", Fate::Stays),
            ("2025-11-25-joblogs-jobs", Fate::Goes),
            ("2026-01-01-joblogs-rejected", Fate::Goes),
            ("2026-11-26-joblogs", Fate::Stays),
        ] {
            assert_eq!(fate(&ours(name)), right, "{name}");
        }
    }

    #[test]
    fn what_is_not_ours_in_every_way_is_left_with_the_reason() {
        let old = ours("2026-01-01-joblogs");
        is_left(&ours("2026-01-01-team-joblogs"), "its name");
        is_left(&ours("2026-01-joblogs"), "its name");
        for (what, why) in [
            (What::ClosedIndex, "closed"),
            (What::HiddenIndex, "hidden"),
            (What::Alias, "alias"),
            (What::DataStream, "data stream"),
        ] {
            is_left(
                &Found {
                    what,
                    ..old.clone()
                },
                why,
            );
        }
        let unmarked = Found {
            mark: Mark::None,
            ..old.clone()
        };
        is_left(&unmarked, "its mapping");
        let other = Found {
            mark: Mark::Of(Some("archive".to_owned())),
            ..old.clone()
        };
        is_left(&other, "another installation, archive");
        let of_version_1 = Found {
            mark: Mark::Of(None),
            ..old.clone()
        };
        assert_eq!(fate(&of_version_1), Fate::Goes);
        let policy = Some("joblogs-joblogs".to_owned());
        is_left(&Found { policy, ..old }, "policy joblogs-joblogs");
    }

    #[test]
    fn answers_of_the_cluster_are_read() {
        use What::{Alias, ClosedIndex, DataStream, HiddenIndex, Index};
        let resolved = json!({
            "indices": [
                {"name": "2026-01-01-joblogs", "attributes": ["open"], "aliases": ["joblogs-joblogs"]},
                {"name": "2026-01-02-joblogs", "attributes": ["closed"]},
                {"name": "2026-01-03-joblogs", "attributes": ["open", "hidden"]},
                {"name": "2026-01-04-joblogs"},
            ],
            "aliases": [{"name": "2026-01-05-joblogs", "indices": ["x"]}],
            "data_streams": [{"name": "2026-01-06-joblogs", "timestamp_field": "@timestamp"}],
        });
        let details = json!({
            "2026-01-01-joblogs": {"mappings": {"_meta": {"managed_by": "joblogs", "name": "joblogs", "version": 2}}},
            "2026-01-04-joblogs": {
                "mappings": {"_meta": {"managed_by": "somebody"}},
                "settings": {"index": {"lifecycle": {"name": "theirs"}}},
            },
        });
        let resolved: Resolved = serde_json::from_value(resolved).unwrap();
        let found = resolved.into_found(&details);
        let whats: Vec<What> = found.iter().map(|it| it.what).collect();
        assert_eq!(
            whats,
            [Index, ClosedIndex, HiddenIndex, Index, Alias, DataStream]
        );
        assert_eq!(found[0], ours("2026-01-01-joblogs"));
        assert_eq!(found[3].mark, Mark::None);
        assert_eq!(found[3].policy.as_deref(), Some("theirs"));
    }
}
