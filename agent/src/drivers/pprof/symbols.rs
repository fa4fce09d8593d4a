//! Which functions are active at an address, by the symbols and line tables of the binary and its libraries. Files are read when the
//! first of their addresses is asked for, and forgotten with the whole.

use std::borrow::Cow;
use std::cell::OnceCell;

use addr2line::{Loader, demangle_auto};

use crate::sys::profile::modules::Module;

/// The folder of this crate.
const OWN_FOLDER: &str = "agent";

/// Names for addresses.
pub(super) struct Symbols<'a> {
    modules: Vec<(&'a Module, OnceCell<Option<Loader>>)>,
}

/// A function, or what was inlined into one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its path, without type parameters.
    pub(super) name: String,
    pub(super) file: String,
    pub(super) line: u32,
}

impl<'a> Symbols<'a> {
    pub(super) fn new(modules: &'a [Module]) -> Self {
        Self { modules: modules.iter().map(|module| (module, OnceCell::new())).collect() }
    }

    /// The module that the address is in, by its place in the list, and what is active there: the innermost first. Nothing is known
    /// of modules without symbols.
    pub(super) fn at(&self, address: usize) -> (Option<usize>, Vec<Frame>) {
        let place = self.modules.iter().position(|(module, _)| module.range.contains(&address));
        let frames = place.map(|place| &self.modules[place]).and_then(|(module, loader)| {
            // What cannot be read has no names: the kernel's page, or a library that was replaced.
            let loader = loader.get_or_init(|| Loader::new(&module.path).ok()).as_ref()?;
            Some(frames(loader, address.wrapping_sub(module.bias) as u64))
        });
        (place, frames.unwrap_or_default())
    }
}

fn frames(loader: &Loader, address: u64) -> Vec<Frame> {
    let mut found = Vec::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let (file, line) = match &frame.location {
                Some(location) => (location.file.unwrap_or_default().to_owned(), location.line.unwrap_or_default()),
                None => (String::new(), 0),
            };
            let name = frame.function.and_then(|function| Some(function.demangle().ok()?.into_owned()));
            found.push(Frame { name: name.map_or_else(String::new, |name| inlined(&name, &file)), file, line });
        }
    }
    // The function that all others were inlined into has a symbol, and with it its whole path.
    if let Some(symbol) = loader.find_symbol(address) {
        let name = shown(&demangle_auto(Cow::Borrowed(symbol), None));
        match found.last_mut() {
            Some(outermost) => outermost.name = name,
            None => found.push(Frame { name, ..Frame::default() }),
        }
    }
    found.retain(|frame| !frame.name.is_empty());
    found
}

/// The line tables name a function without its module, which follows from its file.
fn inlined(name: &str, file: &str) -> String {
    let name = shown(name);
    match module_of(file) {
        Some(module) if !name.contains("::") => format!("{module}::{name}"),
        _ => name,
    }
}

/// `…/tokio-1.2.3/src/net/tcp/mod.rs` is `tokio::net::tcp`, `agent/src/traffic/l4/relay.rs` is `sotto::traffic::l4::relay`.
fn module_of(file: &str) -> Option<String> {
    let (folder, inner) = file.rsplit_once("src/")?;
    let krate = folder.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty())?;
    let krate = match krate.rsplit_once('-') {
        Some((name, version)) if version.starts_with(|digit: char| digit.is_ascii_digit()) => name,
        _ if krate == OWN_FOLDER => env!("CARGO_PKG_NAME"),
        _ => krate,
    };
    let inner = inner.strip_suffix(".rs")?;
    let modules = inner.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main"));
    Some([krate.replace('-', "_").as_str()].into_iter().chain(modules).collect::<Vec<_>>().join("::"))
}

/// The name without hash and type parameters: futures have types of thousands of characters. `<a::B as c::D>::e` is `a::B::e`, as
/// pprof's tools take what is in angle brackets for parameters, wherever it is.
fn shown(name: &str) -> String {
    let name = without_hash(name);
    let Some((of, method)) = name.strip_prefix('<').and_then(|inner| inner.split_at_checked(closing(inner)?)) else {
        return without_parameters(name);
    };
    let of = of.match_indices(" as ").map(|(place, _)| &of[..place]).find(|of| is_balanced(of)).unwrap_or(of);
    shown(of) + &without_parameters(&method[1..])
}

/// Whether all brackets that are opened are closed.
fn is_balanced(text: &str) -> bool {
    closing(&format!("{text}>")) == Some(text.len())
}

/// Where the bracket that is open at the start is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    for (place, letter) in text.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' if !text[..place].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
    }
    None
}

fn without_parameters(name: &str) -> String {
    let (mut kept, mut depth, mut last) = (String::new(), 0_usize, ' ');
    for letter in name.chars() {
        match letter {
            '<' => depth += 1,
            '>' if depth > 0 && last != '-' => depth -= 1,
            _ if depth == 0 => kept.push(letter),
            _ => {}
        }
        if letter == '<' && depth == 1 && kept.ends_with("::") {
            kept.truncate(kept.len() - 2);
        }
        last = letter;
    }
    kept
}

/// `a::b::h0123456789abcdef` without the last part, which differs from build to build.
fn without_hash(name: &str) -> &str {
    const HASH: usize = 16;
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == HASH && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_people_write_them() {
        for (name, is_shown) in [
            ("sotto::relay::copy::h0123456789abcdef", "sotto::relay::copy"),
            ("sotto::heap::help", "sotto::heap::help"),
            ("memcpy", "memcpy"),
            ("from_iter<a::B<C>, fn(u8) -> d::E<F>>", "from_iter"),
            ("{closure#0}<fn() -> a::B<C>, D>", "{closure#0}"),
            ("<a::Box<dyn Fn() -> b::C<D> + Send> as e::FnOnce<()>>::call_once", "a::Box::call_once"),
            ("<a::B>::new::<c::D>::{closure#0}", "a::B::new::{closure#0}"),
            ("<<a::B as c::D>::e as f::G>::h", "a::B::e::h"),
            ("<a::B<<c::D as e::F>::G> as h::I>::j", "a::B::j"),
            ("<unclosed", ""),
        ] {
            assert_eq!(shown(name), is_shown);
        }
    }

    #[test]
    fn modules_follow_from_files() {
        for (file, module) in [
            ("agent/src/traffic/l4/relay.rs", Some("sotto::traffic::l4::relay")),
            ("/a/agent/src/main.rs", Some("sotto")),
            ("/c/registry/src/x/tokio-util-0.7.1/src/sync/mod.rs", Some("tokio_util::sync")),
            ("/rustc/0123/library/alloc/src/raw_vec/mod.rs", Some("alloc::raw_vec")),
            ("aws-lc/crypto/fipsmodule/sha/sha256.c", None),
            ("src/lib.rs", None),
            ("", None),
        ] {
            assert_eq!(module_of(file).as_deref(), module, "{file}");
        }
    }
}
