//! The server and its client in Rust, against the loader in this process.

use std::path::Path;

use annfusion::Error;
use annfusion::flight::{Client, ClientOptions, Received, ServeOptions, Ticket, serve};
use annfusion::loader::{Loader, LoaderOptions};
use arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use tokio::sync::oneshot;

use crate::support::{at, made, path};

/// What keeps a server running, and may tell it to stop.
type Running = (
    oneshot::Sender<()>,
    SpawnedTask<Result<(), annfusion::Error>>,
);

/// A server of `in.h5ad` as `cells`, and its URL.
async fn served(folder: &Path, token: Option<&str>) -> (String, Running) {
    let tokens = token.map(|token| {
        let file = folder.join("tokens");
        std::fs::write(&file, token).unwrap();
        file
    });
    let options = ServeOptions {
        folders: Vec::new(),
        objects: vec![format!("cells={}", path(folder, "in.h5ad"))],
        listen: "127.0.0.1:0".to_owned(),
        streams: 4,
        streams_per_client: None,
        memory: 1 << 30,
        tokens,
        tls: None,
        client_ca: None,
        metrics: None,
    };
    let server = serve(&options).await.unwrap();
    let url = format!("http://{}", server.address());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = SpawnedTask::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    (url, (stop, task))
}

fn small() -> LoaderOptions {
    LoaderOptions {
        batch_size: 32,
        chunk_size: 8,
        preload_nchunks: 8,
        obs: vec!["cell_type".to_owned()],
        seed: 5,
        ..LoaderOptions::default()
    }
}

async fn all(received: &mut Received) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    while let Some(minibatch) = received.next().await {
        batches.push(minibatch.unwrap().batch);
    }
    batches
}

#[tokio::test]
async fn what_comes_over_the_wire_is_what_the_loader_gives() {
    let folder = made().await;
    let (url, _running) = served(folder.path(), None).await;
    let object = [at(folder.path(), "in.h5ad")];
    let loader = Loader::open(&object, small()).await.unwrap();
    let mut expected = loader.epoch(3);
    let client = Client::connect(&url, &ClientOptions::default()).await;
    let client = client.unwrap();
    assert_eq!(client.names().await.unwrap(), ["cells"]);
    let mut ticket = Ticket::new("cells");
    ticket.epoch = 3;
    ticket.options = small();
    // Whole minibatches, and in parts that the client puts together.
    for message_bytes in [1 << 20, 1000] {
        ticket.message_bytes = message_bytes;
        let mut received = client.minibatches(&ticket).await.unwrap();
        let mut n = 0;
        while let Some(minibatch) = received.next().await {
            let (minibatch, expected) = (minibatch.unwrap(), expected.next().await);
            let expected = expected.unwrap().unwrap();
            assert_eq!(minibatch.cells, expected.cells);
            assert_eq!(minibatch.batch, expected.batch);
            n += 1;
        }
        assert_eq!((n, expected.next().await.is_none()), (10, true));
        assert_eq!(received.position(), expected.position());
        expected = loader.epoch(3);
    }
}

#[tokio::test]
async fn another_connection_goes_on_where_one_stopped() {
    let folder = made().await;
    let (url, _running) = served(folder.path(), None).await;
    let connect = || async {
        let client = Client::connect(&url, &ClientOptions::default()).await;
        client.unwrap()
    };
    let mut ticket = Ticket::new("cells");
    ticket.options = small();
    let whole = all(&mut connect().await.minibatches(&ticket).await.unwrap()).await;
    let mut first = connect().await.minibatches(&ticket).await.unwrap();
    for expected in &whole[..4] {
        assert_eq!(&first.next().await.unwrap().unwrap().batch, expected);
    }
    ticket.position = Some(first.position().clone());
    drop(first);
    let rest = all(&mut connect().await.minibatches(&ticket).await.unwrap()).await;
    assert_eq!(rest, whole[4..]);
    // The parts of what is left have all of it.
    ticket.endpoints = 3;
    let mut rows = 0;
    for part in ticket.parts() {
        let mut received = connect().await.minibatches(&part).await.unwrap();
        rows += all(&mut received)
            .await
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>();
    }
    assert_eq!(rows, 300 - 4 * 32);
}

#[tokio::test]
async fn refusals_say_why() {
    let folder = made().await;
    let (url, (stop, task)) = served(folder.path(), Some("secret")).await;
    let with = |token: Option<&str>| ClientOptions {
        token: token.map(str::to_owned),
        ..ClientOptions::default()
    };
    let said = |error: Error| error.to_string();
    let client = Client::connect(&url, &with(None)).await.unwrap();
    let error = said(client.names().await.unwrap_err());
    assert!(error.contains("bearer token"), "{error}");
    let client = Client::connect(&url, &with(Some("secret"))).await.unwrap();
    let error = client.minibatches(&Ticket::new("other")).await;
    let error = said(error.unwrap_err());
    assert!(error.contains("'other' is not served"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let broken = Client::connect(&url, &with(Some("a\nb"))).await;
    assert!(said(broken.unwrap_err()).contains("token"));
    let encrypted = url.replace("http:", "https:");
    let error = Client::connect(&encrypted, &with(None)).await;
    assert!(said(error.unwrap_err()).contains("ClientOptions::ca"));
    drop(client);
    stop.send(()).unwrap();
    task.join().await.unwrap().unwrap();
    let error = Client::connect(&url, &with(None)).await.unwrap_err();
    assert!(said(error).contains("refused"));
}
