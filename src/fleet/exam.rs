//! The gate's examiner: the appliance's own engine, in a child process of this program.

use std::sync::Arc;

use super::gate::Examiner;
use crate::engine::process::Launch;
use crate::ota::gate::{self, Paper};
use crate::ota::verdict::Findings;
use crate::package::{Gate, Package, Variant};

/// Starts an engine for each variant, as a device does for its gate.
#[derive(Debug, Default)]
pub struct Engine {
    launch: Launch,
}

impl Examiner for Engine {
    fn examine(
        &mut self,
        package: &Package,
        variant: &Variant,
        gate: &Gate,
    ) -> Result<Findings, String> {
        let paper = Paper {
            package,
            variant,
            gate,
        };
        let found = gate::examine(paper, &self.launch, &Arc::default());
        found.map_err(|error| error.to_string())
    }
}
