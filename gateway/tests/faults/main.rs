//! The fault bench: real processes, real faults, and one question: is anything
//! that was acknowledged lost?
//!
//! ```sh
//! cargo test -p gateway --test faults                  # all but the soak
//! cargo test -p gateway --test faults -- kafka         # by name
//! MICROCLIMATE_SOAK_S=3600 cargo test -p gateway --test faults -- --ignored soak
//! ```
//!
//! Needs Mosquitto, Java and Maven; what is missing is named and skipped, or a
//! failure with `MICROCLIMATE_BROKERS=required`. The table of results is
//! printed and written to `fault-bench.md` in the target folder.
//!
//! Faults last for a time (a frozen broker, a slow line), so unlike other tests
//! this one sleeps; but only to let a fault last, never to let things settle.
//!
//! # Layout
//! - `sender`, `mqtt`, `traffic`: devices; what they sent, and know to be taken
//! - `proxy`, `tap`: a line that breaks, and one that is listened to
//! - `process`, `mosquitto`, `kafka`: the programs
//! - `scene`, `bench`: all of it put together; what scenarios share
//! - `verdict`, `table`: is it in the log; the results
//! - `scenarios`: the faults

mod bench;
mod kafka;
mod mosquitto;
mod mqtt;
mod process;
mod proxy;
mod scenarios;
mod scene;
mod sender;
mod skip;
mod table;
mod tap;
mod traffic;
mod verdict;

use std::{path::Path, time::Duration};

use bench::Bench;
use libtest_mimic::{Arguments, Failed, Trial};
use scenarios::Scenario;
use skip::Skip;
use table::Row;
use tokio::runtime::Runtime;

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const AGES: Duration = Duration::from_secs(90);
/// Scenarios wait more than they work, so there may be more than cores.
const AT_ONCE: usize = 4;

fn main() -> anyhow::Result<()> {
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(AT_ONCE);
    // Both live as long as the process: trials want them for ever.
    let runtime: &Runtime = Box::leak(Box::new(Runtime::new()?));
    let bench: &Bench = Box::leak(Box::new(Bench::new()?));
    let trials = scenarios::all().into_iter().map(|scenario| trial(scenario, runtime, bench));
    let conclusion = libtest_mimic::run(&args, trials.collect());
    bench.close();
    let rows = bench.rows();
    if !rows.is_empty() {
        let table = table::markdown(&rows);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a target folder");
        std::fs::write(target.join("fault-bench.md"), &table)?;
        println!("{table}");
    }
    conclusion.exit()
}

fn trial(scenario: Scenario, runtime: &'static Runtime, bench: &'static Bench) -> Trial {
    let Scenario { name, is_long, run } = scenario;
    let test = {
        let name = name.clone();
        move || match runtime.block_on(run(bench)) {
            Err(error) if error.is::<Skip>() && !Skip::is_failure() => {
                eprintln!("skipped: {name}: {error}");
                Ok(())
            }
            Err(error) => {
                let note = format!("FAILED: {}", error.to_string().lines().next().unwrap_or(""));
                bench.note(Row { fault: name, note, ..Row::default() });
                Err(Failed::from(format!("{error:#}")))
            }
            Ok(()) => Ok(()),
        }
    };
    Trial::test(name, test).with_ignored_flag(is_long)
}
