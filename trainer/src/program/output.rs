//! Output of the program, for people and for pipes.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    process,
};

/// Prints a line to standard output, as `println!` does; where nobody reads any more, as
/// after `| head`, the program ends without complaint.
macro_rules! print_line {
    ($($text:tt)*) => { $crate::program::output::write_line(format_args!($($text)*)) };
}
pub(crate) use print_line;

pub(crate) fn write_line(line: fmt::Arguments) {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("standard output cannot be written: {error}");
            process::exit(1);
        }
    }
}
