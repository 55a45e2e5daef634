//! Asks an object in a bucket, without a copy of it: `cargo run --example open_s3 -- s3://bucket/cells.zarr`.
//!
//! Credentials are those of the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
//! AWS_ENDPOINT_URL, or AWS_SKIP_SIGNATURE=true for a bucket that everybody may read. The same goes
//! for gs://, az:// and https:// URLs with theirs.

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use annfusion::session::Session;
use arrow::util::pretty::pretty_format_batches;

#[tokio::main]
async fn main() -> annfusion::Result<()> {
    let url = std::env::args().nth(1);
    let url = url.unwrap_or("s3://bucket/cells.zarr".into());
    let session = Session::try_new()?;
    session.open(&url).await?;
    let batches = session
        .collect("SELECT cell_type, count(*) AS n FROM obs GROUP BY cell_type ORDER BY n DESC")
        .await?;
    println!("{}", pretty_format_batches(&batches)?);
    Ok(())
}
