//! What is done to the mesh while traffic flows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::ledger::Ledger;
use crate::outages::{End, Which};
use crate::stage::Stage;

/// A disturbance of everything: crashes, ends and starts of agents, pods that join and leave.
pub(crate) fn storm(stage: &Stage, ledger: &Ledger, mut rng: Rng, until: Instant) {
    let mut joined = false;
    while pause(&mut rng, until) {
        let which = if rng.bool() { Which::A } else { Which::B };
        match rng.u8(..10) {
            0..5 => step(ledger, "join or leave", || join_or_leave(stage, &mut joined)),
            5..8 => {
                let away = Duration::from_millis(rng.u64(..2000));
                step(ledger, "crash", || crash(stage, which, away));
            }
            _ => step(ledger, "end and start", || end_and_start(stage, which)),
        }
    }
    if joined {
        step(ledger, "join or leave", || join_or_leave(stage, &mut joined));
    }
}

/// Only pods that join and leave: agents stay the same, so that their growth shows.
pub(crate) fn calm(stage: &Stage, ledger: &Ledger, mut rng: Rng, until: Instant) {
    let mut joined = false;
    while pause(&mut rng, until) {
        step(ledger, "join or leave", || join_or_leave(stage, &mut joined));
    }
    if joined {
        step(ledger, "join or leave", || join_or_leave(stage, &mut joined));
    }
}

/// Waits a while; false when the time is over.
fn pause(rng: &mut Rng, until: Instant) -> bool {
    let pause = Duration::from_millis(rng.u64(1000..5000));
    thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
    Instant::now() < until
}

/// The harness panics when something does not come about. The soak goes on, so that the report tells everything.
fn step(ledger: &Ledger, what: &'static str, action: impl FnOnce()) {
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(()) => ledger.step(what),
        Err(_) => ledger.broken_step(what),
    }
}

fn join_or_leave(stage: &Stage, joined: &mut bool) {
    if *joined {
        stage.mover.opt_out();
        stage.mesh.wait_left(&[&stage.mover]);
    } else {
        stage.mover.enrol();
        stage.mesh.wait_enrolled(&[&stage.mover]);
    }
    *joined = !*joined;
}

fn crash(stage: &Stage, which: Which, away: Duration) {
    let side = stage.side(which);
    stage.outages.begin(which, End::Killed);
    side.agent().kill();
    stage.outages.gone();
    thread::sleep(away);
    side.start_agent();
    stage.wait_enrolled();
    stage.outages.over();
}

fn end_and_start(stage: &Stage, which: Which) {
    let side = stage.side(which);
    stage.set_carried(false);
    stage.outages.begin(which, End::Terminated);
    side.agent().terminate();
    stage.outages.gone();
    side.start_agent();
    stage.wait_enrolled();
    stage.outages.over();
    stage.set_carried(true);
}
