//! Whose certificates are believed, of the servers that guests send requests to over TLS.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// The certificate authorities that browsers know, and what the embedder names beyond them.
#[derive(Clone, Default)]
pub(crate) struct Trust(Option<Arc<More>>);

/// Certificates beyond the usual ones.
struct More {
    certificates: Vec<CertificateDer<'static>>,
    /// Made for those who trust the same, and for nobody else: it remembers sessions, and one that was begun is
    /// resumed without another look at the server's certificate.
    made: OnceLock<Made>,
}

/// The configuration, or what is wrong with a certificate.
type Made = Result<Arc<ClientConfig>, String>;

impl Trust {
    pub(crate) fn add(&mut self, certificate: Vec<u8>) {
        let before = self.0.as_ref().map(|more| more.certificates.as_slice()).unwrap_or_default();
        let certificates = before.iter().cloned().chain([certificate.into()]).collect();
        self.0 = Some(Arc::new(More { certificates, made: OnceLock::new() }));
    }

    /// What to make connections with.
    pub(crate) fn client(&self) -> Made {
        static USUAL: OnceLock<Made> = OnceLock::new();
        match &self.0 {
            None => USUAL.get_or_init(|| make(&[])).clone(),
            Some(more) => more.made.get_or_init(|| make(&more.certificates)).clone(),
        }
    }

    /// Whether the certificates are such as can be trusted at all.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &self.0 {
            // Nothing can be wrong with the usual ones, which most guests have no use for.
            None => Ok(()),
            Some(_) => self.client().map(drop),
        }
    }
}

fn make(more: &[CertificateDer<'static>]) -> Made {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    for (number, certificate) in more.iter().enumerate() {
        roots.add(certificate.clone()).map_err(|error| {
            let number = number + 1;
            format!(
                "certificate {number} of those that were added to be trusted cannot be read: {error}; give one \
                 X.509 certificate, in DER and not in PEM"
            )
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(client))
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, |more| more.certificates.len());
        f.debug_struct("Trust").field("certificates", &count).finish()
    }
}
