//! Where people and programs meet the appliance: the technicians' port, the panel, and the figures
//! that go to the broker.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::cloud::Spent;
use super::figures::{self, Reporting, Shelf};
use crate::broker;
use crate::clock::Clock;
use crate::config::Settings;
use crate::console::commands::Counter;
use crate::console::serial;
use crate::panel::{Panel, PanelError, Sources};
use crate::telemetry::Meters;

/// Those that are open.
pub(super) struct Surfaces {
    port: Option<JoinHandle<()>>,
    panel: Option<Panel>,
    reporting: Reporting,
}

impl Surfaces {
    /// Opens those that the settings want. `ends` are the store's side of the figures and the way to
    /// the broker; news of the line go into what is returned beside them.
    pub(super) fn open(
        settings: &Settings,
        counter: &Counter,
        (meters, spent): (&Arc<Meters>, Spent),
        ends: (Shelf, mpsc::Sender<broker::Command>),
        clock: Clock,
    ) -> Result<(Self, Option<mpsc::Sender<broker::Event>>), PanelError> {
        let (shelf, commands) = ends;
        let (reporting, told) = figures::start(settings, shelf, counter, meters, commands, clock);
        let sources = Sources {
            counter: counter.clone(),
            meters: Arc::clone(meters),
            tally: told.tally,
            node: told.node,
            spent,
        };
        let panel = Panel::start(settings, sources, clock)?;
        let port = settings.console.clone().map(|console| {
            let name = settings.name.to_string();
            tokio::spawn(serial::run(console, name, counter.clone(), clock))
        });
        let surfaces = Self {
            port,
            panel,
            reporting,
        };
        Ok((surfaces, told.tap))
    }

    /// Shuts them; what was gathered of figures goes to the disk.
    pub(super) async fn close(self) {
        if let Some(port) = self.port {
            port.abort();
        }
        if let Some(panel) = self.panel {
            panel.close();
        }
        self.reporting.close().await;
    }
}

/// Meters with a place for each rule of the site.
pub(super) fn meters(settings: &Settings) -> Arc<Meters> {
    let rules = settings.policy.rules().iter().map(|rule| rule.name.clone());
    Arc::new(Meters::new(rules))
}
