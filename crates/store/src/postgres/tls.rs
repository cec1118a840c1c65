//! TLS by rustls.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::dsn::{Tls, Verify};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {path}")]
    File {
        path: String,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("there are no trusted certificates on this machine; name a file with sslrootcert")]
    NoRoots,
    #[error("there is no certificate in {path}, which sslrootcert names")]
    NoCertificate { path: String },
    #[error("TLS cannot be set up")]
    Setup(#[from] Error),
    #[error("certificates cannot be checked")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// What to do about a handshake that failed.
pub(crate) fn advice_on(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let mut source = error.source();
    while let Some(cause) = source {
        let io = cause.downcast_ref::<std::io::Error>();
        let refused = io.and_then(|io| io.get_ref()?.downcast_ref::<Error>());
        match refused {
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => return "name the host as its certificate does, or use sslmode=verify-ca",
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                return "name the file of the authority that signed the certificate with sslrootcert";
            }
            // As `openssl req -x509` makes them, if nothing else is said.
            Some(Error::InvalidCertificate(CertificateError::Other(other)))
                if format!("{other:?}").contains("CaUsedAsEndEntity") =>
            {
                return "the server's certificate is that of an authority; sign one for the server \
                        with it, or make it anew with basicConstraints=CA:FALSE";
            }
            Some(Error::InvalidCertificate(_)) => return "the server needs another certificate",
            _ => {}
        }
        source = cause.source();
    }
    "switch TLS on at the server, or use sslmode=disable where the way there is safe"
}

/// The client's side of TLS, as strict as `verify` says.
pub(crate) fn config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let verify = &tls.verify;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let authority = match verify {
        Verify::Nothing => None,
        Verify::Authority | Verify::Full => {
            let roots = Arc::new(roots(tls.root_cert.as_deref())?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            Some(verifier.build()?)
        }
    };
    let verifier = Lenient {
        provider,
        authority,
        checks_name: *verify == Verify::Full,
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((cert, key)) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| TlsError::File { path, source }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
        .map_err(failed(cert))?
        .collect();
    let key_bytes = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
    Ok(builder.with_client_auth_cert(chain.map_err(failed(cert))?, key_bytes)?)
}

fn roots(root_cert: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = root_cert {
        let failed = |source| TlsError::File {
            path: path.display().to_string(),
            source,
        };
        for cert in CertificateDer::pem_file_iter(path).map_err(failed)? {
            roots.add(cert.map_err(failed)?)?;
        }
        if roots.is_empty() {
            let path = path.display().to_string();
            return Err(TlsError::NoCertificate { path });
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}

/// Checks what the `sslmode` asks for: nothing, the authority, or the authority and the name.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authority: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else {
            return Ok(ServerCertVerified::assertion());
        };
        let checked = authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match checked {
            // The chain is checked before the name, so the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
