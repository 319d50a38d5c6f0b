//! Telemetry: the figures that the appliance keeps of itself.
//!
//! Purpose: [`Meters`] is what is counted and timed on the path of a request. Whoever shows figures
//! (the panel's page, `/metrics`) reads it at any time, and asks nobody on that path for it. The
//! [`reporter`] carries the same figures to the broker, in [`batch`]es that outlive an outage;
//! [`sparkplug`] and [`home`] tell them to SCADA systems and to Home Assistant in their own words.
//!
//! Invariants: nothing in here holds a word of a request or an answer, or the name of a client: only
//! the names of the site's own rules, and words of this program. So the number of figures has a limit
//! that is known at the start, whoever sends requests.

pub mod batch;
pub mod home;
pub mod meters;
mod note;
pub mod reporter;
pub mod shell;
pub mod sparkplug;

pub use meters::{By, Histogram, Meters, Outcome, Shape};
