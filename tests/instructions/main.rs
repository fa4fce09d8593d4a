//! What the pure functions of the data path cost, in instructions: `cargo xtask instructions` runs this under callgrind and holds
//! the counts against `budget.txt`.

mod cases;
mod state;

use cases::Case;
use sotto::sys::profile::heap::HeapProfiler;

/// As in the agent.
#[global_allocator]
static HEAP: HeapProfiler = HeapProfiler;

/// How often each case runs: what happens once (a map that grows) then hardly counts.
const TIMES: usize = 64;

/// Writes the names of the cases to the file that is its argument.
fn main() {
    // Cargo hands over `--bench`.
    let names = std::env::args().nth(1).filter(|name| !name.starts_with("--"));
    let mut done = String::new();
    for (name, prepare) in cases::ALL {
        let case = prepare();
        measured(&case);
        done.push_str(&format!("{name} {TIMES}\n"));
    }
    if let Some(file) = names {
        std::fs::write(file, done).expect("the file of names can be written");
    }
}

/// The one function that callgrind counts: it writes a file whenever this returns.
#[inline(never)]
fn measured(case: &Case) {
    for turn in 0..TIMES {
        case(turn);
    }
}
