//! GitLab's numeric ids, as types.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Invalid;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// Reads a positive decimal number of at most 18 digits, the first one not 0. A number in braces is taken
            /// as the number: the older tool's documented curl has `job_id={$CI_JOB_ID}`.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                let bare = text
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'))
                    .unwrap_or(text);
                let is_decimal = bare.len() <= 18
                    && !bare.starts_with('0')
                    && bare.bytes().all(|byte| byte.is_ascii_digit());
                match bare.parse() {
                    Ok(number) if is_decimal => Ok(Self(number)),
                    _ => Err(Invalid("must be a positive whole number")),
                }
            }

            /// The number itself.
            pub fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // The older tool's messages carry ids as strings, ours as numbers.
                struct NumberOrText;
                impl de::Visitor<'_> for NumberOrText {
                    type Value = $name;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str("a positive whole number")
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        $name::parse(&number.to_string()).map_err(E::custom)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(NumberOrText)
            }
        }
    };
}

numeric_id!(
    /// A GitLab project's id (`CI_PROJECT_ID`).
    ProjectId
);
numeric_id!(
    /// A GitLab job's id (`CI_JOB_ID`). A retried job is a new job with a new id.
    JobId
);
numeric_id!(
    /// A GitLab runner's id (`CI_RUNNER_ID`).
    RunnerId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_braces_is_the_number() {
        assert_eq!(JobId::parse("{4711}").unwrap().get(), 4711);
        assert_eq!(JobId::parse("4711").unwrap().get(), 4711);
    }

    #[test]
    fn what_is_no_positive_number_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "{1",
            "1}",
            "{}",
            "{{1}}",
            "1.0",
            "1e3",
            "abc",
            " 1",
            "٣",
            "9999999999999999999",
        ] {
            assert!(JobId::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn ids_are_read_from_numbers_and_from_strings_and_written_as_numbers() {
        let ids: Vec<ProjectId> = serde_json::from_str(r#"[42, "42"]"#).unwrap();
        assert_eq!(ids[0], ids[1]);
        assert_eq!(serde_json::to_string(&ids).unwrap(), "[42,42]");
    }
}
