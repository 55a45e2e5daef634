//! What a server did and does, for Prometheus.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use datafusion::common::runtime::JoinSet;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Where the page is.
const PATH: &str = "/metrics";
/// The format of the page (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Connections that ask for it at a time.
const CONNECTIONS: usize = 16;
/// How long one may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts, which everybody who has this adds to.
#[derive(Debug, Clone)]
pub(super) struct Metrics(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    registry: Registry,
    running: Gauge,
    ended: Family<Ended, Counter>,
    minibatches: Counter,
    cells: Counter,
    bytes: Counter,
    waited: Counter<f64, AtomicU64>,
    statements: Counter,
}

/// How a stream of minibatches ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Outcome {
    /// With its last minibatch.
    Complete,
    /// With an error.
    Failed,
    /// Its client went away.
    Left,
    /// Before it began.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: Outcome,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("annfusion");
        let counts = Counts {
            running: Gauge::default(),
            ended: Family::default(),
            minibatches: Counter::default(),
            cells: Counter::default(),
            bytes: Counter::default(),
            waited: Counter::default(),
            statements: Counter::default(),
            registry: Registry::default(),
        };
        let running = "Streams of minibatches that are running";
        registry.register("streams_running", running, counts.running.clone());
        let ended = "Streams of minibatches that ended, by how";
        registry.register("streams", ended, counts.ended.clone());
        let minibatches = "Minibatches sent";
        registry.register("minibatches", minibatches, counts.minibatches.clone());
        registry.register("cells", "Cells sent", counts.cells.clone());
        registry.register_with_unit(
            "sent",
            "Bytes of minibatches",
            Unit::Bytes,
            counts.bytes.clone(),
        );
        registry.register_with_unit(
            "read_wait",
            "Time that clients with room for a minibatch waited for it to be read",
            Unit::Seconds,
            counts.waited.clone(),
        );
        let statements = "SQL statements begun";
        registry.register("statements", statements, counts.statements.clone());
        Self(Arc::new(Counts { registry, ..counts }))
    }

    /// A stream that begins; it has ended when this is dropped.
    pub(super) fn stream(&self) -> Watch {
        self.0.running.inc();
        Watch {
            metrics: self.clone(),
            outcome: Outcome::Left,
        }
    }

    /// A stream that does not begin.
    pub(super) fn refused(&self) {
        self.count(Outcome::Refused);
    }

    /// A statement that begins.
    pub(super) fn statement(&self) {
        self.0.statements.inc();
    }

    fn count(&self, outcome: Outcome) {
        self.0.ended.get_or_create(&Ended { outcome }).inc();
    }

    /// The page at a path.
    fn page(&self, path: &str) -> Response<Full<Bytes>> {
        let mut text = String::new();
        let (code, text) = match encode(&mut text, &self.0.registry) {
            _ if path != PATH => (StatusCode::NOT_FOUND, format!("there is {PATH}\n")),
            Ok(()) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = code;
        let kind = header::HeaderValue::from_static(match code {
            StatusCode::OK => CONTENT_TYPE,
            _ => "text/plain",
        });
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// Shows the page to whoever asks, until this is dropped.
    pub(super) async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut answers = JoinSet::new();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                // Of what is short now (files, say) there may be some later.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let metrics = self.clone();
            // Those that are done are let go.
            while answers.try_join_next().is_some() {}
            answers.spawn(async move {
                let page = |request: hyper::Request<_>| {
                    ready(Ok::<_, Infallible>(metrics.page(request.uri().path())))
                };
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service_fn(page));
                // Who asked and went away does not matter.
                let _ = tokio::time::timeout(PATIENCE, connection).await;
                drop(place);
            });
        }
    }
}

/// A stream of minibatches that is running.
#[derive(Debug)]
pub(super) struct Watch {
    metrics: Metrics,
    outcome: Outcome,
}

impl Watch {
    /// A minibatch of so many cells and bytes, which was waited for so long.
    pub(super) fn minibatch(&self, cells: u64, bytes: u64, waited: Duration) {
        let counts = &self.metrics.0;
        counts.minibatches.inc();
        counts.cells.inc_by(cells);
        counts.bytes.inc_by(bytes);
        counts.waited.inc_by(waited.as_secs_f64());
    }

    /// How it ends.
    pub(super) fn ends(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.metrics.0.running.dec();
        self.metrics.count(self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn streams_are_counted_by_how_they_end() {
        let metrics = Metrics::new();
        let (mut first, second) = (metrics.stream(), metrics.stream());
        first.minibatch(4096, 1000, Duration::from_millis(500));
        first.ends(Outcome::Complete);
        drop(first);
        metrics.refused();
        let page = async |path: &str| {
            let page = metrics.page(path);
            let code = page.status();
            let bytes = page.into_body().collect().await.unwrap().to_bytes();
            (code, String::from_utf8_lossy(&bytes).into_owned())
        };
        let (code, text) = page("/metrics").await;
        assert_eq!(code, StatusCode::OK);
        for line in [
            "annfusion_streams_running 1",
            "annfusion_streams_total{outcome=\"Complete\"} 1",
            "annfusion_streams_total{outcome=\"Refused\"} 1",
            "annfusion_cells_total 4096",
            "annfusion_sent_bytes_total 1000",
            "annfusion_read_wait_seconds_total 0.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        drop(second);
        assert!(page("/metrics").await.1.contains("outcome=\"Left\"} 1"));
        assert_eq!(page("/").await.0, StatusCode::NOT_FOUND);
    }
}
