//! The program `feature-store` by itself.

use std::process::ExitCode;

use clap::Parser as _;
use microclimate_feature_store::{
    program::{FeatureStoreArgs, run_program},
    sql_sandbox,
};

fn main() -> anyhow::Result<ExitCode> {
    if let Some(code) = sql_sandbox::serve_if_requested() {
        return Ok(code);
    }
    run_program(FeatureStoreArgs::parse())
}
