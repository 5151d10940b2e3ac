//! The lab's page: an HTTP server for one person, on loopback.
//!
//! The files of the page are in the binary (`assets`); what it asks is answered by the crate `lab` itself
//! (`api`). Nothing is kept between two questions: a run is its description, which the page carries in its URL. It may
//! be opened on a [`Trace`] of the simulator, which it hands to the page as it is.

mod api;
mod assets;
mod trace;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use trace::{TRACE_BYTES_MAX, Trace, TraceError};

/// The longest question that is read: a run of the most acts that a script may have is shorter.
const BODY_BYTES_MAX: usize = 8 << 20;

/// The header with the name of the file that a trace was read from.
const TRACE_NAME: HeaderName = HeaderName::from_static("x-trace-name");

/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that are served at once; a browser opens six.
const CONNECTIONS_MAX: usize = 64;

/// The page asks nobody but its own server.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What all connections share.
struct Shared {
    /// As many runs at once as there are cores.
    runs: Semaphore,
    trace: Option<Trace>,
}

/// Serves the page until the future is dropped, and a trace at `/trace` if there is one.
///
/// # Errors
/// If the socket cannot be used.
pub async fn serve(listener: std::net::TcpListener, trace: Option<Trace>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shared = Arc::new(Shared { runs: Semaphore::new(cores), trace });
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, shared).await {
                        tracing::debug!(%error, "connection closed");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) -> Result<(), hyper::Error> {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.serve_connection(TokioIo::new(stream), service).await
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if let Some(question) = path.strip_prefix("/api/") {
        if !matches!(head.method, Method::GET | Method::POST) {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET and POST are known");
        }
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the question is too long, or was cut off",
            );
        };
        return ask(question.to_owned(), body.to_bytes(), &shared.runs).await;
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET is known");
    }
    if path == "/trace" {
        return shared.trace.as_ref().map_or_else(no_trace, of_trace);
    }
    match assets::find(path) {
        Some(asset) => reply(StatusCode::OK, asset.kind, Bytes::from_static(asset.bytes)),
        None => refuse(StatusCode::NOT_FOUND, "there is no such page: the lab is at /"),
    }
}

fn of_trace(trace: &Trace) -> Response<Full<Bytes>> {
    let mut response = reply(StatusCode::OK, "application/json", trace.bytes());
    if let Ok(name) = HeaderValue::from_str(trace.name()) {
        response.headers_mut().insert(TRACE_NAME, name);
    }
    response
}

/// The page asks for one whenever an address has a trace in it.
fn no_trace() -> Response<Full<Bytes>> {
    reply(StatusCode::NO_CONTENT, "application/json", Bytes::new())
}

/// Runs take their time: they have threads of their own, as many at once as there are cores.
async fn ask(question: String, body: Bytes, runs: &Semaphore) -> Response<Full<Bytes>> {
    let Ok(_turn) = runs.acquire().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the lab closes");
    };
    match tokio::task::spawn_blocking(move || api::answer(&question, &body)).await {
        Ok(Ok(answer)) => reply(StatusCode::OK, answer.kind, answer.body),
        Ok(Err(api::Refusal::Unknown)) => {
            refuse(StatusCode::NOT_FOUND, "there is no such question")
        }
        Ok(Err(refusal)) => refuse(StatusCode::BAD_REQUEST, &refusal.to_string()),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "error": why }).to_string();
    reply(status, "application/json", body.into())
}

fn reply(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
