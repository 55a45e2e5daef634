//! `annfusion inspect`: a tree of elements, or JSON.

use serde_json::{Value, json};

use super::args::{Global, InspectArgs};
use super::print::{print, print_error, print_json};
use super::run::Outcome;
use super::size::{show_bytes, show_count};
use crate::element::ElementInfo;
use crate::error::Result;
use crate::model::Location;
use crate::ops::{Inspection, inspect};

/// Runs the command.
pub(super) async fn run(args: InspectArgs, global: Global) -> Result<Outcome> {
    let found = inspect(&Location::parse(&args.input)).await?;
    if global.json {
        print_json(&as_json(&found))?;
    } else {
        print(&as_text(&found))?;
    }
    for lost in &found.lost {
        print_error(&format!("warning: {lost}"));
    }
    Ok(Outcome::Done)
}

fn as_json(found: &Inspection) -> Value {
    let element = |e: &ElementInfo| {
        json!({
            "path": e.key.as_str(),
            "encoding_type": e.encoding_type,
            "encoding_version": e.encoding_version,
            "shape": e.shape,
            "dtype": e.dtype,
            "nnz": e.nnz,
            "chunks": e.chunk_shape,
            "compression": e.compression,
            "bytes": e.stored_bytes,
        })
    };
    json!({
        "location": found.location.to_string(),
        "format": found.format,
        "bytes": found.bytes,
        "n_obs": found.n_obs,
        "n_vars": found.n_vars,
        "lost": found.lost,
        "elements": found.elements.iter().map(element).collect::<Vec<_>>(),
    })
}

fn as_text(found: &Inspection) -> String {
    let mut text = format!("{}  {}", found.location, found.format);
    if let Some(bytes) = found.bytes {
        text.push_str(&format!("  {}", show_bytes(bytes)));
    }
    text.push('\n');
    if let (Some(n_obs), Some(n_vars)) = (found.n_obs, found.n_vars) {
        text.push_str(&format!(
            "{} cells × {} genes\n",
            show_count(n_obs),
            show_count(n_vars)
        ));
    }
    text.push('\n');
    let rows: Vec<[String; 7]> = found.elements.iter().map(row).collect();
    let header = [
        "element", "encoding", "shape", "dtype", "chunks", "filter", "bytes",
    ]
    .map(str::to_owned);
    let mut widths = header.each_ref().map(|cell| cell.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            // Bytes are numbers, so they stand right.
            let (before, after) = if i == 6 {
                (pad.as_str(), "")
            } else {
                ("", pad.as_str())
            };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.pop();
    text
}

fn row(e: &ElementInfo) -> [String; 7] {
    let path = e.key.as_str();
    let depth = path.matches('/').count();
    let mut shape = join(&e.shape);
    if let Some(nnz) = e.nnz {
        shape.push_str(&format!(", {} stored", show_count(nnz)));
    }
    [
        format!("{}{}", "  ".repeat(depth), e.key.name()),
        e.encoding_type.clone(),
        shape,
        short(&e.dtype),
        e.chunk_shape.as_deref().map(join).unwrap_or_default(),
        e.compression.clone(),
        show_bytes(e.stored_bytes),
    ]
}

/// A type in so many letters that lines stay readable: records name every field.
fn short(dtype: &str) -> String {
    const MOST: usize = 40;
    match dtype.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &dtype[..end]),
        None => dtype.to_owned(),
    }
}

fn join(lengths: &[u64]) -> String {
    let shown: Vec<_> = lengths.iter().map(|n| show_count(*n)).collect();
    shown.join(" × ")
}
