//! What the appliance may do, by heat and by memory.

pub mod thermal;
