//! Dicts, sparse matrices, data frames and the other encodings that are groups.

use serde_json::Value;

use crate::element::write::place::{encoding, with};
use crate::element::write::tree::{TreeCopy, text};
use crate::error::Result;
use crate::model::ElementKey;
use crate::store::Attributes;

impl TreeCopy {
    pub(super) async fn group(
        &self,
        from: &ElementKey,
        to: &ElementKey,
        attributes: &Attributes,
        depth: u32,
    ) -> Result<()> {
        let tag = text(attributes, "encoding-type");
        match (tag, text(attributes, "encoding-version")) {
            ("" | "csr_matrix" | "csc_matrix", _)
                if !tag.is_empty() || attributes.contains_key("h5sparse_format") =>
            {
                self.sparse(from, to, attributes).await
            }
            ("" | "dict", _) => self.dict(from, to, encoding("dict", "0.1.0"), depth).await,
            ("dataframe", "0.1.0") => self.frame(from, to, attributes, depth, true).await,
            ("dataframe", "0.2.0") => self.frame(from, to, attributes, depth, false).await,
            ("categorical", "0.2.0") => {
                let ordered = attributes.get("ordered").is_some_and(truth);
                let header = with(encoding(tag, "0.2.0"), "ordered", ordered);
                let members = ["codes", "categories"];
                self.members(from, to, header, &members, depth).await
            }
            ("nullable-integer" | "nullable-boolean", "0.1.0") => {
                let header = encoding(tag, "0.1.0");
                let members = ["values", "mask"];
                self.members(from, to, header, &members, depth).await
            }
            ("nullable-string-array", "0.1.0") => {
                let header = keep(encoding(tag, "0.1.0"), attributes, &["na-value"]);
                let members = ["values", "mask"];
                self.members(from, to, header, &members, depth).await
            }
            ("awkward-array", "0.1.0") => {
                let header = keep(encoding(tag, "0.1.0"), attributes, &["form", "length"]);
                self.dict(from, to, header, depth).await
            }
            ("anndata" | "raw", "0.1.0") => {
                self.dict(from, to, encoding(tag, "0.1.0"), depth).await
            }
            _ => Err(self.unsupported(from, attributes)),
        }
    }

    /// A group whose children are elements, whatever they are called.
    async fn dict(
        &self,
        from: &ElementKey,
        to: &ElementKey,
        header: Attributes,
        depth: u32,
    ) -> Result<()> {
        self.create(to, &header).await?;
        for name in self.store.children(from).await? {
            let child = from.child(&name);
            if !self.options.skip.contains(&child) {
                self.node(child, to.child(&name), depth + 1).await?;
            }
        }
        Ok(())
    }

    async fn members(
        &self,
        from: &ElementKey,
        to: &ElementKey,
        header: Attributes,
        members: &[&str],
        depth: u32,
    ) -> Result<()> {
        self.create(to, &header).await?;
        for name in members {
            self.node(from.child(name), to.child(name), depth + 1)
                .await?;
        }
        Ok(())
    }

    async fn sparse(
        &self,
        from: &ElementKey,
        to: &ElementKey,
        attributes: &Attributes,
    ) -> Result<()> {
        let (tag, shape) = match attributes.get("h5sparse_format").and_then(Value::as_str) {
            Some(format) => (format!("{format}_matrix"), "h5sparse_shape"),
            None => (text(attributes, "encoding-type").to_owned(), "shape"),
        };
        if tag != "csr_matrix" && tag != "csc_matrix" {
            return Err(self.invalid(from, format!("a sparse format called {tag}")));
        }
        let shape = attributes
            .get(shape)
            .filter(|shape| {
                shape.as_array().is_some_and(|axes| {
                    axes.len() == 2 && axes.iter().all(|axis| axis.as_u64().is_some())
                })
            })
            .ok_or_else(|| self.invalid(from, format!("no {shape} of two lengths")))?;
        let header = with(encoding(&tag, "0.1.0"), "shape", shape.clone());
        self.create(to, &header).await?;
        for name in ["data", "indices", "indptr"] {
            self.sparse_member(&from.child(name), &to.child(name))
                .await?;
        }
        Ok(())
    }

    /// A data frame; in version 0.1.0 the codes of a categorical are an array that refers to its
    /// categories.
    async fn frame(
        &self,
        from: &ElementKey,
        to: &ElementKey,
        attributes: &Attributes,
        depth: u32,
        legacy: bool,
    ) -> Result<()> {
        let index = match text(attributes, "_index") {
            "" => return Err(self.invalid(from, "a data frame without _index")),
            index => index.to_owned(),
        };
        let order = column_order(attributes);
        let header = with(encoding("dataframe", "0.2.0"), "_index", index.as_str());
        let header = with(header, "column-order", order.clone());
        self.create(to, &header).await?;
        for name in std::iter::once(&index).chain(order.iter().filter(|name| **name != index)) {
            let (column, target) = (from.child(name), to.child(name));
            if legacy
                && let Some(Value::String(path)) =
                    self.store.attributes(&column).await?.get("categories")
            {
                self.legacy_categorical(from, &column, &target, path, depth)
                    .await?;
            } else {
                self.node(column, target, depth + 1).await?;
            }
        }
        Ok(())
    }

    async fn legacy_categorical(
        &self,
        frame: &ElementKey,
        codes: &ElementKey,
        to: &ElementKey,
        path: &str,
        depth: u32,
    ) -> Result<()> {
        // An object reference is a path from the root; zarr wrote a path from the frame.
        let absolute = ElementKey::new(path);
        let categories = match self.store.node(&absolute).await? {
            Some(_) => absolute,
            None => ElementKey::new(format!("{}/{path}", frame.as_str())),
        };
        let ordered = self.store.attributes(&categories).await?;
        let ordered = ordered.get("ordered").is_some_and(truth);
        let header = with(encoding("categorical", "0.2.0"), "ordered", ordered);
        self.create(to, &header).await?;
        self.node(codes.clone(), to.child("codes"), depth + 1)
            .await?;
        self.node(categories, to.child("categories"), depth + 1)
            .await
    }

    async fn create(&self, to: &ElementKey, header: &Attributes) -> Result<()> {
        self.writer.create_group(to, header).await
    }
}

/// Names of the columns; without any, h5py wrote an empty array of floats.
fn column_order(attributes: &Attributes) -> Vec<String> {
    let names = attributes.get("column-order").and_then(Value::as_array);
    names
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// A boolean attribute, which some writers store as a number.
fn truth(value: &Value) -> bool {
    value.as_bool().unwrap_or(value.as_i64() == Some(1))
}

fn keep(mut header: Attributes, attributes: &Attributes, names: &[&str]) -> Attributes {
    for name in names {
        if let Some(value) = attributes.get(*name) {
            header.insert((*name).to_owned(), value.clone());
        }
    }
    header
}
