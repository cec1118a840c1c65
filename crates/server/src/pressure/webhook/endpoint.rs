//! One POST to a URL, in bounded time.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::{InvalidUri, PathAndQuery};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use mds_core::settings::SecretUrl;
use percent_encoding::percent_decode_str;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::pressure::families::PostResult;

/// Bytes of an answer's body that are read. Nothing in it counts: a receiver that is still sending
/// when the connection goes might take that for a failure.
const ANSWER_BYTES: usize = 4 << 10;
/// Bytes of an answer's head.
const HEAD_BYTES: usize = 16 << 10;

/// Why a URL cannot be used for a webhook.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// It is none.
    #[error(
        "fb_http_endpoint is no URL; what is no letter or digit may have to be escaped, as %40"
    )]
    Url(#[from] InvalidUri),
    /// It says neither `http` nor `https`, or no host.
    #[error("fb_http_endpoint needs http or https and a host, as http://HOST:PORT/PATH")]
    NoHost,
    /// What stands behind the host is no port.
    #[error(
        "fb_http_endpoint has no number from 1 to 65535 behind its host; a password stands before \
         a host, as http://USER:PASSWORD@HOST"
    )]
    Port,
    /// The host cannot be in a certificate.
    #[error("fb_http_endpoint needs a name or an address that a certificate can hold")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    /// This machine trusts nobody.
    #[error(
        "there are no trusted certificates on this machine to check those of fb_http_endpoint by; \
         name a file of them in SSL_CERT_FILE"
    )]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS for fb_http_endpoint cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Why a POST has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("it cannot be reached: {0}")]
    Connect(std::io::Error),
    #[error("no answer came in time")]
    Timeout,
    #[error("the connection broke before an answer: {0}")]
    Broken(hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl Failure {
    /// Whether the receiver may have what was sent, or come upon it later.
    pub(super) const fn may_have_arrived(&self) -> bool {
        matches!(self, Self::Timeout | Self::Broken(_))
    }

    pub(super) const fn result(&self) -> PostResult {
        match self {
            Self::Connect(_) => PostResult::Connect,
            Self::Timeout => PostResult::Timeout,
            Self::Broken(_) => PostResult::Broken,
            Self::Status(_) => PostResult::Status,
        }
    }
}

/// Where is posted to.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    host_header: HeaderValue,
    authorization: Option<HeaderValue>,
    path: Uri,
    timeout: Duration,
}

impl fmt::Display for Endpoint {
    /// Scheme, host and port: anything else may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        if self.host.contains(':') {
            return write!(f, "{scheme}://[{}]:{}", self.host, self.port);
        }
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Endpoint {
    pub(super) fn new(url: &SecretUrl, timeout: Duration) -> Result<Self, WebhookError> {
        let uri: Uri = url.expose().parse()?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(WebhookError::NoHost),
        };
        let authority = uri.authority().ok_or(WebhookError::NoHost)?;
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if host.is_empty() {
            return Err(WebhookError::NoHost);
        }
        let (userinfo, host_and_port) = match authority.as_str().rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, authority.as_str()),
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        Ok(Self {
            host: host.to_owned(),
            port: match host_and_port.strip_prefix(authority.host()) {
                None | Some("" | ":") if is_tls => 443,
                None | Some("" | ":") => 80,
                Some(port) => port
                    .strip_prefix(':')
                    .and_then(|port| port.parse().ok())
                    .filter(|port| *port > 0)
                    .ok_or(WebhookError::Port)?,
            },
            tls: if is_tls { Some(tls(host)?) } else { None },
            // What a URI may have as its host can be in a header.
            host_header: HeaderValue::from_str(host_and_port).map_err(|_| WebhookError::NoHost)?,
            authorization: userinfo.and_then(basic),
            path: path.parse()?,
            timeout,
        })
    }

    /// Sends `body` once. 2xx is delivered; a redirect is an answer like any other, since who answers
    /// with one could send the pressure, and a password, anywhere.
    pub(super) async fn post(&self, body: Bytes) -> Result<(), Failure> {
        let mut answer = None;
        let ended = timeout(self.timeout, Box::pin(self.exchange(body, &mut answer))).await;
        match (answer, ended) {
            (Some(status), _) if status.is_success() => Ok(()),
            (Some(status), _) => Err(Failure::Status(status)),
            (None, Ok(Err(failure))) => Err(failure),
            (None, _) => Err(Failure::Timeout),
        }
    }

    async fn exchange(&self, body: Bytes, answer: &mut Option<StatusCode>) -> Result<(), Failure> {
        let address = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(address)
            .await
            .map_err(Failure::Connect)?;
        let Some((connector, name)) = &self.tls else {
            return self.talk(stream, body, answer).await;
        };
        let stream = connector.connect(name.clone(), stream).await;
        self.talk(stream.map_err(Failure::Connect)?, body, answer)
            .await
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        body: Bytes,
        answer: &mut Option<StatusCode>,
    ) -> Result<(), Failure> {
        let mut http = http1::Builder::new();
        let http = http.max_buf_size(HEAD_BYTES).max_headers(64);
        let handshake = http.handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(Failure::Broken)?;
        let asking = async {
            let response = sender.send_request(self.request(body)).await;
            let response = response.map_err(Failure::Broken)?;
            *answer = Some(response.status());
            read(response).await;
            Ok(())
        };
        // A connection that has ended has handed on what it had.
        match select(pin!(asking), pin!(connection)).await {
            Either::Left((asked, _)) => asked,
            Either::Right((_, asking)) => asking.await,
        }
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::post(self.path.clone());
        if let Some(headers) = request.headers_mut() {
            headers.insert(HOST, self.host_header.clone());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let agent = concat!("mds/", env!("CARGO_PKG_VERSION"));
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            if let Some(authorization) = &self.authorization {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
        }
        request
            .body(Full::new(body))
            .expect("a method, a parsed path and parsed headers make a request")
    }
}

/// Reads an answer up to [`ANSWER_BYTES`].
async fn read(response: Response<Incoming>) {
    let mut body = response.into_body();
    let mut bytes = 0;
    while bytes < ANSWER_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// The header that a user and a password in a URL stand for.
fn basic(userinfo: &str) -> Option<HeaderValue> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut plain: Vec<u8> = percent_decode_str(user).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn tls(host: &str) -> Result<(TlsConnector, ServerName<'static>), WebhookError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(WebhookError::NoRoots);
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

#[cfg(test)]
mod tests;
