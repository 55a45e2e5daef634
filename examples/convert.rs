//! Converts an object to sharded zarr in chunks of a hundred cells:
//! `cargo run --example convert -- cells.h5ad cells.zarr`.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::sync::Arc;

use annfusion::element::Amount;
use annfusion::model::Location;
use annfusion::ops::{ConvertOptions, Quiet, RunOptions, convert};
use annfusion::sink::StorageChoice;
use annfusion::store::Format;

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let mut args = std::env::args().skip(1);
    let choice = StorageChoice {
        compression: Some("blosc-lz4".to_owned()),
        chunk_size: Some(Amount::Cells(100)),
        ..StorageChoice::default()
    };
    let options = ConvertOptions {
        input: Location::parse(&args.next().unwrap_or("cells.h5ad".into())),
        output: args.next().unwrap_or("cells.zarr".into()).into(),
        drop: Vec::new(),
        sparse: Vec::new(),
        dense: Vec::new(),
        genes: None,
        run: RunOptions {
            storage: choice.in_format(Format::ZARR)?,
            ..RunOptions::default()
        },
    };
    let report = convert(&options).await?.run(Arc::new(Quiet)).await?;
    for output in report.outputs {
        println!("{}: {} bytes", output.path.display(), output.bytes);
    }
    Ok(())
}
