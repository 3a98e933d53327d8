//! The socket of an ssh agent, shown to a container as one of its own.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// Passes connections on to an agent until it is dropped.
pub(super) struct Agent {
    /// Closing it ends the thread.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens at `socket`, which must not be there, for connections to the agent at `agent`.
    pub(super) fn start(socket: &Path, agent: &Path) -> io::Result<Self> {
        let listener = listen(socket)?;
        listener.set_nonblocking(true)?;
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let agent = agent.to_owned();
        let thread = thread::Builder::new()
            .name("ssh agent".to_owned())
            .spawn(move || serve(&listener, &stopped, &agent))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the socket is gone.
            thread.join().unwrap_or_default();
        }
    }
}

/// Binds a socket whose path may be longer than the 107 bytes of an address.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let name = socket.file_name().unwrap_or_default();
    let opened = File::open(directory)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(name);
    UnixListener::bind(short)
}

fn serve(listener: &UnixListener, stopped: &OwnedFd, agent: &Path) {
    loop {
        let mut ready = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(stopped, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
            Ok(_) if !ready[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        // Who cannot be served sees the connection end.
        if let Ok((client, _)) = listener.accept() {
            connect(client, agent).unwrap_or_default();
        }
    }
}

/// Passes bytes on in both directions, on two threads, until both ends are closed.
fn connect(client: UnixStream, agent: &Path) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let agent = UnixStream::connect(agent)?;
    let pass = |mut from: UnixStream, mut to: UnixStream| {
        move || {
            // Whatever ended it, the other side has to know.
            io::copy(&mut from, &mut to).unwrap_or_default();
            to.shutdown(Shutdown::Write).unwrap_or_default();
        }
    };
    let there = pass(client.try_clone()?, agent.try_clone()?);
    let back = pass(agent, client);
    thread::Builder::new().spawn(there)?;
    thread::Builder::new().spawn(back)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn connections_are_passed_on_both_ways_until_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        // Longer than a socket's address can be.
        let deep = directory.path().join("d".repeat(200));
        std::fs::create_dir(&deep).expect("made");
        let (real, shown) = (directory.path().join("real"), deep.join("shown"));
        let agent = UnixListener::bind(&real).expect("a socket");
        let proxy = Agent::start(&shown, &real).expect("started");
        let connect = || {
            let opened = File::open(&deep).expect("there");
            UnixStream::connect(format!("/proc/self/fd/{}/shown", opened.as_raw_fd()))
        };
        let mut clients: Vec<_> = (0..3).map(|_| connect().expect("served")).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            writeln!(client, "question {number}").expect("sent");
            client.shutdown(Shutdown::Write).expect("ended");
            let (mut server, _) = agent.accept().expect("passed on");
            let mut question = String::new();
            server.read_to_string(&mut question).expect("received");
            server.write_all(question.as_bytes()).expect("answered");
            drop(server);
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("received");
            assert_eq!(answer, format!("question {number}\n"));
        }
        drop(proxy);
        connect().expect_err("nobody listens");
    }
}
