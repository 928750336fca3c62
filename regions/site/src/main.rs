//! The program `coffer-site`.

fn main() -> std::process::ExitCode {
    coffer_site::program::main()
}
