//! Where people meet the appliance: the technicians' port, and the panel.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::Settings;
use crate::console::commands::Counter;
use crate::console::serial;
use crate::panel::{Panel, PanelError, Rollout, Sources};
use crate::telemetry::Meters;

/// Those that are open.
pub(super) struct Surfaces {
    port: Option<JoinHandle<()>>,
    panel: Option<Panel>,
}

impl Surfaces {
    /// Opens those that the settings want.
    pub(super) fn open(
        settings: &Settings,
        counter: &Counter,
        meters: Arc<Meters>,
        rollout: watch::Receiver<Rollout>,
        clock: Clock,
    ) -> Result<Self, PanelError> {
        let sources = Sources {
            counter: counter.clone(),
            meters,
            rollout,
        };
        let panel = Panel::start(settings, sources, clock)?;
        let port = settings.console.clone().map(|console| {
            let name = settings.name.to_string();
            tokio::spawn(serial::run(console, name, counter.clone(), clock))
        });
        Ok(Self { port, panel })
    }

    /// Shuts them.
    pub(super) fn close(self) {
        if let Some(port) = self.port {
            port.abort();
        }
        if let Some(panel) = self.panel {
            panel.close();
        }
    }
}

/// Meters with a place for each rule of the site.
pub(super) fn meters(settings: &Settings) -> Arc<Meters> {
    let rules = settings.policy.rules().iter().map(|rule| rule.name.clone());
    Arc::new(Meters::new(rules))
}
