//! A well-behaved program for the tests of the agent: it does one thing, named
//! by its first argument, and says on standard output what came of it.
#![expect(
    clippy::disallowed_methods,
    reason = "it is the program in a pod, and uses what a program in a pod has"
)]
#![expect(clippy::print_stdout, reason = "what it says is read from its log")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["say", lines @ ..] => lines.iter().for_each(|line| println!("{line}")),
        ["complain", line] => eprintln_and_flush(line),
        ["exit", code] => return ExitCode::from(code.parse().unwrap_or(99)),
        ["wait"] => wait(),
        ["chatter", lines] => {
            (0..lines.parse().unwrap_or(0)).for_each(|line: u64| println!("line {line}"));
            wait();
        }
        ["polite"] => polite(),
        ["spin"] => loop {
            std::hint::spin_loop();
        },
        ["eat", bytes] => eat(bytes.parse().unwrap_or(0)),
        ["threads", count] => threads(count.parse().unwrap_or(0)),
        ["about"] => about(),
        ["write", path, text] => println!("{}", outcome(std::fs::write(path, text))),
        ["read", path] => {
            println!("{}", std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string()))
        }
        ["exists", path] => return ExitCode::from(u8::from(!std::path::Path::new(path).exists())),
        ["fill", path] => fill(path),
        ["serve", port] => serve(port),
        ["connect", address] => println!("{}", outcome(std::net::TcpStream::connect(address))),
        _ => return ExitCode::from(64),
    }
    ExitCode::SUCCESS
}

fn outcome<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "done".to_owned())
}

fn eprintln_and_flush(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

fn wait() {
    println!("ready");
    loop {
        std::thread::park();
    }
}

fn polite() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
            return;
        };
        println!("ready");
        term.recv().await;
        println!("bye");
    });
}

fn eat(bytes: usize) {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes >> 20 {
        eaten.push(vec![1; 1 << 20]);
    }
    println!("ate {}", eaten.len());
}

fn threads(count: usize) {
    let mut started = 0;
    for _ in 0..count {
        if std::thread::Builder::new().stack_size(64 << 10).spawn(wait_quietly).is_err() {
            break;
        }
        started += 1;
    }
    println!("started {started}");
}

fn wait_quietly() {
    std::thread::sleep(Duration::from_secs(3600));
}

fn about() {
    println!("uid {}", rustix::process::getuid().as_raw());
    println!("pid {}", std::process::id());
    println!("host {}", rustix::system::uname().nodename().to_string_lossy());
    println!("dir {}", outcome_path(std::env::current_dir()));
    let mut env: Vec<String> = std::env::vars().map(|(name, value)| format!("env {name}={value}")).collect();
    env.sort();
    env.iter().for_each(|line| println!("{line}"));
}

fn outcome_path(path: std::io::Result<std::path::PathBuf>) -> String {
    path.map_or_else(|error| error.to_string(), |path| path.display().to_string())
}

fn fill(path: &str) {
    let Ok(mut file) = std::fs::File::create(path) else { return println!("cannot create") };
    let block = [7; 64 << 10];
    let mut written: u64 = 0;
    while file.write_all(&block).is_ok() && written < 1 << 30 {
        written += block.len() as u64;
    }
    println!("wrote {written}");
}

fn serve(port: &str) {
    let listener = match TcpListener::bind(format!("0.0.0.0:{port}")) {
        Ok(listener) => listener,
        Err(error) => return println!("cannot listen: {error}"),
    };
    println!("ready");
    for connection in listener.incoming().flatten() {
        let mut connection = connection;
        let mut request = [0; 1024];
        drop(connection.read(&mut request));
        drop(connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"));
    }
}
