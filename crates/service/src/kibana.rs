//! Where Kibana is, and what our objects in it are called: the consumer imports them, and the listener's links name one.

use notice::{IndexName, Invalid};
use url::Url;

/// What the ids begin with in the files of `kibana`.
pub const DEFAULT_PREFIX: &str = "joblogs";

/// Reads a base URL such as `https://kibana.example.com/`, or `https://example.com/kibana/s/team` where Kibana has a
/// path and the objects lie in a space. It ends in a slash.
pub fn base(text: &str) -> Result<Url, Invalid> {
    const RULE: Invalid =
        Invalid("must be an http or https URL with a host and without user, query or fragment");
    let mut url = Url::parse(text).map_err(|_| RULE)?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_plain {
        return Err(RULE);
    }
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// What the ids of an installation's objects begin with, in place of [`DEFAULT_PREFIX`]. Several installations may share
/// a Kibana; and an id is taken in all of Kibana's spaces, which would give a second one of that id another.
pub fn prefix(base: &Url, name: &IndexName) -> String {
    let segments = base.path_segments().into_iter().flatten();
    let segments: Vec<&str> = segments.filter(|it| !it.is_empty()).collect();
    match segments[..] {
        [.., "s", space] if space != "default" => format!("{name}@{space}"),
        _ => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path_and_nothing_more() {
        let url = |text| base(text).unwrap().to_string();
        assert_eq!(url("http://kibana:5601"), "http://kibana:5601/");
        assert_eq!(url("https://x/kibana/s/team"), "https://x/kibana/s/team/");
        for wrong in [
            "",
            "kibana",
            "kibana:5601",
            "kibana.example.com:5601",
            "ftp://x/",
            "https://a:canary@x/",
            "https://a@x/",
            "https://x/?a",
            "https://x/#a",
            "https://x/app/discover#/",
        ] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_installation_and_each_space_has_ids_of_its_own() {
        let prefix = |url, name| prefix(&base(url).unwrap(), &IndexName::parse(name).unwrap());
        assert_eq!(prefix("https://x/", "joblogs"), DEFAULT_PREFIX);
        assert_eq!(prefix("https://x/s/default", "joblogs"), DEFAULT_PREFIX);
        assert_eq!(prefix("https://x/kibana/", "ci"), "ci");
        assert_eq!(prefix("https://x/kibana/s/team/", "ci"), "ci@team");
        assert_eq!(prefix("https://x/s/", "ci"), "ci");
    }
}
