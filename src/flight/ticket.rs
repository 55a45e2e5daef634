//! What a client asks with.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loader::{LoaderOptions, Position};

/// The version of tickets.
const VERSION: u32 = 1;
/// Bytes of a message that every client takes by default: gRPC's limit is 4 MiB.
pub(super) const MESSAGE: usize = 3_500_000;

/// Bytes of a message that can be asked for at most.
const LARGEST_MESSAGE: usize = 1 << 30;

/// A stream of minibatches, described as a whole: JSON, all of whose members but `objects` have
/// defaults.
///
/// ```json
/// {"version": 1, "objects": ["coll"], "batch_size": 4096, "obs": ["cell_type"], "seed": 7, "epoch": 2}
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// 1.
    #[serde(default = "version")]
    pub version: u32,
    /// Names of served objects, whose cells are numbered one object after another.
    pub objects: Vec<String>,
    /// Which epoch; 0 by default.
    #[serde(default)]
    pub epoch: u64,
    /// What of the epoch is done already; nothing by default. Its epoch is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// In how many parts `GetFlightInfo` gives the epoch, for as many readers; 1 by default.
    #[serde(default = "one")]
    pub endpoints: u64,
    /// Bytes of a message at most, for clients that take larger ones than gRPC's default; 3,500,000
    /// by default.
    #[serde(default = "message")]
    pub message_bytes: usize,
    /// What is loaded and how: the members of [`LoaderOptions`] beside these.
    #[serde(flatten)]
    pub options: LoaderOptions,
}

fn version() -> u32 {
    VERSION
}

fn one() -> u64 {
    1
}

fn message() -> usize {
    MESSAGE
}

impl Ticket {
    /// A ticket for an object with the loader's defaults.
    pub fn new(object: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            objects: vec![object.into()],
            epoch: 0,
            position: None,
            endpoints: 1,
            message_bytes: MESSAGE,
            options: LoaderOptions::default(),
        }
    }

    /// A ticket from its JSON.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for what is no ticket, or of another version.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |reason: String| Error::option("ticket", reason);
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| bad(format!("it is no JSON: {e}")))?;
        let members = value
            .as_object()
            .ok_or_else(|| bad("it is no object".to_owned()))?;
        // `flatten` takes no part in serde's own check for members that are not known.
        let known = serde_json::to_value(Self::new("x")).ok();
        let known = known.as_ref().and_then(serde_json::Value::as_object);
        let is_known = |name: &String| {
            name == "position" || known.is_some_and(|known| known.contains_key(name))
        };
        if let Some(unknown) = members.keys().find(|name| !is_known(name)) {
            return Err(bad(format!("'{unknown}' is no member of a ticket")));
        }
        let ticket: Self = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;
        if ticket.version != VERSION {
            let reason = format!(
                "version {} is not {VERSION}, the one known here",
                ticket.version
            );
            return Err(bad(reason));
        }
        if ticket.endpoints == 0 || ticket.endpoints > 4096 {
            return Err(bad(format!(
                "{} endpoints are not between 1 and 4096",
                ticket.endpoints
            )));
        }
        if ticket.message_bytes > LARGEST_MESSAGE {
            return Err(bad(format!(
                "{} message_bytes are more than {LARGEST_MESSAGE}",
                ticket.message_bytes
            )));
        }
        if ticket.epoch >= 1 << 40 {
            return Err(bad(format!("there is no epoch {}", ticket.epoch)));
        }
        if ticket
            .position
            .as_ref()
            .is_some_and(|position| position.epoch != ticket.epoch)
        {
            return Err(bad("its position is of another epoch".to_owned()));
        }
        Ok(ticket)
    }

    /// The JSON schema of tickets.
    pub fn schema() -> &'static str {
        include_str!("ticket.schema.json")
    }

    /// Its JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Where its stream begins.
    pub fn start(&self) -> Position {
        let start = || Position::start(self.epoch);
        self.position.clone().unwrap_or_else(start)
    }

    /// A ticket for each part of its stream, which together have all of it.
    pub fn parts(&self) -> Vec<Self> {
        let parts = self.endpoints;
        let of = |part: u64| Self {
            endpoints: 1,
            options: LoaderOptions {
                // Cuts of cuts are those of the whole into as many.
                part: self.options.part.saturating_mul(parts).saturating_add(part),
                parts: self.options.parts.saturating_mul(parts),
                ..self.options.clone()
            },
            ..self.clone()
        };
        (0..parts).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::loader::Sampling;

    #[test]
    fn what_is_not_said_has_a_default() {
        let ticket =
            Ticket::parse(br#"{"objects": ["a"], "batch_size": 64, "where": "n > 3"}"#).unwrap();
        assert_eq!(ticket.options.batch_size, 64);
        assert_eq!(ticket.options.predicate.as_deref(), Some("n > 3"));
        assert_eq!(
            ticket.options.chunk_size,
            LoaderOptions::default().chunk_size
        );
        assert_eq!(Ticket::parse(ticket.to_json().as_bytes()).unwrap(), ticket);
        let text = br#"{"objects": ["a"], "sampling": {"classes": {"column": "kind"}}}"#;
        let sampling = Ticket::parse(text).unwrap().options.sampling;
        assert!(matches!(
            sampling,
            Sampling::Classes {
                num_samples: None,
                ..
            }
        ));
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"objects": "a"}"#,
            r#"{"objects": ["a"], "version": 2}"#,
            r#"{"objects": ["a"], "batchsize": 64}"#,
            r#"{"objects": ["a"], "batch_size": -1}"#,
            r#"{"objects": ["a"], "endpoints": 0}"#,
            r#"{"objects": ["a"], "position": {"epoch": 3, "done": {"ranges": []}}}"#,
        ] {
            assert!(Ticket::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_schema_knows_every_member_and_its_default() {
        let schema: Value = serde_json::from_str(Ticket::schema()).unwrap();
        let described = schema["properties"].as_object().unwrap();
        let ticket = serde_json::to_value(Ticket::new("a")).unwrap();
        for (name, default) in ticket.as_object().unwrap() {
            let member = described.get(name);
            let member = member.unwrap_or_else(|| panic!("{name} is not described"));
            assert!(
                name == "objects" || member.get("default") == Some(default),
                "{name}"
            );
        }
        // A position is left out where there is none.
        assert_eq!(described.len(), ticket.as_object().unwrap().len() + 1);
    }

    #[test]
    fn parts_of_parts_are_parts() {
        let mut ticket = Ticket::new("a");
        (ticket.endpoints, ticket.options.part, ticket.options.parts) = (3, 1, 2);
        let parts = ticket.parts();
        let parts: Vec<_> = parts
            .iter()
            .map(|t| (t.options.part, t.options.parts))
            .collect();
        assert_eq!(parts, [(3, 6), (4, 6), (5, 6)]);
    }
}
