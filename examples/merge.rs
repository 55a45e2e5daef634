//! Merges objects with different genes into one, keeping everything:
//! `cargo run --example merge -- all.h5ad a.h5ad b.zarr`.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::Arc;

use annfusion::model::{Location, MergeStrategy};
use annfusion::ops::{MergeOptions, Quiet, RunOptions, merge};
use annfusion::plan::merge::{Join, MergeSpec};

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let mut args = std::env::args().skip(1);
    let output = args.next().unwrap_or("all.h5ad".into());
    let inputs = args.map(|input| Location::parse(&input)).collect();
    let spec = MergeSpec {
        join: Join::Outer,
        merge: Some(MergeStrategy::First),
        label: Some("source".to_owned()),
        ..MergeSpec::new(inputs)
    };
    let options = MergeOptions {
        spec,
        output: output.into(),
        run: RunOptions::default(),
    };
    let prepared = merge(&options).await?;
    for line in &prepared.estimate().details {
        println!("{line}");
    }
    let report = prepared.run(Arc::new(Quiet)).await?;
    for warning in &report.warnings {
        println!("note: {warning}");
    }
    Ok(())
}
