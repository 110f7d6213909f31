//! The programs as users run them. One binary, so that it links once.

mod browser;
mod compose;
mod consumer_group;
mod crash;
mod demo;
mod end_to_end;
mod history;
mod page;
mod support;
mod up;
