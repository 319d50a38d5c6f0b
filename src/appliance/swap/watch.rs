//! The watch after the commit, on this device: which item is asked next, and whether it was answered
//! rightly.

use std::path::Path;
use std::time::Duration;

use crate::clock::Mono;
use crate::engine::LoadNo;
use crate::intake::{
    Ask, Classification, Client, Detail, Digest, Late, Priority, Request, RequestId, ReturnAddress,
    Stream,
};
use crate::ota::verdict::Findings;
use crate::ota::watch::{Alarm, Watch};
use crate::package::{Item, Package, Task};

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
    ) -> Option<Self> {
        let package = Package::open(folder).ok()?;
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
