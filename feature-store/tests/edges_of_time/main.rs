//! Wrong clocks, gaps, backlogs, late readings and ends: what the engine makes of them is what
//! `docs/time.md` says, and no more is known here than that page.
//!
//! - `schedule`: when sensors measure, and when what they measured arrives
//! - `oracle`: rows by plain loops over all readings
//! - `run`: the same through the engine, with a clock of its own, restarted at will
//! - `cases`: single faults with their right values
//! - `simulation`: all of them together, by seeds

mod cases;
mod engine_run;
mod oracle;
mod schedule;
mod simulation;
