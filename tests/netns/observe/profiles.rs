//! Profiles of running agents: they name what the agents do, and whoever asks for them, however, harms nobody.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use harness::{Agent, DEADLINE, Pod, eventually};
use prost::Message;

use crate::fixture::Pair;

/// The admin pages, on the agent's node.
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 15000);

/// How long processor time is watched, in seconds.
const SECONDS: &str = "2";

/// The agent's data-plane thread.
const THREAD: &str = "data-0";

/// Connections to a server that does not read.
const STALLED: usize = 32;

/// What the server's agent holds for them at least, in bytes: much more than chance could hide at one sample in 128 KiB.
const HELD: i64 = 4 << 20;

/// Where it holds them.
const HOLDS: &str = "sotto::drivers::tunnel::mux::driver::";

/// pprof's `Profile`, as far as these tests read it.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<Numbers>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Numbers>,
    #[prost(string, repeated, tag = "6")]
    text: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Numbers>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Numbers>,
}

/// `Function`: id and name. `Line`: function. `Label`: key and text. `ValueType`: type and unit.
#[derive(Clone, PartialEq, Message)]
struct Numbers {
    #[prost(int64, tag = "1")]
    first: i64,
    #[prost(int64, tag = "2")]
    second: i64,
}

impl Profile {
    /// Reads a file that `sotto profile` has written.
    fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        Self::decode(bytes.as_slice()).unwrap()
    }

    fn text(&self, number: i64) -> &str {
        &self.text[usize::try_from(number).unwrap()]
    }

    /// Each stack with what it stands for (the last value), the innermost function first.
    fn stacks(&self) -> Vec<(Vec<&str>, &Sample)> {
        let names: HashMap<i64, &str> = self.function.iter().map(|it| (it.first, self.text(it.second))).collect();
        let lines: HashMap<u64, Vec<&str>> =
            self.location.iter().map(|it| (it.id, it.line.iter().map(|line| names[&line.first]).collect())).collect();
        let stack = |sample: &Sample| sample.location.iter().flat_map(|id| lines[id].clone()).collect();
        self.sample.iter().map(|sample| (stack(sample), sample)).collect()
    }

    /// The sum of what has a function whose name contains this.
    fn of(&self, function: &str) -> i64 {
        let has = |names: &[&str]| names.iter().any(|name| name.contains(function));
        self.stacks().iter().filter(|(names, _)| has(names)).map(|(_, sample)| sample.value[1]).sum()
    }

    /// Processor time of that thread, in seconds.
    fn of_thread(&self, name: &str) -> f64 {
        let is_it = |sample: &&Sample| sample.label.iter().any(|label| self.text(label.second) == name);
        self.sample.iter().filter(is_it).map(|sample| sample.value[1] as f64).sum::<f64>() / 1e9
    }

    fn total(&self) -> i64 {
        self.sample.iter().map(|sample| sample.value[1]).sum()
    }
}

