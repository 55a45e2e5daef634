//! Minibatches of a collection, as training uses them: two epochs, and one that goes on where it was
//! left.
//!
//! `cargo run --release --example train_loader -- coll.zarr`

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use annfusion::loader::{Loader, LoaderOptions};
use annfusion::model::Location;
use arrow::array::AsArray;

#[tokio::main]
async fn main() -> Result<(), annfusion::Error> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "coll.zarr".into());
    let options = LoaderOptions {
        batch_size: 1024,
        chunk_size: 64,
        preload_nchunks: 64,
        normalize_total: Some(1e4),
        log1p: true,
        ..LoaderOptions::default()
    };
    let loader = Loader::open(&[Location::parse(&path)], options).await?;
    let mut position = None;
    for epoch in 0..2 {
        let mut minibatches = loader.epoch(epoch);
        let (mut cells, mut entries) = (0, 0);
        while let Some(minibatch) = minibatches.next().await.transpose()? {
            // Here a model would learn from it.
            let x = minibatch.batch.column(0).as_list::<i32>();
            cells += minibatch.batch.num_rows();
            entries += x.values().len();
            position.get_or_insert_with(|| minibatches.position().clone());
        }
        println!("epoch {epoch}: {cells} cells, {entries} entries");
    }
    if let Some(position) = position {
        let left = loader.resume(&position).left();
        println!(
            "after the first minibatch of epoch {} there were {left} to come",
            position.epoch
        );
    }
    Ok(())
}
