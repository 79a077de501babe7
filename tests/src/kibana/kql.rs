//! Kibana's query language, as far as our objects use it, turned into Elasticsearch's. There is no such parser to be had
//! for Rust. It is strict: what it does not know is an error, and not a query for something else.

use std::iter::Peekable;
use std::str::Chars;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// A query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kql {
    /// The empty text.
    All,
    /// `field : *`
    Exists(String),
    /// `field : value`, the value as it stands or between quotes.
    Is(String, String),
    /// `field >= value` and the like: the comparison as Elasticsearch names it.
    Range(String, &'static str, String),
    /// `a and b`
    And(Box<Kql>, Box<Kql>),
    /// `a or b`
    Or(Box<Kql>, Box<Kql>),
    /// `not a`
    Not(Box<Kql>),
}

impl Kql {
    /// Reads a query.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        if tokens.peek().is_none() {
            return Ok(Self::All);
        }
        let mut parser = Parser { tokens };
        let kql = parser.or()?;
        match parser.tokens.next() {
            None => Ok(kql),
            Some(more) => bail!("{text}: {more:?} is too much"),
        }
    }

    /// The same for Elasticsearch, as Kibana asks it.
    pub fn query(&self) -> Value {
        match self {
            Self::All => json!({"match_all": {}}),
            Self::Exists(field) => json!({"exists": {"field": field}}),
            Self::Is(field, value) => json!({"match_phrase": {field: value}}),
            Self::Range(field, comparison, value) => {
                json!({"range": {field: {*comparison: value}}})
            }
            Self::And(a, b) => json!({"bool": {"filter": [a.query(), b.query()]}}),
            Self::Or(a, b) => {
                json!({"bool": {"should": [a.query(), b.query()], "minimum_should_match": 1}})
            }
            Self::Not(a) => json!({"bool": {"must_not": [a.query()]}}),
        }
    }

    /// The fields that it names.
    pub fn fields(&self) -> Vec<&str> {
        match self {
            Self::All => Vec::new(),
            Self::Exists(field) | Self::Is(field, _) | Self::Range(field, ..) => vec![field],
            Self::And(a, b) | Self::Or(a, b) => [a.fields(), b.fields()].concat(),
            Self::Not(a) => a.fields(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Colon,
    Star,
    Compare(&'static str),
    Quoted(String),
    Word(String),
}

impl Token {
    /// Whether it is this word, which KQL takes in any case.
    fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(it) if it.eq_ignore_ascii_case(word))
    }
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut chars = text.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(&next) = chars.peek() {
        if next.is_whitespace() {
            chars.next();
            continue;
        }
        tokens.push(token(&mut chars, text)?);
    }
    Ok(tokens)
}

fn token(chars: &mut Peekable<Chars<'_>>, text: &str) -> Result<Token> {
    let is_of_word = |it: &char| it.is_alphanumeric() || "@._-".contains(*it);
    let mut word = String::new();
    while let Some(next) = chars.next_if(is_of_word) {
        word.push(next);
    }
    if !word.is_empty() {
        return Ok(Token::Word(word));
    }
    Ok(match chars.next() {
        Some('(') => Token::Open,
        Some(')') => Token::Close,
        Some(':') => Token::Colon,
        Some('*') => Token::Star,
        Some('>') => Token::Compare(chars.next_if_eq(&'=').map_or("gt", |_| "gte")),
        Some('<') => Token::Compare(chars.next_if_eq(&'=').map_or("lt", |_| "lte")),
        Some('"') => {
            let quoted: String = chars.by_ref().take_while(|it| *it != '"').collect();
            ensure!(!quoted.contains('\\'), "{text}: escapes are not known here");
            Token::Quoted(quoted)
        }
        other => bail!("{text}: {other:?} is not known here"),
    })
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn or(&mut self) -> Result<Kql> {
        let mut left = self.and()?;
        while self.tokens.next_if(|it| it.is("or")).is_some() {
            left = Kql::Or(left.into(), self.and()?.into());
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Kql> {
        let mut left = self.not()?;
        while self.tokens.next_if(|it| it.is("and")).is_some() {
            left = Kql::And(left.into(), self.not()?.into());
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Kql> {
        if self.tokens.next_if(|it| it.is("not")).is_some() {
            return Ok(Kql::Not(self.not()?.into()));
        }
        if self.tokens.next_if_eq(&Token::Open).is_some() {
            let inner = self.or()?;
            self.close()?;
            return Ok(inner);
        }
        self.about_a_field()
    }

    fn about_a_field(&mut self) -> Result<Kql> {
        let Some(Token::Word(field)) = self.tokens.next() else {
            bail!("a field is missing");
        };
        match self.tokens.next() {
            Some(Token::Compare(comparison)) => Ok(Kql::Range(field, comparison, self.value()?)),
            Some(Token::Colon) if self.tokens.next_if_eq(&Token::Star).is_some() => {
                Ok(Kql::Exists(field))
            }
            Some(Token::Colon) if self.tokens.next_if_eq(&Token::Open).is_some() => {
                self.one_of(&field)
            }
            Some(Token::Colon) => Ok(Kql::Is(field, self.value()?)),
            other => bail!("{other:?} after {field}"),
        }
    }

    /// `(a or b or c)` after a field's colon.
    fn one_of(&mut self, field: &str) -> Result<Kql> {
        let mut all = Kql::Is(field.into(), self.value()?);
        while self.tokens.next_if(|it| it.is("or")).is_some() {
            let next = Kql::Is(field.into(), self.value()?);
            all = Kql::Or(all.into(), next.into());
        }
        self.close()?;
        Ok(all)
    }

    fn value(&mut self) -> Result<String> {
        match self.tokens.next() {
            Some(Token::Word(value) | Token::Quoted(value)) => Ok(value),
            other => bail!("{other:?} is no value"),
        }
    }

    fn close(&mut self) -> Result<()> {
        match self.tokens.next() {
            Some(Token::Close) => Ok(()),
            other => bail!("{other:?} where a parenthesis closes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_that_of_elasticsearch() {
        for (kql, query) in [
            ("", json!({"match_all": {}})),
            ("job_id : *", json!({"exists": {"field": "job_id"}})),
            ("level: error", json!({"match_phrase": {"level": "error"}})),
            (
                "job_name:\"build: [1]\"",
                json!({"match_phrase": {"job_name": "build: [1]"}}),
            ),
            (
                "gap_ms >= 5000",
                json!({"range": {"gap_ms": {"gte": "5000"}}}),
            ),
            (
                "a : 1 and not b : 2",
                json!({"bool": {"filter": [
                    {"match_phrase": {"a": "1"}},
                    {"bool": {"must_not": [{"match_phrase": {"b": "2"}}]}},
                ]}}),
            ),
            (
                "a : (1 or 2)",
                json!({"bool": {
                    "should": [{"match_phrase": {"a": "1"}}, {"match_phrase": {"a": "2"}}],
                    "minimum_should_match": 1,
                }}),
            ),
        ] {
            assert_eq!(Kql::parse(kql).unwrap().query(), query, "{kql}");
        }
    }

    #[test]
    fn and_binds_more_than_or_and_parentheses_more_than_both() {
        let parse = |text| Kql::parse(text).unwrap();
        assert_eq!(parse("a:1 or b:2 AND c:3"), parse("a:1 or (b:2 and c:3)"));
        assert_ne!(parse("(a:1 or b:2) and c:3"), parse("a:1 or b:2 and c:3"));
        assert_eq!(parse("a:1 or b:2 and not c>3").fields(), ["a", "b", "c"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "word",
            "a : ",
            "a : b*",
            "a : 1 b : 2",
            "(a : 1",
            "a : (1 and 2)",
            "a : {b : 1}",
            "a > *",
            "a : \"x\\\"y\"",
            "and",
        ] {
            assert!(Kql::parse(text).is_err(), "{text}");
        }
    }
}
