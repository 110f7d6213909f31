//! The program `trainer` by itself.

use std::process::ExitCode;

use clap::Parser as _;
use microclimate_trainer::program::{TrainerArgs, run_program};

fn main() -> anyhow::Result<ExitCode> {
    run_program(TrainerArgs::parse())
}
