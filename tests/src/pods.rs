//! Pods as processes of their own, each on an address of its own: started,
//! killed, stopped, filled up, cut off.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use coffer_custody::OsEntropy;
use coffer_model::SiteId;
use coffer_server::{SiteAuthority, write_site_files};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// One pod: its files, its store, its process.
pub struct Pod {
    /// What its certificate names.
    pub site: SiteId,
    /// Where it listens.
    pub address: SocketAddr,
    launch: Launch,
    child: Child,
}

/// How a pod is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The daemon.
    pub program: PathBuf,
    /// Its certificate and keys.
    pub files: PathBuf,
    /// Its disk.
    pub store: PathBuf,
    /// What starts the program, where that is not this process itself.
    pub launcher: Vec<String>,
    /// The file of its lease, if it has one.
    pub lease: Option<PathBuf>,
}

impl Pod {
    /// Enrols a pod, creates its store in `store`, starts it on this address.
    pub fn start(
        program: &Path,
        authority: &SiteAuthority,
        country: &str,
        files: &Path,
        store: &Path,
        listen: SocketAddr,
    ) -> Self {
        let (program, files, store) = (program.to_owned(), files.to_owned(), store.to_owned());
        let launch = Launch { program, files, store, launcher: Vec::new(), lease: None };
        Self::launch(launch, authority, country, listen)
    }

    /// The same, started this way.
    pub fn launch(launch: Launch, authority: &SiteAuthority, country: &str, listen: SocketAddr) -> Self {
        let pod = authority.enrol(country.parse().unwrap(), &OsEntropy).unwrap();
        write_site_files(&launch.files, &pod.files).unwrap();
        let created = Command::new(&launch.program)
            .arg("create")
            .arg(&launch.store)
            .arg("--certificate")
            .arg(launch.files.join("certificate.pem"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(created.success());
        let (child, address) = launch.serve(listen);
        Self { site: pod.site, address, launch, child }
    }

    /// Starts it again after its end, on another address; from now on with
    /// this lease, if any.
    pub fn restart_at(&mut self, listen: SocketAddr, lease: Option<PathBuf>) {
        self.launch.lease = lease;
        (self.child, self.address) = self.launch.serve(listen);
    }

    /// The directory of its certificate and keys.
    pub fn files(&self) -> &Path {
        &self.launch.files
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for a good end.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success(), "a pod that is told to stop ends well");
    }

    /// Starts it again where it was.
    pub fn restart(&mut self) {
        let (child, address) = self.launch.serve(self.address);
        assert_eq!(address, self.address);
        self.child = child;
    }

    /// SIGSTOP: its sockets stay, nobody answers.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Launch {
    fn serve(&self, listen: SocketAddr) -> (Child, SocketAddr) {
        let mut words = self.launcher.iter().map(OsStr::new).chain([self.program.as_os_str()]);
        let lease = self.lease.iter().flat_map(|lease| [OsStr::new("--lease-file"), lease.as_os_str()]);
        let child = Command::new(words.next().unwrap())
            .args(words)
            .arg("serve")
            .args(lease)
            .arg("--dir")
            .arg(&self.store)
            .args(["--listen", &listen.to_string()])
            .arg("--certificate")
            .arg(self.files.join("certificate.pem"))
            .arg("--key")
            .arg(self.files.join("key.pem"))
            .arg("--receipt-key")
            .arg(self.files.join("receipt.key"))
            .arg("--ca")
            .arg(self.files.join("ca.pem"))
            .arg("--callers")
            .arg(self.files.join("callers"))
            .stdout(Stdio::piped())
            .spawn();
        ready(child.unwrap())
    }
}

/// Waits until a pod says where it listens.
fn ready(mut child: Child) -> (Child, SocketAddr) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().and_then(|word| word.parse().ok());
    assert!(address.is_some(), "the pod did not start: {line:?}");
    (child, address.unwrap())
}

/// A way to a pod that is cut without a word, as a firewall that drops does:
/// connections stay, and nothing comes through in either direction.
pub struct Firewall {
    /// Where callers come.
    pub address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Firewall {
    /// Stands before a pod.
    pub async fn before(pod: SocketAddr) -> Self {
        let listener = TcpListener::bind((pod.ip(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let Ok(target) = TcpStream::connect(pod).await else { continue };
                let ((from, to), (back, there)) = (caller.into_split(), target.into_split());
                tokio::spawn(carry(from, there, opened.clone()));
                tokio::spawn(carry(back, to, opened.clone()));
            }
        });
        Self { address, open }
    }

    /// Drops everything from now on.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
