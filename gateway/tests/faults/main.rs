//! The fault bench: real processes, real faults, and one question: is any acknowledged message
//! lost?
//!
//! ```sh
//! cargo test -p microclimate-gateway --test faults                  # all but the soak
//! cargo test -p microclimate-gateway --test faults -- kafka         # by name
//! MICROCLIMATE_SOAK_S=3600 cargo test -p microclimate-gateway --test faults -- --ignored soak
//! ```
//!
//! Needs Mosquitto, Java and Maven. A missing program is named and skipped, or a failure with
//! `MICROCLIMATE_BROKERS=required`. The table of results is printed and written to
//! `fault-bench.md` in the target folder.
//!
//! Faults last for a time (a frozen broker, a slow connection), so this test sleeps, unlike
//! others. It sleeps only to let a fault last, never to let things settle.
//!
//! # Layout
//! - `sender`, `mqtt`, `fleet_traffic`: devices, and the messages that they sent and got
//!   acknowledged
//! - `fault_proxy`, `packet_tap`: a proxy with faults, and a tap on its connections
//! - `gateway_process`, `mosquitto`, `kafka`: the programs
//! - `fault_scene`, `fault_bench`: all of them together; the resources that scenarios share
//! - `delivery_evidence`, `result_table`: the comparison with the log; the results
//! - `scenarios`: the faults

mod delivery_evidence;
mod fault_bench;
mod fault_proxy;
mod fault_scene;
mod fleet_traffic;
mod gateway_process;
mod kafka;
mod mosquitto;
mod mqtt;
mod packet_tap;
mod result_table;
mod scenarios;
mod sender;
mod skip;

use std::{path::Path, time::Duration};

use fault_bench::FaultBench;
use libtest_mimic::{Arguments, Failed, Trial};
use result_table::ResultRow;
use scenarios::FaultScenario;
use skip::MissingTool;
use tokio::runtime::Runtime;

/// Time-out that nothing correct reaches. A test that waits for it has failed.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(90);
/// Scenarios wait more than they work, so there may be more than cores.
const AT_ONCE: usize = 4;

fn main() -> anyhow::Result<()> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(AT_ONCE);
    // Both live as long as the process, because trials need `'static` references.
    let runtime: &Runtime = Box::leak(Box::new(Runtime::new()?));
    let bench: &FaultBench = Box::leak(Box::new(FaultBench::new()?));
    let trials = scenarios::all_scenarios()
        .into_iter()
        .map(|scenario| build_trial(scenario, runtime, bench));
    let conclusion = libtest_mimic::run(&args, trials.collect());
    bench.kill_all();
    let rows = bench.rows();
    if !rows.is_empty() {
        let table = result_table::format_markdown(&rows);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder");
        std::fs::write(target.join("fault-bench.md"), &table)?;
        println!("{table}");
    }
    conclusion.exit()
}

fn build_trial(
    scenario: FaultScenario,
    runtime: &'static Runtime,
    bench: &'static FaultBench,
) -> Trial {
    let FaultScenario { name, is_long, run } = scenario;
    let test = {
        let name = name.clone();
        move || match runtime.block_on(run(bench)) {
            Err(error) if error.is::<MissingTool>() && !MissingTool::is_failure() => {
                eprintln!("skipped: {name}: {error}");
                Ok(())
            }
            Err(error) => {
                let note = format!("FAILED: {}", error.to_string().lines().next().unwrap_or(""));
                bench.add_row(ResultRow { fault: name, note, ..ResultRow::default() });
                Err(Failed::from(format!("{error:#}")))
            }
            Ok(()) => Ok(()),
        }
    };
    Trial::test(name, test).with_ignored_flag(is_long)
}
