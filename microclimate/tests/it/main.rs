//! Runs the programs as users do. There is one test binary, so that it links once.

mod browser;
mod compose;
mod consumer_group;
mod crash;
mod demo;
mod end_to_end;
mod history;
mod page;
mod support;
mod trainer_and_store;
mod up;
