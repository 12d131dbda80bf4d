//! Tries URLs before they are kept, with the secrets of this service. On the caller's thread, which waits.

use std::{sync::Arc, time::Duration};

use base::time::Clock;
use ingest::ProbeReport;

use crate::{
    config::source_url,
    control::resolver::Resolver,
    http::control::{ProbeFailed, ProbeRequest, Prober},
};

/// Tries sources through `ingest`.
pub struct Probing {
    resolver: Arc<Resolver>,
    clock: Arc<dyn Clock>,
}

impl Probing {
    /// With the secrets of this resolver.
    pub fn new(resolver: Arc<Resolver>, clock: Arc<dyn Clock>) -> Self {
        Self { resolver, clock }
    }
}

impl Prober for Probing {
    fn probe(&self, wanted: &ProbeRequest, patience: Duration) -> Result<ProbeReport, ProbeFailed> {
        let url = match &wanted.credentials {
            Some(secret) => self.resolver.settings().secrets.url_with(&wanted.url, secret),
            None => source_url(&wanted.url),
        };
        let url = url.map_err(ProbeFailed)?;
        ingest::probe(&url, &wanted.source, patience, &self.clock).map_err(|e| ProbeFailed(url.scrub(&e.to_string())))
    }
}
