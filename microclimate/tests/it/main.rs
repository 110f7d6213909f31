//! Runs the programs as users do. There is one test binary, so that it links once.

mod alerts;
mod backup;
mod browser;
mod compose;
mod consumer_group;
mod crash;
mod demo;
mod end_to_end;
#[path = "../../../trainer/tests/life/handmade_champion.rs"]
mod handmade_champion;
mod history;
mod layering;
mod page;
mod support;
mod trainer_and_store;
mod up;
