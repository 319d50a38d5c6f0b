//! The watch after the commit, on this device: which item is asked next, and whether it was answered
//! rightly.

use std::path::Path;
use std::time::Duration;

use super::{Pilot, no};
use crate::clock::Mono;
use crate::dispatch::Probe;
use crate::engine::LoadNo;
use crate::intake::{
    Ask, Classification, Client, Detail, Digest, Late, Priority, Request, RequestId, ReturnAddress,
    Stream,
};
use crate::ota::course::Released;
use crate::ota::verdict::Findings;
use crate::ota::watch::{Alarm, Watch};
use crate::package::{Item, Package, Task};
use crate::safe::DeviceKey;

/// How long an item may take; nobody waits for it.
const PATIENCE: Duration = Duration::from_mins(2);

/// A package that serves, watched.
pub(super) struct Watching {
    pub(super) load: LoadNo,
    watch: Watch,
    items: Vec<Item>,
    tasks: Vec<Task>,
}

impl Watching {
    /// Of the package in a folder; none where it has no suite.
    pub(super) fn of(
        folder: &Path,
        load: LoadNo,
        recorded: &Findings,
        every: Duration,
        seed: u64,
        key: Option<&DeviceKey>,
    ) -> Option<Self> {
        let package = Package::open_with(folder, key).ok()?;
        let items = package.gate()?.items.clone();
        let suite = items.iter().map(|item| item.task.as_str());
        Some(Self {
            load,
            watch: Watch::new(suite, recorded, every, seed),
            tasks: package.manifest().tasks.clone(),
            items,
        })
    }

    /// The item to be asked now, if it is time.
    pub(super) fn next(&mut self, now: Mono) -> Option<(usize, Request)> {
        let place = self.watch.next(now)?;
        Some((place, request(self.items.get(place)?)))
    }

    /// An item was answered with this.
    pub(super) fn on_answer(&mut self, place: usize, text: &str) -> Option<Alarm> {
        let item = self.items.get(place)?;
        let task = self.tasks.iter().find(|task| task.name == item.task)?;
        let is_right = item.is_right(&task.answer, text);
        self.watch.on_item(place, is_right)
    }
}

/// An item as a device would ask it.
fn request(item: &Item) -> Request {
    Request {
        id: RequestId::Given(item.id.clone()),
        client: Client::Anonymous,
        ask: Ask::Task {
            task: item.task.clone(),
            input: item.input.clone(),
        },
        classification: Classification::Restricted,
        risk: None,
        complexity: None,
        priority: Priority::Low,
        deadline: PATIENCE,
        late: Late::No,
        max_tokens: None,
        schema: None,
        stream: Stream::No,
        detail: Detail::Whole,
        reply: ReturnAddress::Local,
        content: Digest([0; 16]),
    }
}

impl Pilot {
    /// Has an item of the suite asked again, where it is time and nothing else is under way.
    pub(super) fn watch(&mut self) {
        let Some(every) = self.settings.ota.as_ref().and_then(|it| it.watch_every) else {
            return;
        };
        let course = self.helm.course();
        let report = course.report();
        if report.is_loading || report.state == "trial" || self.gate.is_some() {
            return;
        }
        if self.watching.is_none() {
            let commit = course.memory().commits.last();
            let findings = commit.and_then(|commit| commit.findings.as_ref());
            let (Some(findings), Some(folder)) = (findings, &self.serving) else {
                return; // the configuration's package, or one without a suite
            };
            let key = self.settings.at_rest.device_key.as_ref();
            let seed = seed(self.settings.name.as_str());
            self.watching = Watching::of(folder, self.load, findings, every, seed, key);
        }
        let now = self.clock.now().mono;
        if let Some(watching) = &mut self.watching
            && let Some((item, request)) = watching.next(now)
        {
            let load = watching.load;
            let probe = Probe {
                load,
                item,
                request,
                after_work: self.settings.engine.unload_after_idle.is_some(),
            };
            let _ = self.probes.try_send(probe); // it is asked in another round
        }
    }

    /// An item of the watch was answered, or had to give way.
    pub(super) fn marked(&mut self, load: LoadNo, item: usize, text: Option<&str>) -> Released {
        let watching = self.watching.as_mut().filter(|it| it.load == load);
        let alarm = watching
            .zip(text)
            .and_then(|(it, text)| it.on_answer(item, text));
        let Some(alarm) = alarm else {
            return self.on(|_| Vec::new());
        };
        let why = alarm.to_string();
        tracing::error!(reason = why, "the package answers worse than at its gate");
        let released = self.on(|course| course.on_alarm(no(load), &why));
        self.alarm = Some(why);
        released
    }
}

/// Another order of the suite on each device.
fn seed(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
