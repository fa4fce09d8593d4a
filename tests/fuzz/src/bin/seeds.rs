//! `seeds DIR`: writes the seeds and the dictionary of every target for libFuzzer, into `DIR/<target>/` and
//! `DIR/<target>.dict`. Prints the names of the targets.
#![expect(clippy::print_stdout, reason = "the list is its answer")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs, io};

use sotto_fuzz::Target;

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("name the folder to write to"));
    };
    for target in Target::ALL {
        let corpus = folder.join(target.name);
        fs::create_dir_all(&corpus)?;
        for (number, seed) in target.seeds().iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number:03}")), seed)?;
        }
        let mut dictionary = String::new();
        for word in target.words {
            let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            let _ = writeln!(dictionary, "\"{escaped}\"");
        }
        fs::write(folder.join(format!("{}.dict", target.name)), dictionary)?;
        println!("{}", target.name);
    }
    Ok(())
}
