//! Changes inputs at random, the same way for the same generator: a small stand-in for libFuzzer where there is none.

use fastrand::Rng;

/// No input grows beyond this many bytes.
const LONGEST: usize = 4096;

/// Numbers at which readers of lengths and counts go wrong.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0x82, 0xfe, 0xff];

/// A changed copy of one of `seeds`, which must not be empty.
#[must_use]
pub fn mutant(seeds: &[Vec<u8>], words: &[&str], rng: &mut Rng) -> Vec<u8> {
    let mut input = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..=6) {
        let at = rng.usize(..=input.len());
        match rng.u8(..8) {
            0 => change(&mut input, at, |byte| byte ^ (1 << rng.u8(..8))),
            1 => change(&mut input, at, |_| EDGES[rng.usize(..EDGES.len())]),
            2 => change(&mut input, at, |_| rng.u8(..)),
            3 => insert(&mut input, at, &[rng.u8(..)]),
            4 if !words.is_empty() => insert(&mut input, at, words[rng.usize(..words.len())].as_bytes()),
            5 => {
                let end = (at + rng.usize(..16)).min(input.len());
                input.drain(at..end);
            }
            6 => {
                let piece = input[at..(at + rng.usize(..64)).min(input.len())].to_vec();
                let to = rng.usize(..=input.len());
                insert(&mut input, to, &piece);
            }
            _ => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                input.truncate(at);
                insert(&mut input, at, &other[from..]);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = to(*byte);
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    input.splice(at..at, piece.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutants_are_bounded_differ_and_can_be_made_again() {
        let seeds = [b"one".to_vec(), vec![b'x'; 3000], Vec::new()];
        let run = || {
            let mut rng = Rng::with_seed(7);
            (0..1000).map(|_| mutant(&seeds, &["word"], &mut rng)).collect::<Vec<_>>()
        };
        let first = run();
        assert_eq!(first, run());
        assert!(first.iter().all(|input| input.len() <= LONGEST));
        let distinct: std::collections::HashSet<_> = first.iter().collect();
        assert!(distinct.len() > 500, "{}", distinct.len());
    }
}
