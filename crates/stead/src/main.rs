//! The program: arguments in, words out, exit code.
fn main() {}
