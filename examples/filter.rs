//! Keeps some cells and genes: `cargo run --example filter -- cells.h5ad b.h5ad`.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::Arc;

use annfusion::model::Location;
use annfusion::ops::{FilterOptions, GeneList, Quiet, RunOptions, filter};

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let mut args = std::env::args().skip(1);
    let options = FilterOptions {
        input: Location::parse(&args.next().unwrap_or("cells.h5ad".into())),
        output: args.next().unwrap_or("b.h5ad".into()).into(),
        obs_column: None,
        csv: None,
        predicate: Some("cell_type = 'B' AND total_counts(X) > 100".into()),
        genes: Some(GeneList(vec!["MS4A1".into(), "CD79A".into()])),
        run: RunOptions::default(),
    };
    let report = filter(&options).await?.run(Arc::new(Quiet)).await?;
    println!(
        "{} cells kept",
        report.outputs.iter().map(|o| o.n_obs).sum::<u64>()
    );
    Ok(())
}
