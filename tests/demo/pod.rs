//! A small application for the demo: what runs inside the pods, knowing nothing of any mesh.
//!
//! ```text
//! pod serve PORT       answers every line with "hello PEER-IP, you said: LINE"
//! pod call ADDRESS     reads from standard input: "new TEXT" says TEXT on a new connection,
//!                      "keep TEXT" on one that stays open from the first to the last
//! ```
#![expect(clippy::print_stdout, reason = "its output is what the demo reads")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", port] => serve(port.parse().context("PORT is no number")?),
        ["call", address] => call(address),
        _ => bail!("usage: pod serve PORT | pod call ADDRESS"),
    }
}

fn serve(port: u16) -> Result<()> {
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("cannot listen on {port}"))?;
    println!("serving");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || answer_lines(stream));
    }
    Ok(())
}

/// Answers line by line until the client has enough.
fn answer_lines(mut stream: TcpStream) -> Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(Ok(line)) = lines.next() {
        writeln!(stream, "hello {peer}, you said: {line}")?;
    }
    Ok(())
}

fn call(address: &str) -> Result<()> {
    let mut kept = None;
    for command in std::io::stdin().lines() {
        let command = command?;
        let result = match command.split_once(' ') {
            Some(("new", text)) => connect(address).and_then(|mut stream| say(&mut stream, text)),
            Some(("keep", text)) => {
                let stream = match &mut kept {
                    Some(stream) => stream,
                    none => none.insert(connect(address)?),
                };
                say(stream, text)
            }
            _ => bail!("not a command: {command}"),
        };
        match result {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("error: {error:#}"),
        }
    }
    Ok(())
}

fn connect(address: &str) -> Result<TcpStream> {
    let address = address.parse().context("ADDRESS is not IP:PORT")?;
    let stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn say(stream: &mut TcpStream, text: &str) -> Result<String> {
    stream.write_all(format!("{text}\n").as_bytes()).context("cannot send")?;
    let mut answer = String::new();
    // One line per request: nothing can be waiting behind it in the reader's buffer.
    let count = BufReader::new(&*stream).read_line(&mut answer).context("no answer")?;
    if count == 0 {
        bail!("the server closed the connection");
    }
    Ok(answer.trim_end().to_owned())
}
