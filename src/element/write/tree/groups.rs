//! Dicts, sparse matrices, data frames and the other encodings that are groups.

use serde_json::Value;

use crate::element::categorical::truth;
use crate::element::frame::column_names;
use crate::element::node::Encoding;
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
        depth: usize,
    ) -> Result<()> {
        let tag = text(attributes, "encoding-type");
        let version = text(attributes, "encoding-version");
        let known = match (tag, attributes.contains_key("h5sparse_format")) {
            ("", true) => Encoding::Csr,
            ("", false) => Encoding::Dict,
            _ => Encoding::of(tag, version).ok_or_else(|| self.unsupported(from, attributes))?,
        };
        match known {
            Encoding::Csr | Encoding::Csc => self.sparse(from, to, attributes).await,
            Encoding::Dict => self.dict(from, to, encoding("dict", "0.1.0"), depth).await,
            Encoding::DataFrame => {
                let legacy = version != "0.2.0";
                self.frame(from, to, attributes, depth, legacy).await
            }
            Encoding::Categorical => {
                let ordered = truth(attributes.get("ordered"));
                let header = with(encoding(tag, "0.2.0"), "ordered", ordered);
                let members = ["codes", "categories"];
                self.members(from, to, header, &members, depth).await
            }
            Encoding::NullableInteger | Encoding::NullableBoolean => {
                let header = encoding(tag, "0.1.0");
                let members = ["values", "mask"];
                self.members(from, to, header, &members, depth).await
            }
            Encoding::NullableString => {
                let header = keep(encoding(tag, "0.1.0"), attributes, &["na-value"]);
                let members = ["values", "mask"];
                self.members(from, to, header, &members, depth).await
            }
            Encoding::Awkward => {
                let header = keep(encoding(tag, "0.1.0"), attributes, &["form", "length"]);
                self.dict(from, to, header, depth).await
            }
            Encoding::AnnData | Encoding::Raw => {
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
        depth: usize,
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
        depth: usize,
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
        depth: usize,
        legacy: bool,
    ) -> Result<()> {
        let index = match text(attributes, "_index") {
            "" => return Err(self.invalid(from, "a data frame without _index")),
            index => index.to_owned(),
        };
        let order = match attributes.get("column-order") {
            Some(order) => column_names(order).ok_or_else(|| {
                self.invalid(
                    from,
                    format!("attribute column-order is {order}, not names"),
                )
            })?,
            None => Vec::new(),
        };
        let order: Vec<String> = order
            .into_iter()
            .filter(|name| !self.options.skip.contains(&from.child(name)))
            .collect();
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
        depth: usize,
    ) -> Result<()> {
        // An object reference is a path from the root; zarr wrote a path from the frame.
        let absolute = ElementKey::new(path);
        let categories = match self.store.node(&absolute).await? {
            Some(_) => absolute,
            None => ElementKey::new(format!("{}/{path}", frame.as_str())),
        };
        let ordered = self.store.attributes(&categories).await?;
        let ordered = truth(ordered.get("ordered"));
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

fn keep(mut header: Attributes, attributes: &Attributes, names: &[&str]) -> Attributes {
    for name in names {
        if let Some(value) = attributes.get(*name) {
            header.insert((*name).to_owned(), value.clone());
        }
    }
    header
}
