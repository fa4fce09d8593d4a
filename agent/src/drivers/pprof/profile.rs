//! From samples to a profile: gzipped, as `go tool pprof`, Pyroscope, Parca and speedscope take it.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use super::messages::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::symbols::{Frame, Symbols};
use crate::sys::profile::cpu::CpuSamples;
use crate::sys::profile::heap::HeapSamples;
use crate::sys::profile::modules::Module;

/// The name of what the kernel did on behalf of the function that called it.
const KERNEL: &str = "[kernel]";

/// Functions that are of no interest: where an allocation is noted, and how it comes there.
const OWN: [&str; 2] = ["sotto::sys::profile::", "__rustc::__rust_"];

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Nobody wants it any more.
    #[error("the profile is no longer wanted")]
    Stopped,
    /// The compressor's word.
    #[error("compressing the profile: {0}")]
    Compression(#[from] io::Error),
}

/// Where processor time went. Sets in with `start`.
///
/// # Errors
/// [`ProfileError`]
pub fn cpu(
    modules: &[Module],
    samples: &CpuSamples,
    start: SystemTime,
    stop: &AtomicBool,
) -> Result<Vec<u8>, ProfileError> {
    let mut builder = Builder::new(modules, start);
    let period = nanoseconds(samples.period);
    builder.types([("samples", "count"), ("cpu", "nanoseconds")], period);
    builder.profile.duration_nanos = nanoseconds(samples.duration);
    if samples.lost > 0 {
        builder.comment(&format!(
            "{} more samples were lost: the machine was too busy to read them in time",
            samples.lost
        ));
    }
    for (stack, number) in &samples.stacks {
        let number = i64::try_from(*number).unwrap_or(i64::MAX);
        let mut locations = builder.stack(&stack.addresses, stop)?;
        if stack.in_kernel {
            locations.insert(0, builder.kernel());
        }
        let label = builder.label("thread", &stack.thread);
        let value = vec![number, number.saturating_mul(period)];
        builder.profile.sample.push(Sample { location_id: locations, value, label: vec![label] });
    }
    builder.finish()
}

