//! What is merged and how, as a description.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{ElementKey, Location, MergeStrategy};

/// Objects to merge, and the options of `anndata.concat` with its defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeSpec {
    /// The objects, in order.
    pub inputs: Vec<Location>,
    /// Which axis they are stacked along; cells by default.
    pub axis: MergeAxis,
    /// What becomes of what not all objects have; [`Join::Inner`] by default.
    pub join: Join,
    /// Which elements aligned to the other axis are kept; none by default.
    pub merge: Option<MergeStrategy>,
    /// Which elements of `uns` are kept; none by default.
    pub uns_merge: Option<MergeStrategy>,
    /// A column that says which object a row came from.
    pub label: Option<String>,
    /// Whether the others are added to the first object: what stands beside rows is that one's own, and
    /// objects that have a categorical column of the label's name keep its values, which say where their
    /// rows came from.
    #[serde(default)]
    pub extends: bool,
    /// What the objects are called in that column and in names; `0`, `1`, … by default.
    pub keys: Option<Vec<String>>,
    /// Stands between a row's name and its object's key, where names get keys at all.
    pub index_unique: Option<String>,
    /// What stands where an object has no value; 0 in sparse matrices and NaN in dense ones by
    /// default.
    pub fill_value: Option<FillValue>,
    /// Whether square matrices over the stacked axis are kept, as blocks on a diagonal.
    pub pairwise: bool,
    /// Column of the other axis' data frame that names are taken from, in place of the index.
    pub align_on: Option<String>,
    /// Elements that are left out, with all below them.
    pub drop: Vec<ElementKey>,
    /// The genes of the result, in order, in place of a join's; of a merge along cells.
    #[serde(default)]
    pub genes: Option<Vec<String>>,
}

/// An axis to stack along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergeAxis {
    /// Cells: genes are aligned.
    #[default]
    Obs,
    /// Genes: cells are aligned.
    Var,
}

/// What is kept of what not all objects have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Nothing.
    #[default]
    Inner,
    /// All of it.
    Outer,
}

/// A number that fills matrices: whole ones and others promote types differently.
///
/// Travels as text, because JSON has neither NaN nor infinities.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum FillValue {
    /// A whole number, as int64.
    Int(i64),
    /// A float64.
    Float(f64),
}

impl MergeSpec {
    /// A merge of these objects with `anndata.concat`'s defaults.
    pub fn new(inputs: Vec<Location>) -> Self {
        Self {
            inputs,
            axis: MergeAxis::default(),
            join: Join::default(),
            merge: None,
            uns_merge: None,
            label: None,
            extends: false,
            keys: None,
            index_unique: None,
            fill_value: None,
            pairwise: false,
            align_on: None,
            drop: Vec::new(),
            genes: None,
        }
    }

    /// Whether an element is left out.
    pub(super) fn is_dropped(&self, element: &str) -> bool {
        let element = ElementKey::new(element);
        self.drop.iter().any(|dropped| element.is_in(dropped))
    }

    /// What the objects are called, one key each.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] where there is no object, another number of keys than of objects, or
    /// a key twice.
    pub fn keys(&self) -> Result<Vec<String>> {
        let n = self.inputs.len();
        if n == 0 {
            return Err(Error::option("merge", "there is nothing to merge"));
        }
        let Some(keys) = &self.keys else {
            return Ok((0..n).map(|at| at.to_string()).collect());
        };
        if keys.len() != n {
            let reason = format!("{} keys for {n} objects", keys.len());
            return Err(Error::option("--keys", reason));
        }
        let twice = keys
            .iter()
            .enumerate()
            .find(|(at, key)| keys[..*at].contains(key));
        match twice {
            Some((_, key)) => Err(Error::option("--keys", format!("'{key}' is there twice"))),
            None => Ok(keys.clone()),
        }
    }
}

impl FromStr for MergeAxis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "obs" | "0" => Ok(Self::Obs),
            "var" | "1" => Ok(Self::Var),
            _ => Err(format!("'{text}' is neither obs nor var")),
        }
    }
}

impl FromStr for Join {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "inner" => Ok(Self::Inner),
            "outer" => Ok(Self::Outer),
            _ => Err(format!("'{text}' is neither inner nor outer")),
        }
    }
}

impl FromStr for FillValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(value) = text.parse() {
            return Ok(Self::Int(value));
        }
        let value = text.parse().map_err(|_| format!("'{text}' is no number"))?;
        Ok(Self::Float(value))
    }
}

impl From<FillValue> for String {
    fn from(value: FillValue) -> Self {
        match value {
            FillValue::Int(value) => value.to_string(),
            // Not as `Display` has it, which takes the point from whole numbers.
            FillValue::Float(value) => format!("{value:?}"),
        }
    }
}

impl TryFrom<String> for FillValue {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for MergeAxis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Obs => "obs",
            Self::Var => "var",
        })
    }
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inner => "inner",
            Self::Outer => "outer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_unless_given() {
        let mut spec = MergeSpec::new(vec![Location::parse("a"), Location::parse("b")]);
        assert_eq!(spec.keys().unwrap(), ["0", "1"]);
        spec.keys = Some(vec!["x".to_owned()]);
        assert!(spec.keys().is_err());
        spec.keys = Some(vec!["x".to_owned(); 2]);
        assert!(spec.keys().unwrap_err().to_string().contains("twice"));
        assert!(MergeSpec::new(Vec::new()).keys().is_err());
    }

    #[test]
    fn whole_numbers_fill_as_such() {
        assert_eq!("5".parse(), Ok(FillValue::Int(5)));
        assert_eq!("0.0".parse(), Ok(FillValue::Float(0.)));
        assert!(matches!("nan".parse(), Ok(FillValue::Float(f)) if f.is_nan()));
    }

    #[test]
    fn fills_travel_whatever_they_are() {
        let floats = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            3.0,
            1e300,
            5e-324,
        ];
        let fills = floats
            .map(FillValue::Float)
            .into_iter()
            .chain([FillValue::Int(3)]);
        let mut texts = Vec::new();
        for fill in fills {
            let text = serde_json::to_string(&fill).unwrap();
            let back: FillValue = serde_json::from_str(&text).unwrap();
            match (fill, back) {
                (FillValue::Float(a), FillValue::Float(b)) => assert_eq!(a.to_bits(), b.to_bits()),
                _ => assert_eq!(fill, back),
            }
            assert!(!texts.contains(&text), "{text}");
            texts.push(text);
        }
    }
}
