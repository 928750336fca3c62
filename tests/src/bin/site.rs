//! The program `coffer-site`, for stories that need pods in processes of
//! their own: cargo gives a test the programs of its own package only.

fn main() -> std::process::ExitCode {
    coffer_site::program::main()
}
