//! Minibatches from a server, as training uses them: half an epoch, and the rest of it over a new
//! connection.
//!
//! `annfusion serve coll.zarr`, and beside it
//! `cargo run --release --example train_flight -- http://127.0.0.1:50051 coll`

#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use annfusion::flight::{Client, ClientOptions, Received, Ticket};

#[tokio::main]
async fn main() -> Result<(), annfusion::Error> {
    let mut args = std::env::args().skip(1);
    let url = args
        .next()
        .unwrap_or_else(|| "http://127.0.0.1:50051".into());
    let object = args.next().unwrap_or_else(|| "coll".into());
    let mut ticket = Ticket::new(object);
    ticket.options.batch_size = 1024;
    ticket.options.seed = 7;
    // Messages may be larger than gRPC's usual limit: this client takes them.
    ticket.message_bytes = 16 << 20;

    let client = Client::connect(&url, &ClientOptions::default()).await?;
    println!("served: {}", client.names().await?.join(", "));
    let mut minibatches = client.minibatches(&ticket).await?;
    println!("{} cells", train(&mut minibatches, 10).await?);

    // Whoever goes on needs nothing but where this one stopped.
    ticket.position = Some(minibatches.position().clone());
    let client = Client::connect(&url, &ClientOptions::default()).await?;
    let mut minibatches = client.minibatches(&ticket).await?;
    println!("{} more", train(&mut minibatches, usize::MAX).await?);
    Ok(())
}

/// Takes so many minibatches at most; how many cells they had.
async fn train(minibatches: &mut Received, most: usize) -> Result<usize, annfusion::Error> {
    let mut cells = 0;
    for _ in 0..most {
        let Some(minibatch) = minibatches.next().await.transpose()? else {
            break;
        };
        // Here a model would learn from it.
        cells += minibatch.batch.num_rows();
    }
    Ok(cells)
}