/// What memory is for at the moment.
///
/// # Errors
/// [`ProfileError`]
pub fn heap(modules: &[Module], samples: &HeapSamples, stop: &AtomicBool) -> Result<Vec<u8>, ProfileError> {
    let mut builder = Builder::new(modules, SystemTime::now());
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let interval = i64::try_from(samples.interval).unwrap_or(i64::MAX);
    builder.types([("inuse_objects", "count"), ("inuse_space", "bytes")], interval);
    builder.profile.period_type = Some(ValueType { r#type: builder.text("space"), unit: builder.text("bytes") });
    if samples.left_out > 0 {
        builder.comment(&format!("{} more allocations would have been noted, but too many were", samples.left_out));
    }
    for allocated in &samples.stacks {
        let location_id = builder.stack(&allocated.stack, stop)?;
        let value = vec![number(allocated.objects), number(allocated.bytes)];
        builder.profile.sample.push(Sample { location_id, value, label: Vec::new() });
    }
    builder.finish()
}

/// A profile with its tables, in which everything is once.
struct Builder<'a> {
    modules: &'a [Module],
    symbols: Symbols<'a>,
    profile: Profile,
    texts: HashMap<String, i64>,
    functions: HashMap<(String, String), u64>,
    /// Of addresses that are all our own, none.
    locations: HashMap<usize, Option<u64>>,
    kernel: Option<u64>,
}

impl<'a> Builder<'a> {
    fn new(modules: &'a [Module], start: SystemTime) -> Self {
        let start = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut builder = Self {
            modules,
            symbols: Symbols::new(modules),
            profile: Profile { time_nanos: nanoseconds(start), ..Profile::default() },
            texts: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            kernel: None,
        };
        builder.text("");
        for (number, module) in (1..).zip(modules) {
            let filename = builder.text(&own_path(module));
            let code = module.code.clone();
            let (range, offset) = code.map_or((module.range.clone(), 0), |code| (code.range, code.offset));
            builder.profile.mapping.push(Mapping {
                id: number,
                memory_start: told(number, module, range.start),
                memory_limit: told(number, module, range.end),
                file_offset: offset as u64,
                filename,
                ..Mapping::default()
            });
        }
        builder
    }

    fn types(&mut self, types: [(&str, &str); 2], period: i64) {
        for (kind, unit) in types {
            let kind = ValueType { r#type: self.text(kind), unit: self.text(unit) };
            self.profile.sample_type.push(kind);
            (self.profile.period_type, self.profile.default_sample_type) = (Some(kind), kind.r#type);
        }
        self.profile.period = period;
    }

    fn comment(&mut self, text: &str) {
        let text = self.text(text);
        self.profile.comment.push(text);
    }

    fn label(&mut self, key: &str, value: &str) -> Label {
        Label { key: self.text(key), str: self.text(value) }
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(number) = self.texts.get(text) {
            return *number;
        }
        let number = i64::try_from(self.profile.string_table.len()).unwrap_or(i64::MAX);
        self.profile.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), number);
        number
    }

    /// The places of a stack, the innermost first.
    fn stack(&mut self, addresses: &[usize], stop: &AtomicBool) -> Result<Vec<u64>, ProfileError> {
        let mut found = Vec::new();
        for address in addresses {
            if stop.load(Ordering::Relaxed) {
                return Err(ProfileError::Stopped);
            }
            let location = match self.locations.get(address) {
                Some(known) => *known,
                None => {
                    let location = self.location(*address);
                    self.locations.insert(*address, location);
                    location
                }
            };
            found.extend(location);
        }
        Ok(found)
    }

    fn location(&mut self, address: usize) -> Option<u64> {
        let (module, mut frames) = self.symbols.at(address);
        let inner = frames.iter().take_while(|frame| OWN.iter().any(|own| frame.name.starts_with(own))).count();
        if inner > 0 && inner == frames.len() {
            return None;
        }
        frames.drain(..inner);
        if let (Some(module), Some(first)) = (module, frames.first()) {
            let mapping = &mut self.profile.mapping[module];
            mapping.has_functions = true;
            mapping.has_filenames |= !first.file.is_empty();
            mapping.has_line_numbers |= first.line > 0;
            mapping.has_inline_frames |= frames.len() > 1;
        }
        let (mapping_id, address) = module.map_or((0, 0), |place| {
            let number = self.profile.mapping[place].id;
            (number, told(number, &self.modules[place], address))
        });
        let line = frames.into_iter().map(|frame| self.line(frame)).collect();
        Some(self.add(Location { mapping_id, address, line, id: 0 }))
    }

    /// The one place of the kernel.
    fn kernel(&mut self) -> u64 {
        if let Some(kernel) = self.kernel {
            return kernel;
        }
        let line = self.line(Frame { name: KERNEL.to_owned(), ..Frame::default() });
        let kernel = self.add(Location { line: vec![line], ..Location::default() });
        *self.kernel.insert(kernel)
    }

    fn add(&mut self, location: Location) -> u64 {
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, ..location });
        id
    }

    fn line(&mut self, frame: Frame) -> Line {
        let Frame { name, file, line } = frame;
        let line = i64::from(line);
        let key = (name, file);
        if let Some(known) = self.functions.get(&key) {
            return Line { function_id: *known, line };
        }
        let function_id = self.profile.function.len() as u64 + 1;
        let (name, filename) = (self.text(&key.0), self.text(&key.1));
        self.profile.function.push(Function { id: function_id, name, system_name: name, filename });
        self.functions.insert(key, function_id);
        Line { function_id, line }
    }

    fn finish(self) -> Result<Vec<u8>, ProfileError> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&self.profile.encode_to_vec())?;
        Ok(packed.finish()?)
    }
}

/// An address as if each module was at a place that follows from its number: where code really is, a profile gives away to nobody.
fn told(number: u64, module: &Module, address: usize) -> u64 {
    const APART: u32 = 32;
    (number << APART) + address.wrapping_sub(module.range.start) as u64
}

/// Where the file really is, as far as that is known.
fn own_path(module: &Module) -> String {
    let path = std::fs::read_link(&module.path).unwrap_or_else(|_| module.path.clone());
    path.display().to_string()
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
