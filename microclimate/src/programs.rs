//! One program, five names: `gateway`, `feature-store`, `trainer` and `firmware-sim` are links
//! to `microclimate`, and each is a command of it too.

use std::{env, fs, io, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory, Parser as _};
use clap_complete::Shell;
use feature_store::program::FeatureStoreArgs;
use firmware_sim::program::SimulatorArgs;
use gateway::program::GatewayArgs;
use trainer::program::TrainerArgs;

use crate::cli::MicroclimateArgs;

/// Names under which the program is installed.
pub(crate) const NAMES: [&str; 5] =
    ["microclimate", "gateway", "feature-store", "trainer", "firmware-sim"];

/// A service that has a program of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceProgram {
    Gateway,
    FeatureStore,
    Trainer,
    FirmwareSim,
}

/// The service by whose name this program was called, where it was.
pub(crate) fn named_service() -> Option<ServiceProgram> {
    service_of(Path::new(&env::args_os().next()?))
}

fn service_of(program: &Path) -> Option<ServiceProgram> {
    match program.file_name()?.to_str()? {
        "gateway" => Some(ServiceProgram::Gateway),
        "feature-store" => Some(ServiceProgram::FeatureStore),
        "trainer" => Some(ServiceProgram::Trainer),
        "firmware-sim" => Some(ServiceProgram::FirmwareSim),
        _ => None,
    }
}

/// Runs a service with the arguments of this process.
///
/// # Errors
/// Fails as the service does.
pub(crate) fn run_service(service: ServiceProgram) -> Result<ExitCode> {
    match service {
        ServiceProgram::Gateway => gateway::program::run_program(GatewayArgs::parse()),
        ServiceProgram::FeatureStore => {
            feature_store::program::run_program(FeatureStoreArgs::parse())
        }
        ServiceProgram::Trainer => trainer::program::run_program(TrainerArgs::parse()),
        ServiceProgram::FirmwareSim => firmware_sim::program::run_program(SimulatorArgs::parse()),
    }
}

/// Prints what a shell needs to complete the arguments of a program.
pub(crate) fn print_completions(shell: Shell, program: &str) {
    let mut command = command_of(program);
    clap_complete::generate(shell, &mut command, program, &mut io::stdout());
}

/// Writes a man page for the program, each of its commands and each service.
///
/// # Errors
/// Where the folder cannot be written.
pub(crate) fn write_man_pages(dir: &Path) -> Result<()> {
    let failed = || format!("{}: no man pages", dir.display());
    clap_mangen::generate_to(MicroclimateArgs::command(), dir).with_context(failed)?;
    for name in &NAMES[1..] {
        // The page of the command of the same name.
        let link = format!(".so man1/microclimate-{name}.1\n");
        fs::write(dir.join(format!("{name}.1")), link).with_context(failed)?;
    }
    Ok(())
}

fn command_of(program: &str) -> Command {
    match service_of(Path::new(program)) {
        None => MicroclimateArgs::command(),
        Some(ServiceProgram::Gateway) => GatewayArgs::command(),
        Some(ServiceProgram::FeatureStore) => FeatureStoreArgs::command(),
        Some(ServiceProgram::Trainer) => TrainerArgs::command(),
        Some(ServiceProgram::FirmwareSim) => SimulatorArgs::command(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_the_name_of_its_link() {
        let check = |program: &str, expect: Option<ServiceProgram>| {
            assert_eq!(service_of(Path::new(program)), expect, "{program}");
        };
        check("/usr/bin/gateway", Some(ServiceProgram::Gateway));
        check("./feature-store", Some(ServiceProgram::FeatureStore));
        check("trainer", Some(ServiceProgram::Trainer));
        check("firmware-sim", Some(ServiceProgram::FirmwareSim));
        check("/usr/bin/microclimate", None);
        check("/srv/gateway/microclimate", None);
        check("", None);
    }

    #[test]
    fn commands_have_no_contradictions() {
        for name in NAMES {
            command_of(name).debug_assert();
        }
    }

    #[test]
    fn every_name_has_a_man_page() {
        let dir = tempfile::tempdir().unwrap();
        write_man_pages(dir.path()).unwrap();
        for name in NAMES {
            let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            let shown = page
                .strip_prefix(".so man1/")
                .map(|link| fs::read_to_string(dir.path().join(link.trim())).unwrap());
            assert!(shown.unwrap_or(page).contains(".TH"), "{name}");
        }
    }
}
