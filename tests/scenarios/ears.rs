//! Hears every field of every log line of a life, whatever the appliance's own log would show.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::cloud::SECRET;

/// Runs a life; tells the first line of its log in which something restricted stands.
pub(crate) fn listening<T>(life: impl FnOnce() -> T) -> (T, Option<String>) {
    let heard = Arc::new(Mutex::new(None));
    let ears = tracing_subscriber::registry().with(Ears(Arc::clone(&heard)));
    let lived = tracing::subscriber::with_default(ears, life);
    let heard = heard.lock().unwrap().take();
    (lived, heard)
}

struct Ears(Arc<Mutex<Option<String>>>);

impl<S: Subscriber> Layer<S> for Ears {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        if line.0.contains(SECRET) {
            self.0.lock().unwrap().get_or_insert(line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}
