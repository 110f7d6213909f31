//! The program `firmware-sim` by itself.

use std::process::ExitCode;

use clap::Parser as _;
use microclimate_firmware_sim::program::{SimulatorArgs, run_program};

fn main() -> anyhow::Result<ExitCode> {
    run_program(SimulatorArgs::parse())
}
