//! Links into Kibana: the lines of one job, in order.
//!
//! Discover reads its state out of the address, in rison: `_g` is the time range, `_a` the search. Kibana 8.19 and 9.x
//! take this form; what it names has to be imported once (`kibana/joblogs.ndjson`).

use jiff::{SignedDuration, Timestamp};
use notice::{IndexName, Message};
use service::kibana::{base, prefix};
use url::{Url, form_urlencoded::byte_serialize};

/// As the saved search «All lines of a job» has them.
const COLUMNS: &str = "line,section,level,message,line_url";
/// No job of GitLab's runs longer: its first line is not older than that when the notice comes, and its last line is
/// written within that time, even if the notice came first.
const LONGEST_JOB: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Where Kibana is.
#[derive(Debug, Clone)]
pub(crate) struct Kibana {
    base: Url,
    /// Whose lines the data view shows.
    index: IndexName,
}

impl Kibana {
    /// Reads a base URL ([`base`]).
    pub(crate) fn parse(text: &str, index: &IndexName) -> Result<Self, notice::Invalid> {
        let index = index.clone();
        Ok(Self {
            base: base(text)?,
            index,
        })
    }

    /// The lines of the job that a message is about. None for an index of another name: the data view does not show it.
    pub(crate) fn lines_of(&self, message: &Message) -> Option<String> {
        let is_shown = message
            .index_name
            .as_ref()
            .is_none_or(|it| *it == self.index);
        if !is_shown {
            return None;
        }
        let (instance, project, job) = (&message.instance, message.project_id, message.job_id);
        let query =
            format!(r#"instance: "{instance}" and project_id: "{project}" and job_id: "{job}""#);
        let base = &self.base;
        let data_view = format!("{}-lines", prefix(base, &self.index));
        let global = parameter(&range_around(message.received_at));
        let search = parameter(&search_for(&data_view, &query));
        Some(format!("{base}app/discover#/?_g={global}&_a={search}"))
    }
}

fn range_around(time: Timestamp) -> String {
    let (from, to) = (time - LONGEST_JOB, time + LONGEST_JOB);
    format!(
        "(filters:!(),refreshInterval:(pause:!t,value:60000),time:(from:'{from:.3}',to:'{to:.3}'))"
    )
}

/// Without the chart: in two months a job is one bar.
fn search_for(data_view: &str, query: &str) -> String {
    let (data_view, query) = (quoted(data_view), quoted(query));
    format!(
        "(columns:!({COLUMNS}),dataSource:(dataViewId:{data_view},type:dataView),filters:!(),hideChart:!t,\
         interval:auto,query:(language:kuery,query:{query}),sort:!(!(line,asc)))"
    )
}

/// A string in rison.
fn quoted(text: &str) -> String {
    let escaped = text.replace('!', "!!").replace('\'', "!'");
    format!("'{escaped}'")
}

/// All but letters, digits and `*-._` as `%XX`, parentheses too: whatever makes links of the addresses in a text, like
/// GitLab's job page, ends them there.
fn parameter(text: &str) -> String {
    byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use notice::{InstanceName, JobId, ProjectId, Source};
    use serde_json::Value;
    use url::form_urlencoded;

    use super::*;

    fn index(name: &str) -> IndexName {
        IndexName::parse(name).unwrap()
    }

    fn message() -> Message {
        let mut message = Message::new(
            InstanceName::parse("gitlab.example.com-gitlab").unwrap(),
            ProjectId::parse("42").unwrap(),
            JobId::parse("4711").unwrap(),
            Source::Api,
        );
        message.received_at = "2026-03-15T12:00:00Z".parse().unwrap();
        message
    }

    fn link(base: &str) -> String {
        let kibana = Kibana::parse(base, &index("joblogs")).unwrap();
        kibana.lines_of(&message()).unwrap()
    }

    #[test]
    fn a_link_says_time_range_query_columns_and_order() {
        let link = Url::parse(&link("https://kibana.example.com")).unwrap();
        assert_eq!(link.path(), "/app/discover");
        let state = link.fragment().unwrap().strip_prefix("/?").unwrap();
        let state: Vec<(String, String)> = form_urlencoded::parse(state.as_bytes())
            .into_owned()
            .collect();
        assert_eq!(
            state,
            [
                (
                    "_g".to_owned(),
                    "(filters:!(),refreshInterval:(pause:!t,value:60000),\
                     time:(from:'2026-02-12T12:00:00.000Z',to:'2026-04-15T12:00:00.000Z'))"
                        .to_owned()
                ),
                (
                    "_a".to_owned(),
                    "(columns:!(line,section,level,message,line_url),\
                     dataSource:(dataViewId:'joblogs-lines',type:dataView),filters:!(),hideChart:!t,interval:auto,\
                     query:(language:kuery,query:'instance: \"gitlab.example.com-gitlab\" and project_id: \"42\" \
                     and job_id: \"4711\"'),sort:!(!(line,asc)))"
                        .to_owned()
                ),
            ]
        );
    }

    #[test]
    fn a_link_is_one_word_without_characters_that_end_links() {
        let link = link("https://kibana.example.com/");
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "%*-._/:#?&=".contains(c);
        assert!(link.chars().all(is_safe), "{link}");
        assert_eq!(parameter("a b+(c)'%ä"), "a%20b%2B%28c%29%27%25%C3%A4");
        assert_eq!(quoted("it's!"), "'it!'s!!'");
    }

    #[test]
    fn kibanas_path_and_space_are_kept() {
        for (base, start) in [
            ("http://localhost:5601", "http://localhost:5601/app/"),
            ("http://[::1]:5601/", "http://[::1]:5601/app/"),
            ("https://x/s/team", "https://x/s/team/app/"),
            ("https://x/kibana/s/team/", "https://x/kibana/s/team/app/"),
        ] {
            let link = link(base);
            assert!(link.starts_with(start), "{link}");
        }
    }

    #[test]
    fn an_index_that_the_data_view_does_not_show_has_no_link() {
        let kibana = Kibana::parse("https://x/", &index("joblogs")).unwrap();
        let mut message = message();
        message.index_name = Some(index("joblogs"));
        assert!(kibana.lines_of(&message).is_some());
        message.index_name = Some(index("team-a"));
        assert_eq!(kibana.lines_of(&message), None);
    }

    #[test]
    fn a_space_and_another_name_have_data_views_of_their_own() {
        let kibana = Kibana::parse("https://x/s/team", &index("ci")).unwrap();
        let link = kibana.lines_of(&message()).unwrap();
        let wanted = parameter("dataViewId:'ci@team-lines'");
        assert!(link.contains(&wanted), "{link}");
    }

    #[test]
    fn the_data_view_and_the_columns_are_those_that_are_imported() {
        let objects = include_str!("../../kibana/joblogs.ndjson");
        let objects: Vec<Value> = objects
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let named = |id: &str| objects.iter().find(|it| it["id"] == id).unwrap();
        assert_eq!(named("joblogs-lines")["type"], "index-pattern");
        let columns = named("joblogs-one-job")["attributes"]["columns"].as_array();
        let columns: Vec<_> = columns.unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(columns.join(","), COLUMNS);
    }
}
