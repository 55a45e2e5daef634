//! `annfusion serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::print::{print, print_error, print_json};
use super::run::{Failure, Outcome, Signals};
use crate::error::Error;
use crate::flight::{ServeOptions, serve};
use crate::model::parse_size;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Collections, .zarr and .h5ad of any kind, or URLs of some, each called by its stem or by the
    /// name before =: atlas=s3://bucket/x.zarr.
    #[arg(required = true)]
    objects: Vec<String>,
    /// Where to listen; port 0 is any that is free.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// Streams of minibatches that may run at a time.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
    /// Memory that cells may take: three quarters of it for all streams of minibatches together, a
    /// quarter for what statements sort and group.
    #[arg(long, value_name = "SIZE", default_value = "16GB", value_parser = parse_size)]
    memory: u64,
    /// A file of bearer tokens, one a line, of which every call has to show one.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// The server's certificate (PEM), for TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Who signs the certificates (PEM) that clients have to show.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,
}

/// Runs the command until it is told to stop. Streams that run then may finish; a second signal ends
/// them.
pub(super) async fn run(args: ServeArgs, global: Global) -> Result<Outcome, Failure> {
    let options = ServeOptions {
        objects: args.objects,
        listen: args.listen,
        streams: args.streams.into(),
        memory: args.memory,
        tokens: args.tokens,
        tls: args.tls_cert.zip(args.tls_key),
        client_ca: args.client_ca,
    };
    let mut signals = Signals::new();
    let server = tokio::select! {
        server = serve(&options) => server?,
        signal = signals.next() => return Err(stopped(signal)),
    };
    if options.tokens.is_some() && !server.has_tls() {
        print_error("warning: without --tls-cert, tokens can be read on their way");
    }
    let scheme = if server.has_tls() { "grpc+tls" } else { "grpc" };
    let address = format!("{scheme}://{}", server.address());
    match global.json {
        true => print_json(&json!({"listening": address, "objects": server.names()}))?,
        false => print(&format!(
            "listening on {address}: {}",
            server.names().join(", ")
        ))?,
    }
    let (stop, told) = tokio::sync::oneshot::channel();
    let serving = server.run(async {
        // Whoever holds the other end says nothing but that it is time.
        let _ = told.await;
    });
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended.map(|()| Outcome::Done)?),
        _ = signals.next() => {}
    }
    if !global.quiet {
        print_error("stopping: no more calls are taken, and those that run may finish");
    }
    let _ = stop.send(());
    tokio::select! {
        ended = &mut serving => Ok(ended.map(|()| Outcome::Done)?),
        signal = signals.next() => Err(stopped(signal)),
    }
}

fn stopped(signal: &str) -> Failure {
    Error::store("process", signal, "stopped").into()
}
