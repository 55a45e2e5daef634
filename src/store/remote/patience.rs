//! How long a request may say nothing.
//!
//! A limit on a whole request is one on its size: what is slow, not silent, would fail where a link
//! is. So a server has a time to begin its answer, which grows with what it is sent, and may then
//! pause for as long.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::{ClientConfigKey, ClientOptions};
use tokio::time::{Instant, Sleep, sleep, timeout};

/// Silence that ends a request.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes a second that a request's body is given time for; several go over one link at a time.
const SLOWEST: u64 = 16 << 10;

/// Connections whose requests may take any time, but not be silent.
#[derive(Debug, Default)]
pub(super) struct Patient(ReqwestConnector);

impl HttpConnector for Patient {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let limit = |options: &ClientOptions| options.get_config_value(&ClientConfigKey::Timeout);
        // What the environment says (AWS_TIMEOUT) counts.
        let options = match limit(options) == limit(&ClientOptions::default()) {
            true => options.clone().with_timeout_disabled(),
            false => options.clone(),
        };
        Ok(HttpClient::new(Service {
            client: self.0.connect(&options)?,
            silence: SILENCE,
        }))
    }
}

#[derive(Debug)]
struct Service {
    client: HttpClient,
    silence: Duration,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let bytes = u64::try_from(request.body().content_length()).unwrap_or(u64::MAX);
        let silence = self.silence;
        let patience = silence.saturating_add(Duration::from_secs(bytes / SLOWEST));
        let answer = timeout(patience, self.client.execute(request)).await;
        let answer = answer.map_err(|_| silent(patience))??;
        Ok(answer.map(|body| {
            HttpResponseBody::new(Heard {
                body,
                silence,
                until: Box::pin(sleep(silence)),
            })
        }))
    }
}

/// An answer that ends in an error where nothing more of it comes.
struct Heard {
    body: HttpResponseBody,
    silence: Duration,
    until: Pin<Box<Sleep>>,
}

impl Body for Heard {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let until = Instant::now() + self.silence;
            self.until.as_mut().reset(until);
            return Poll::Ready(frame);
        }
        ready!(self.until.as_mut().poll(cx));
        Poll::Ready(Some(Err(silent(self.silence))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn silent(patience: Duration) -> HttpError {
    let error = std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("nothing came for {} s", patience.as_secs()),
    );
    HttpError::new(HttpErrorKind::Timeout, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers after a time, with a body that never comes.
    #[derive(Debug)]
    struct Slow(Duration);

    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = HttpError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
            Poll::Pending
        }
    }

    #[async_trait]
    impl HttpService for Slow {
        async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
            sleep(self.0).await;
            Ok(HttpResponse::new(HttpResponseBody::new(Never)))
        }
    }

    #[tokio::test]
    async fn who_sends_much_is_given_time_and_silence_ends_both_ways() {
        let slow = Service {
            client: HttpClient::new(Slow(Duration::from_millis(200))),
            silence: Duration::from_millis(20),
        };
        let sent = HttpRequest::new(vec![0; 8 << 20].into());
        let answer = slow.call(sent).await.unwrap();
        let error = answer.into_body().bytes().await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Timeout);
        let asked = HttpRequest::new(Bytes::new().into());
        let error = slow.call(asked).await.unwrap_err();
        assert_eq!(error.kind(), HttpErrorKind::Timeout);
    }
}
