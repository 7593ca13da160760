//! Encrypted connections to PostgreSQL, by the modes that its own client has: `disable`, `prefer`,
//! `require`, `verify-ca`, `verify-full`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postgres::config::SslMode;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};

/// What a mode is called, in an address (`sslmode=`) and in PGSSLMODE.
const MODES: &str = "use disable, prefer, require, verify-ca or verify-full";

/// How far the server is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// No encryption.
    Disable,
    /// Encryption where the server has it; nothing is checked.
    Prefer,
    /// Encryption; nothing is checked, unless certificates of authorities are named.
    Require,
    /// And the certificate is of a known authority.
    VerifyCa,
    /// And it is of the server that the address names.
    VerifyFull,
}

impl Mode {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// What an address and the environment say of encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    mode: Mode,
    /// File of certificates of authorities.
    roots: Option<PathBuf>,
}

impl Tls {
    /// Takes what an address says of encryption out of it; the environment (PGSSLMODE,
    /// PGSSLROOTCERT, `~/.postgresql/root.crt`) fills in what it leaves out.
    ///
    /// # Errors
    /// A mode that there is not; a certificate of the client, which is not spoken of.
    pub fn of(url: &str, env: impl Fn(&str) -> Option<String>) -> Result<(String, Self)> {
        let (mut mode, mut roots) = (None, None);
        let (place, options) = url.split_once('?').unwrap_or((url, ""));
        let mut rest = Vec::new();
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "sslmode" => mode = Some(value.to_owned()),
                "sslrootcert" => roots = Some(value.replace("%2F", "/").replace("%2f", "/")),
                "sslcert" | "sslkey" | "sslpassword" => {
                    return Err(Error::usage(url, format!("{key}: certificates of a client are not sent"))
                        .next("log in with a password (PGPASSWORD or ~/.pgpass)"));
                }
                _ => rest.push(option),
            }
        }
        let url = if rest.is_empty() { place.to_owned() } else { format!("{place}?{}", rest.join("&")) };
        let mode = match mode.or_else(|| env("PGSSLMODE")) {
            Some(name) => Mode::named(&name)
                .ok_or_else(|| Error::usage(&url, format!("there is no sslmode `{name}`")).next(MODES))?,
            None => Mode::Prefer,
        };
        let own = || Some(Path::new(&env("HOME")?).join(".postgresql/root.crt")).filter(|path| path.exists());
        let roots = roots.or_else(|| env("PGSSLROOTCERT")).map(PathBuf::from).or_else(own);
        Ok((url, Self { mode, roots }))
    }

    /// What the client is to ask of the server.
    pub fn asks(&self) -> SslMode {
        match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            _ => SslMode::Require,
        }
    }

    /// What encrypts, and checks the server.
    ///
    /// # Errors
    /// A file of certificates that cannot be read.
    pub fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(ring::default_provider());
        let failed = |e: &dyn std::fmt::Display| Error::failed("TLS", e);
        let checks = match self.mode {
            Mode::VerifyCa | Mode::VerifyFull => true,
            Mode::Require => self.roots.is_some(),
            Mode::Disable | Mode::Prefer => false,
        };
        let authorities = if checks {
            let roots = Arc::new(self.authorities()?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Some(verifier.map_err(|e| failed(&e))?)
        } else {
            None
        };
        let verifier = Verifier { authorities, names: self.mode == Mode::VerifyFull, provider: provider.clone() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    /// The authorities that are believed: those of the named file, else those of public servers.
    fn authorities(&self) -> Result<RootCertStore> {
        let Some(path) = self.roots.as_deref().filter(|path| *path != Path::new("system")) else {
            return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        };
        let bad = |e: &dyn std::fmt::Display| {
            Error::input(path.display(), format!("is no file of certificates: {e}"))
                .next("name the certificate of the server's authority, as PEM, by sslrootcert or PGSSLROOTCERT")
        };
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_file_iter(path).map_err(|e| bad(&e))? {
            roots.add(found.map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
        }
        if roots.is_empty() { Err(bad(&"there is none in it")) } else { Ok(roots) }
    }
}

/// Checks what the mode asks for.
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// Whether the certificate must be of the server that the address names.
    names: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.names => Ok(ServerCertVerified::assertion()),
            said => said,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_the_environment_say_how_far_a_server_is_checked() {
        let none = |_: &str| None;
        let of = |url: &str| Tls::of(url, none).unwrap();
        assert_eq!(of("postgresql://db/shop").1, Tls { mode: Mode::Prefer, roots: None });
        let (url, tls) = of("postgresql://db/shop?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fetc%2Fca.pem");
        assert_eq!(url, "postgresql://db/shop?connect_timeout=3");
        assert_eq!(tls, Tls { mode: Mode::VerifyFull, roots: Some("/etc/ca.pem".into()) });
        assert_eq!(
            (of("postgresql://db?sslmode=require").1.asks(), of("x?sslmode=disable").1.asks()),
            (SslMode::Require, SslMode::Disable)
        );
        let env = |name: &str| match name {
            "PGSSLMODE" => Some("verify-ca".to_owned()),
            "PGSSLROOTCERT" => Some("ca.pem".to_owned()),
            _ => None,
        };
        assert_eq!(
            Tls::of("postgresql://db", env).unwrap().1,
            Tls { mode: Mode::VerifyCa, roots: Some("ca.pem".into()) }
        );
        for url in ["postgresql://db?sslmode=full", "postgresql://db?sslcert=a.pem"] {
            let said = Tls::of(url, none).unwrap_err();
            assert!(!said.next_step().is_empty(), "{said}");
        }
    }

    #[test]
    fn files_that_hold_no_certificates_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, text).unwrap();
            let tls = Tls { mode: Mode::VerifyFull, roots: Some(path.clone()) };
            let said = tls.connector().err().unwrap().to_string();
            assert!(said.contains("ca.pem: is no file of certificates"), "{said}");
        }
        for mode in [Mode::Disable, Mode::Prefer, Mode::Require, Mode::VerifyFull] {
            Tls { mode, roots: None }.connector().unwrap();
        }
    }
}
