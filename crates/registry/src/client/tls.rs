//! TLS to hosts with certificates of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use serde::Deserialize;

use super::error::{ClientError, SetupError};
use super::settings_error::SettingsError;
use super::settings_file::read_named;

/// How TLS to a host differs from TLS to any other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostTls {
    /// Whether any certificate will do.
    pub(crate) insecure: bool,
    /// Files of root certificates that are trusted besides the system's.
    pub(crate) ca: Vec<PathBuf>,
    /// What proves to the host who we are: the first that it accepts.
    pub(crate) keypairs: Vec<KeyPair>,
}

/// Files of a client certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPair {
    pub(crate) key: PathBuf,
    pub(crate) cert: PathBuf,
}

impl HostTls {
    /// Tells whether there is a difference.
    pub(crate) fn differs(&self) -> bool {
        self.insecure || !self.ca.is_empty() || !self.keypairs.is_empty()
    }

    /// Reads the files and sets TLS up.
    pub(super) fn config(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ClientConfig, ClientError> {
        let failed = |source| ClientError::Setup(SetupError::Certificates(source));
        let roots = self.roots()?;
        let keys = self.keypairs.iter().map(|pair| pair.read(provider));
        let keys: Vec<Arc<CertifiedKey>> = keys.collect::<Result<_, _>>()?;
        let verifier: Arc<dyn ServerCertVerifier> = match self.insecure {
            true => Arc::new(Anyone(Arc::clone(provider))),
            false => {
                let system = Verifier::new_with_extra_roots(roots.clone(), Arc::clone(provider));
                Arc::new(Listed {
                    system: system.map_err(failed)?,
                    listed: roots,
                })
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match keys.is_empty() {
            true => builder.with_no_client_auth(),
            false => builder.with_client_cert_resolver(Arc::new(Keys(keys))),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
        let mut roots = Vec::new();
        for path in &self.ca {
            let found = certificates(path)?;
            let mut store = RootCertStore::empty();
            for certificate in &found {
                let added = store.add(certificate.clone());
                added.map_err(|source| SettingsError::Certificate {
                    path: path.clone(),
                    source,
                })?;
            }
            roots.extend(found);
        }
        Ok(roots)
    }
}

impl KeyPair {
    fn read(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, SettingsError> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read_named(&self.key)?);
        let key = key.map_err(|error| match error {
            pem::Error::NoItemsFound => SettingsError::NoKey(self.key.clone()),
            source => SettingsError::Pem {
                path: self.key.clone(),
                source,
            },
        })?;
        let certified = CertifiedKey::from_der(chain, key, provider);
        let certified = certified.map_err(|source| SettingsError::Key {
            key: self.key.clone(),
            cert: self.cert.clone(),
            source,
        })?;
        Ok(Arc::new(certified))
    }
}

/// Reads the certificates of a file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let bytes = read_named(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(SettingsError::NoCertificate(path.to_owned())),
        Ok(found) => Ok(found),
        Err(source) => Err(SettingsError::Pem {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Trusts what the system trusts, what listed certificates vouch for, and servers that show a
/// listed certificate itself.
#[derive(Debug)]
struct Listed {
    system: Verifier,
    listed: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Listed {
    /// Takes a listed certificate for the server's own, which webpki refuses when it could vouch
    /// for others as well: that is how `openssl req -x509` makes them, and Go takes them.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.system.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // webpki has looked at the period before it says that; a test holds it to this.
            Err(error) if is_ca(&error) && self.listed.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.system
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.system
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.system.supported_verify_schemes()
    }
}

/// Tells whether a certificate was refused only because it may vouch for others.
pub(super) fn is_ca(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    let cause = other.0.downcast_ref::<webpki::Error>();
    cause == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// Trusts anyone. Who says nothing of use about himself need not prove it: signatures are not
/// looked at, so that certificates of any form will do.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Client certificates, of which the first is shown that the server says it accepts.
#[derive(Debug)]
struct Keys(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Keys {
    fn resolve(&self, issuers: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let is_accepted = |key: &&Arc<CertifiedKey>| {
            let has_scheme = key.key.choose_scheme(schemes).is_some();
            has_scheme && (issuers.is_empty() || key.cert.iter().any(|cert| is_of(cert, issuers)))
        };
        let accepted = self.0.iter().find(is_accepted);
        // A server may accept others than it says; it is the one to refuse.
        accepted.or_else(|| self.0.first()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Tells whether one of `issuers` has issued a certificate.
fn is_of(certificate: &CertificateDer<'_>, issuers: &[&[u8]]) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return false;
    };
    // The parser leaves the head of the name out.
    let issuer = certificate.issuer();
    issuers.iter().any(|known| known.ends_with(issuer))
}
