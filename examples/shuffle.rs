//! Shuffles the cells of objects exactly, into ten shards: `cargo run --example shuffle -- a.h5ad b.h5ad`.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::Arc;

use annfusion::model::Location;
use annfusion::ops::{Quiet, RunOptions, Shards, ShuffleOptions, shuffle};
use annfusion::plan::Shuffle;

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let inputs: Vec<Location> = std::env::args()
        .skip(1)
        .map(|path| Location::parse(&path))
        .collect();
    let options = ShuffleOptions {
        inputs,
        output: "shuffled.h5ad".into(),
        shards: Shards::Count(10),
        shuffle: Shuffle::new(42),
        genes: None,
        run: RunOptions {
            memory_limit: Some(512 << 20),
            ..RunOptions::default()
        },
    };
    let prepared = shuffle(&options).await?;
    println!("{}", prepared.explain());
    let report = prepared.run(Arc::new(Quiet)).await?;
    for output in report.outputs {
        println!("{}: {} cells", output.path.display(), output.n_obs);
    }
    Ok(())
}
