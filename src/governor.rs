//! What the machine has to give: how much memory a model may take.

pub mod memory;