/// Connections, one after the other, and a transfer beside them, until told to stop.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    /// Does something while all that is under way; whatever fails, fails the test.
    fn during<T>(&self, pair: &Pair, something: impl FnOnce() -> T) -> T {
        let address = pair.server.addr(8080);
        thread::scope(|scope| {
            let short = (0..2).map(|_| scope.spawn(|| self.connect(&pair.client, address))).collect::<Vec<_>>();
            let long = scope.spawn(|| self.transfer(&pair.client, address));
            let (connections, bytes) = (&self.connections, &self.bytes);
            eventually(DEADLINE, "there is a load", || {
                (connections.load(Ordering::SeqCst) > 20 && bytes.load(Ordering::SeqCst) > 1 << 20).then_some(())
            });
            let done = something();
            self.stop.store(true, Ordering::SeqCst);
            for thread in short.into_iter().chain([long]) {
                thread.join().expect("nothing fails under the load");
            }
            done
        })
    }

    fn connect(&self, client: &Pod, address: SocketAddr) {
        while !self.stop.load(Ordering::SeqCst) {
            client.connect(address).exchange("a few bytes");
            self.connections.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn transfer(&self, client: &Pod, address: SocketAddr) {
        let mut connection = client.connect(address);
        let bytes = vec![b'x'; 64 * 1024];
        while !self.stop.load(Ordering::SeqCst) {
            connection.exchange(&bytes);
            self.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
        }
    }
}

/// Processor time of the agent's thread of that name, in seconds, from proc_pid_stat(5).
fn processor_time(agent: &Agent, thread: &str) -> f64 {
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let stats = threads.map(|entry| fs::read_to_string(entry.unwrap().path().join("stat")).unwrap_or_default());
    let stat = stats.into_iter().find(|stat| stat.contains(&format!("({thread})"))).expect("the thread is there");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}

#[test]
fn a_cpu_profile_under_load_names_the_data_path_and_no_connection_fails() {
    let test = "a_cpu_profile_under_load_names_the_data_path_and_no_connection_fails";
    let Some(pair) = Pair::enrolled(test) else { return };
    let _echo = pair.server.serve_echo(8080);
    let folder = tempfile::tempdir().unwrap();
    let (load, file) = (Load::default(), folder.path().join("cpu.pb.gz"));
    let (used, took) = load.during(&pair, || {
        let (before, start) = (processor_time(&pair.agent_a, THREAD), Instant::now());
        let path = file.to_str().unwrap();
        let output = pair.agent_a.ask(&["profile", "cpu", "--seconds", SECONDS, "--frequency", "499", "-o", path]);
        assert!(output.status.success(), "{output:?}");
        (processor_time(&pair.agent_a, THREAD) - before, start.elapsed().as_secs_f64())
    });
    let profile = Profile::read(&file);
    let shown = || format!("{:#?}", profile.stacks());
    for function in ["sotto::traffic::l4::", "sotto::drivers::tunnel::mux::", "[kernel]"] {
        assert!(profile.of(function) > 0, "{function}: {}", shown());
    }
    // The load is the same all the time; names are looked for when the watching is over.
    let watched = Duration::from_nanos(profile.duration_nanos.try_into().unwrap()).as_secs_f64();
    let (told, expected) = (profile.of_thread(THREAD), used * watched / took);
    println!(
        "{THREAD}: {told:.2} s told, {expected:.2} s expected; {used:.2} s used in {took:.2} s, {watched:.2} s watched"
    );
    assert!((0.7..1.3).contains(&(told / expected)), "{told} s told, about {expected} s used meanwhile");
    // Nearly all stacks end where their threads begin.
    let whole = |names: &[&str]| names.iter().any(|name| name.contains("main") || name.contains("thread_start"));
    let stacks = profile.stacks();
    let (found, number) = stacks.iter().fold((0, 0), |(found, number), (names, sample)| {
        (found + if whole(names) { sample.value[0] } else { 0 }, number + sample.value[0])
    });
    assert!(found * 10 > number * 8, "{found} of {number} are whole: {}", shown());
}

type Reading = Arc<(Mutex<bool>, Condvar)>;

/// A server that reads nothing until it is told to.
fn serve_later(server: &Pod) -> Reading {
    let reading = Reading::default();
    let reads = Arc::clone(&reading);
    server.serve(8080, move |_conn| {
        let (reads, changed) = &*reads;
        drop(changed.wait_while(reads.lock().unwrap(), |reads| !*reads).unwrap());
    });
    reading
}

fn serve_now(reading: &Reading) {
    *reading.0.lock().unwrap() = true;
    reading.1.notify_all();
}

/// The heap of an agent, as the operator's command tells it.
fn heap(agent: &Agent, file: &Path) -> Profile {
    let output = agent.ask(&["profile", "heap", "--seconds", "3", "--output", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    Profile::read(file)
}

#[test]
fn a_heap_profile_tells_what_is_held_for_readers_that_do_not_read_and_only_as_long() {
    let test = "a_heap_profile_tells_what_is_held_for_readers_that_do_not_read_and_only_as_long";
    let Some(pair) = Pair::with_agent_argument(test, Some(("--heap-profile", "true"))) else { return };
    pair.enrol();
    let reading = serve_later(&pair.server);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("heap.pb.gz");
    let clients: Vec<_> = (0..STALLED).map(|_| pair.client.connect(pair.server.addr(8080))).collect();
    clients.iter().for_each(|client| client.stream().set_nonblocking(true).unwrap());
    let chunk = vec![b'x'; 64 * 1024];
    let profile = eventually(DEADLINE, "the server's agent holds what is not read", || {
        clients.iter().for_each(|client| while client.stream().write(&chunk).is_ok() {});
        Some(heap(&pair.agent_b, &file)).filter(|profile| profile.of(HOLDS) > HELD)
    });
    let types: Vec<_> =
        profile.sample_type.iter().map(|it| (profile.text(it.first), profile.text(it.second))).collect();
    assert_eq!(types, [("inuse_objects", "count"), ("inuse_space", "bytes")]);
    assert!(profile.total() < 1 << 30, "{:#?}", profile.stacks());
    drop(clients);
    serve_now(&reading);
    eventually(DEADLINE, "nothing is held any more", || {
        (heap(&pair.agent_b, &file).of(HOLDS) < HELD / 4).then_some(())
    });
}

#[test]
fn a_heap_profile_of_any_agent_tells_what_came_while_it_was_watched() {
    let Some(pair) = Pair::enrolled("a_heap_profile_of_any_agent_tells_what_came_while_it_was_watched") else { return };
    let reading = serve_later(&pair.server);
    let folder = tempfile::tempdir().unwrap();
    let files = ["during.pb.gz", "after.pb.gz"].map(|name| folder.path().join(name));
    let clients: Vec<_> = (0..STALLED).map(|_| pair.client.connect(pair.server.addr(8080))).collect();
    clients.iter().for_each(|client| client.stream().set_nonblocking(true).unwrap());
    let during = thread::scope(|scope| {
        let profile = scope.spawn(|| heap(&pair.agent_b, &files[0]));
        let chunk = vec![b'x'; 64 * 1024];
        // One more each time: what is under way before the watch begins is not told.
        for number in 1.. {
            if profile.is_finished() {
                break;
            }
            clients.iter().take(number).for_each(|client| while client.stream().write(&chunk).is_ok() {});
            thread::sleep(Duration::from_millis(50));
        }
        profile.join().unwrap()
    });
    assert!(during.of(HOLDS) > HELD / 2, "{:#?}", during.stacks());
    // It is still held, and nothing more comes.
    let after = heap(&pair.agent_b, &files[1]);
    assert!(after.of(HOLDS) < HELD / 4, "{:#?}", after.stacks());
    serve_now(&reading);
}

#[test]
fn hostile_questions_for_profiles_are_refused_and_the_next_works_at_once() {
    let Some(pair) = Pair::plain("hostile_questions_for_profiles_are_refused_and_the_next_works_at_once") else {
        return;
    };
    let agent = &pair.agent_a;
    for query in
        ["seconds=0", "seconds=1e9", "seconds=-1", "seconds=61", "seconds=%00", "frequency=0", "hertz=5", "%ff"]
    {
        let (status, text) = agent.try_get(&format!("/debug/pprof/profile?{query}")).unwrap();
        assert!(status == 400 && (text.contains("for example") || text.contains("as in")), "{query}: {status} {text}");
    }
    assert_eq!(agent.try_get("/debug/pprof/heap?debug=1").unwrap().0, 400);
    assert!(send(&pair, "POST /debug/pprof/profile?seconds=1").starts_with("HTTP/1.1 405"));
    let page = agent.get("/");
    assert!(page.contains("/debug/pprof/profile") && page.contains("/debug/pprof/heap"), "{page}");

    // Somebody asks for long, and goes away.
    let patient = begin_long(&pair);
    let output = agent.ask(&["profile", "cpu", "--seconds", "1", "-o", "-"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("ask again after"), "{output:?}");
    drop(patient);
    eventually(DEADLINE, "the next works", || {
        let output = agent.ask(&["profile", "heap", "--seconds", "1", "-o", "-"]);
        (output.status.success() && output.stdout.starts_with(&[0x1f, 0x8b])).then_some(())
    });
    // A heap profile that somebody went away from is not what the next one gets.
    let patient = eventually(DEADLINE, "the heap is watched", || {
        let patient = ask(&pair, "GET /debug/pprof/heap?seconds=60");
        let (status, text) = agent.try_get("/debug/pprof/profile?seconds=1").ok()?;
        (status == 409 && text.contains("a heap profile")).then_some(patient)
    });
    drop(patient);
    let (start, answer) = eventually(DEADLINE, "the next heap profile is made", || {
        let start = Instant::now();
        let answer = send(&pair, "GET /debug/pprof/heap?seconds=1");
        (!answer.starts_with("HTTP/1.1 409")).then_some((start, answer))
    });
    let took = start.elapsed();
    assert!(answer.starts_with("HTTP/1.1 200") && took >= Duration::from_secs(1), "{took:?}: {answer:.200}");
    let output = agent.ask(&["profile", "heap", "-o", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    // An agent that ends does not wait for a profile.
    let _patient = begin_long(&pair);
    assert!(agent.terminate().success());
}

/// Asks for a CPU profile that takes long, and returns when it is under way.
fn begin_long(pair: &Pair) -> TcpStream {
    eventually(DEADLINE, "the profile is under way", || {
        let patient = ask(pair, "GET /debug/pprof/profile?seconds=60");
        // Whichever was first has the place.
        let (status, text) = pair.agent_a.try_get("/debug/pprof/heap?seconds=1").ok()?;
        let is_under_way =
            status == 409 && text.contains("a CPU profile is being made") && text.contains("ask again after");
        is_under_way.then_some(patient)
    })
}

fn ask(pair: &Pair, what: &str) -> TcpStream {
    let mut stream = pair.a.netns().run(|| TcpStream::connect(SocketAddr::from(ADMIN))).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{what} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    stream
}

fn send(pair: &Pair, what: &str) -> String {
    let mut stream = ask(pair, what);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
