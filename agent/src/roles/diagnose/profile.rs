//! `sotto profile`

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ask::Agent;
use super::output::{Failure, Outcome};
use crate::control::diagnose::profile::CpuQuestion;
use crate::drivers::admin::client::Ask;

/// Which profile, and where it goes.
#[derive(Debug)]
pub struct Profile {
    /// Of what.
    pub subject: Subject,
    /// A file, or `-`.
    pub output: PathBuf,
}

/// What a profile is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Processor time.
    Cpu(CpuQuestion),
    /// Memory: what is allocated meanwhile and not freed, unless the agent notes it all the time.
    Heap(Duration),
}

/// The longest that is read, in bytes.
const MAX_PROFILE: usize = 64 << 20;

/// Asks for the profile, once it is sure that there is a place for it.
pub(super) async fn run(agent: Agent, profile: &Profile) -> Result<Outcome, Failure> {
    let output = &profile.output;
    let unwritable = |error: io::Error| Failure::Question(format!("--output {}: {error}", output.display()));
    let mut place = Place::open(output).map_err(unwritable)?;
    let ask = match profile.subject {
        Subject::Cpu(question) => {
            Ask::get(format!("/debug/pprof/profile?{}", question.to_query())).made_in(question.duration)
        }
        Subject::Heap(duration) => {
            Ask::get(format!("/debug/pprof/heap?seconds={}", duration.as_secs())).made_in(duration)
        }
    };
    let (Subject::Cpu(CpuQuestion { duration, .. }) | Subject::Heap(duration)) = profile.subject;
    tell(&format!("watching the agent for {duration:?}"));
    let bytes = agent.bytes(&ask.at_most(MAX_PROFILE)).await?;
    place.write(&bytes).map_err(unwritable)?;
    if !matches!(place, Place::Stdout) {
        tell(&format!("written: {0}; look at it with: go tool pprof -http=: {0}", output.display()));
    }
    Ok(Outcome::Fine)
}

/// Says to people what goes on; standard output may be the profile.
fn tell(what: &str) {
    let _nobody_reads = writeln!(io::stderr(), "sotto: {what}");
}

/// Where the profile goes.
enum Place {
    Stdout,
    /// What is there already is not replaced before all is written.
    File {
        partial: PathBuf,
        path: PathBuf,
        file: File,
    },
    /// A pipe, a device.
    Special(File),
}

impl Place {
    fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            let is_terminal = io::stdout().is_terminal();
            let shown = || io::Error::other("a profile is no text; choose a file, or send it to another program");
            return if is_terminal { Err(shown()) } else { Ok(Self::Stdout) };
        }
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() => return Ok(Self::Special(OpenOptions::new().write(true).open(path)?)),
            Ok(_) => drop(OpenOptions::new().write(true).open(path)?),
            Err(_) => {}
        }
        // Through a link, to where it leads.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut partial = path.clone().into_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().write(true).create_new(true).open(&partial)?;
        Ok(Self::File { partial, path, file })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(bytes),
            Self::Special(file) => file.write_all(bytes),
            Self::File { partial, path, file } => {
                file.write_all(bytes)?;
                fs::rename(partial, path)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::File { partial, .. } = self {
            let _it_was_renamed = fs::remove_file(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_when_all_is_there_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cpu.pb.gz");
        fs::write(&path, "old").unwrap();
        drop(Place::open(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        Place::open(&path).unwrap().write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_at_once_and_a_device_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Place::open(folder.path()).is_err());
        assert!(Place::open(&folder.path().join("nowhere/cpu")).is_err());
        let mut device = Place::open(Path::new("/dev/null")).unwrap();
        device.write(b"new").unwrap();
        drop(device);
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
