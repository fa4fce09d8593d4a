//! The mesh in one minute's reading: two nodes, four pods, a request in clear text and the same request in the mesh.
//!
//! Every claim that it prints was checked a moment before; the exit code says whether all of them held.

mod apps;
mod page;
mod story;

use std::panic::catch_unwind;
use std::process::ExitCode;

use page::Page;

fn main() -> ExitCode {
    harness::clean_up_on_signals();
    let page = Page::new();
    // The harness panics when something does not come about; unwinding removes what was made.
    match catch_unwind(|| story::tell(page)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            page.failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
        Err(_) => {
            page.failure("see above");
            ExitCode::FAILURE
        }
    }
}
