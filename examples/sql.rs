//! SQL to Arrow batches: `cargo run --example sql -- cells.h5ad`.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use annfusion::session::Session;
use arrow::util::pretty::pretty_format_batches;

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let path = std::env::args().nth(1).unwrap_or("cells.h5ad".into());
    let session = Session::try_new()?;
    session.open(&path).await?;
    let batches = session
        .collect(
            "SELECT cell_type, count(*) AS cells, avg(total_counts(X)) AS depth \
             FROM cells GROUP BY cell_type ORDER BY cells DESC",
        )
        .await?;
    println!("{}", pretty_format_batches(&batches)?);
    Ok(())
}
