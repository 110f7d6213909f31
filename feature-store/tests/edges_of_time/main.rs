//! Wrong clocks, gaps, backlogs, late readings and ends of data: the engine must do what
//! `docs/time.md` says. The tests know no more than that page.
//!
//! - `schedule`: event times and arrival times of sensors
//! - `oracle`: rows by plain loops over all readings
//! - `engine_run`: the same through the engine, with a simulated clock and restarts
//! - `cases`: single faults with their expected values
//! - `simulation`: all faults together, by seeds

mod cases;
mod engine_run;
mod oracle;
mod schedule;
mod simulation;
