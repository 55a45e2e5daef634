//! Cuts an object into shards of 1,000 cells: `cargo run --example slice -- cells.h5ad part`.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::Arc;

use annfusion::model::Location;
use annfusion::ops::{Cut, Quiet, RunOptions, SliceOptions, slice};

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let mut args = std::env::args().skip(1);
    let options = SliceOptions {
        input: Location::parse(&args.next().unwrap_or("cells.h5ad".into())),
        prefix: args.next().unwrap_or("part".into()).into(),
        cut: Cut::Size(1_000),
        csv: None,
        predicate: None,
        genes: None,
        shuffle: None,
        output_names: None,
        run: RunOptions::default(),
    };
    let report = slice(&options).await?.run(Arc::new(Quiet)).await?;
    for output in report.outputs {
        println!("{}: {} cells", output.path.display(), output.n_obs);
    }
    Ok(())
}
