//! The programs as users run them. One binary, so that it links once.

mod compose;
mod consumer_group;
mod crash;
mod demo;
mod end_to_end;
mod history;
mod layering;
mod support;
mod trainer_and_store;
mod up;
