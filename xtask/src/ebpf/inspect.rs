//! Reads an eBPF object: which programs it holds and how long each is.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use object::{Architecture, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// Bytes of one instruction slot (RFC 9669, section 3).
const SLOT: u64 = 8;
/// Functions that programs call lie here; every other code section is a hook.
const SUBPROGRAMS: &str = ".text";

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The function's name, under which the agent loads it.
    pub(super) name: String,
    /// The ELF section, which names the hook.
    pub(super) section: String,
    /// Instruction slots, before the verifier and the JIT.
    pub(super) instructions: u64,
}

/// The programs of an object, by section and name.
pub(super) fn programs(image: &[u8]) -> Result<Vec<Program>> {
    let file = object::File::parse(image).context("this is no object file")?;
    ensure!(
        file.architecture() == Architecture::Bpf,
        "this is an object file for {:?}, not for eBPF",
        file.architecture()
    );
    let mut programs = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let Some(index) = symbol.section_index() else { continue };
        let section = file.section_by_index(index).context("a symbol points outside the sections")?;
        let hook = section.name().context("a section has no readable name")?;
        if section.kind() == SectionKind::Text && hook != SUBPROGRAMS {
            let name = symbol.name().context("a program has no readable name")?.to_owned();
            programs.push(Program { name, section: hook.to_owned(), instructions: symbol.size() / SLOT });
        }
    }
    programs.sort_by(|a, b| (&a.section, &a.name).cmp(&(&b.section, &b.name)));
    Ok(programs)
}

/// The programs as a table.
pub(super) fn table(programs: &[Program]) -> String {
    let name_width = programs.iter().map(|program| program.name.len()).max().unwrap_or(0);
    let section_width = programs.iter().map(|program| program.section.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Program { name, section, instructions } in programs {
        let _ = writeln!(text, "  {name:name_width$}  {section:section_width$}  {instructions:>5} instructions");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest ELF with a null section, one code section, its symbols and names.
    fn elf(machine: u16, section: &str, symbols: &[(&str, u64)]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut named = |name: &str| {
            let at = strings.len() as u32;
            strings.extend(name.bytes().chain([0]));
            at
        };
        let section_name = named(section);
        let mut table = vec![0; 24];
        for (name, size) in symbols {
            table.extend(named(name).to_le_bytes());
            table.extend([0x12, 0]); // a global function
            table.extend(1_u16.to_le_bytes());
            table.extend(0_u64.to_le_bytes());
            table.extend(size.to_le_bytes());
        }
        let code = vec![0; 64];
        let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let at = |before: &[&[u8]]| 64 + before.iter().map(|part| part.len() as u64).sum::<u64>();
        image.extend(1_u16.to_le_bytes());
        image.extend(machine.to_le_bytes());
        image.extend(1_u32.to_le_bytes());
        for offset in [0, 0, at(&[&code, &table, &strings])] {
            image.extend(offset.to_le_bytes());
        }
        image.extend(0_u32.to_le_bytes());
        for field in [64_u16, 0, 0, 64, 4, 3] {
            image.extend(field.to_le_bytes());
        }
        let sections = [
            (0, 0_u32, 0, 0, 0_u64, [0_u32, 0], 0_u64),
            (section_name, 1, 6, at(&[]), code.len() as u64, [0, 0], 0),
            (0, 2, 0, at(&[&code]), table.len() as u64, [3, 1], 24),
            (0, 3, 0, at(&[&code, &table]), strings.len() as u64, [0, 0], 0),
        ];
        for part in [&code, &table, &strings] {
            image.extend(part);
        }
        for (name, kind, flags, offset, size, [link, info], entry) in sections {
            image.extend(name.to_le_bytes());
            image.extend(kind.to_le_bytes());
            for field in [flags, 0_u64, offset, size] {
                image.extend(field.to_le_bytes());
            }
            image.extend(link.to_le_bytes());
            image.extend(info.to_le_bytes());
            image.extend(1_u64.to_le_bytes());
            image.extend(entry.to_le_bytes());
        }
        image
    }

    const BPF: u16 = 247;

    #[test]
    fn programs_are_named_with_hook_and_length() {
        let found = programs(&elf(BPF, "cgroup/connect4", &[("redirect_connect4", 40)])).unwrap();
        let expected = Program { name: "redirect_connect4".into(), section: "cgroup/connect4".into(), instructions: 5 };
        assert_eq!(found, [expected]);
        assert_eq!(table(&found), "  redirect_connect4  cgroup/connect4      5 instructions\n");
    }

    #[test]
    fn subprograms_are_no_programs() {
        assert_eq!(programs(&elf(BPF, ".text", &[("memcpy", 40)])).unwrap(), []);
    }

    #[test]
    fn what_is_not_ebpf_is_refused() {
        assert!(programs(&elf(62, "cgroup/connect4", &[])).unwrap_err().to_string().contains("not for eBPF"));
        assert!(programs(b"#!/bin/sh").is_err());
        assert!(programs(&[]).is_err());
    }
}
