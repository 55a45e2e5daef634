//! `annfusion serve`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::print::{print, print_error, print_json};
use super::run::{Failure, Outcome, Signals};
use crate::error::Error;
use crate::flight::{ServeOptions, Ticket, serve};
use crate::model::parse_size;

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Collections, .zarr and .h5ad of any kind, or URLs of some, each called by its stem or by the
    /// name before =: atlas=s3://bucket/x.zarr.
    #[arg(required_unless_present_any = ["ticket_schema", "folder"])]
    objects: Vec<String>,
    /// Serve every .h5ad, .zarr and .zarr.zip of a folder, each called by its stem, and those that appear
    /// there later. May be given more than once.
    #[arg(long, value_name = "DIR")]
    folder: Vec<PathBuf>,
    /// Where to listen: an address, or a host name for the first of its addresses; port 0 is any that is
    /// free.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051", value_parser = parse_place)]
    listen: String,
    /// Streams of minibatches and of rows that may run at a time.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
    /// Those of them that one client may have, which is who shows a token, or without tokens who calls from
    /// an address; all by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    streams_per_client: Option<u16>,
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
    /// Show counts of streams, cells and bytes to Prometheus at http://HOST:PORT/metrics, to anybody.
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_place)]
    metrics: Option<String>,
    /// Print the JSON schema of the tickets that clients ask with, and serve nothing.
    #[arg(long, conflicts_with_all = ["objects", "folder"])]
    ticket_schema: bool,
}

/// Runs the command until it is told to stop. Streams that run then may finish; a second signal ends
/// them.
pub(super) async fn run(args: ServeArgs, global: Global) -> Result<Outcome, Failure> {
    if args.ticket_schema {
        print(Ticket::schema().trim_end())?;
        return Ok(Outcome::Done);
    }
    let options = ServeOptions {
        objects: args.objects,
        folders: args.folder,
        listen: args.listen,
        streams: args.streams.into(),
        streams_per_client: args.streams_per_client.map(usize::from),
        memory: args.memory,
        tokens: args.tokens,
        tls: args.tls_cert.zip(args.tls_key),
        client_ca: args.client_ca,
        metrics: args.metrics,
    };
    let mut signals = Signals::new();
    let server = tokio::select! {
        server = serve(&options) => server?,
        signal = signals.next() => return Err(stopped(signal)),
    };
    if options.tokens.is_some() && !server.has_tls() {
        print_error("warning: without --tls-cert, tokens can be read on their way");
    }
    for notice in server.notices() {
        print_error(&format!("note: {notice}"));
    }
    let scheme = if server.has_tls() { "grpc+tls" } else { "grpc" };
    let address = format!("{scheme}://{}", server.address());
    let metrics = server.metrics_address();
    let metrics = metrics.map(|address| format!("http://{address}/metrics"));
    match global.json {
        true => print_json(&json!({
            "listening": address,
            "objects": server.names(),
            "metrics": metrics,
        }))?,
        false => {
            let names = server.names().join(", ");
            print(&format!("listening on {address}: {names}"))?;
            if let Some(metrics) = metrics {
                print(&format!("metrics at {metrics}"))?;
            }
        }
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

/// A host and a port.
fn parse_place(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    match port.parse::<u16>() {
        Ok(_) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("a host and a port are wanted, as in localhost:50051 or [::1]:50051".to_owned()),
    }
}

fn stopped(signal: &str) -> Failure {
    Error::store("process", signal, "stopped").into()
}
