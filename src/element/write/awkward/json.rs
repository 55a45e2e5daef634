//! JSON whose numbers stay text: a parser that rounds them by the way would change float32 values.

use std::iter::Peekable;
use std::str::CharIndices;

/// Deeper values do not come from any form.
const MAX_DEPTH: usize = 256;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl<'a> Json<'a> {
    /// Parses a text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let mut parser = Parser {
            text,
            chars: text.char_indices().peekable(),
        };
        let value = parser.value(0)?;
        match parser.next_token() {
            None => Ok(value),
            Some((at, _)) => Err(format!("text after the JSON value, at byte {at}")),
        }
    }

    /// What kind of value it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "a missing value",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a record",
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Parser<'a> {
    fn next_token(&mut self) -> Option<(usize, char)> {
        while self
            .chars
            .next_if(|(_, c)| c.is_ascii_whitespace())
            .is_some()
        {}
        self.chars.peek().copied()
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("values nested more than {MAX_DEPTH} deep"));
        }
        let (at, first) = self.next_token().ok_or("the JSON text ends early")?;
        match first {
            '[' => {
                let mut items = Vec::new();
                self.items(']', |parser| {
                    items.push(parser.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Json::List(items))
            }
            '{' => {
                let mut members = Vec::new();
                self.items('}', |parser| {
                    parser.next_token();
                    let name = parser.string()?;
                    parser.expect(':')?;
                    members.push((name, parser.value(depth + 1)?));
                    Ok(())
                })?;
                Ok(Json::Map(members))
            }
            '"' => Ok(Json::Text(self.string()?)),
            _ => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                let mut end = at;
                while let Some((i, c)) = self.chars.next_if(|(_, c)| plain(*c)) {
                    end = i + c.len_utf8();
                }
                match &self.text[at..end] {
                    "null" => Ok(Json::Null),
                    "true" => Ok(Json::Bool(true)),
                    "false" => Ok(Json::Bool(false)),
                    word if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                        Ok(Json::Number(word))
                    }
                    _ => Err(format!("no JSON value at byte {at}")),
                }
            }
        }
    }

    /// Items between the bracket that is next and `close`.
    fn items(
        &mut self,
        close: char,
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.chars.next();
        if matches!(self.next_token(), Some((_, c)) if c == close) {
            self.chars.next();
            return Ok(());
        }
        loop {
            item(self)?;
            match self.next_token() {
                Some((_, ',')) => self.chars.next(),
                Some((_, c)) if c == close => {
                    self.chars.next();
                    return Ok(());
                }
                _ => return Err(format!("a list or record without its '{close}'")),
            };
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.next_token() {
            Some((_, c)) if c == wanted => {
                self.chars.next();
                Ok(())
            }
            _ => Err(format!("'{wanted}' is missing")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let (start, _) = self
            .chars
            .next_if(|(_, c)| *c == '"')
            .ok_or("a name or text without its quote")?;
        let mut escaped = false;
        let mut plain = true;
        for (i, c) in self.chars.by_ref() {
            match c {
                _ if escaped => escaped = false,
                '\\' => (escaped, plain) = (true, false),
                '"' if plain => return Ok(self.text[start + 1..i].to_owned()),
                '"' => {
                    return serde_json::from_str(&self.text[start..=i])
                        .map_err(|error| error.to_string());
                }
                _ => {}
            }
        }
        Err("text without its closing quote".to_owned())
    }
}
