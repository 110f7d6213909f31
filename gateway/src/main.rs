//! The program `gateway` by itself.

use std::process::ExitCode;

use clap::Parser as _;
use microclimate_gateway::program::{GatewayArgs, run_program};

fn main() -> anyhow::Result<ExitCode> {
    run_program(GatewayArgs::parse())
}
