//! Opens an object and says what is in it: `cargo run --example open -- cells.h5ad`.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use annfusion::element::AnnData;
use annfusion::model::Location;

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let path = std::env::args().nth(1).unwrap_or("cells.h5ad".into());
    let object = AnnData::open(&Location::parse(&path)).await?;
    println!("{} cells × {} genes", object.n_obs(), object.n_vars());
    for column in object.obs().columns() {
        println!(
            "obs/{}: {}",
            column.field().name(),
            column.field().data_type()
        );
    }
    for element in object.elements().await? {
        println!(
            "{} {} {:?}",
            element.key, element.encoding_type, element.shape
        );
    }
    Ok(())
}
