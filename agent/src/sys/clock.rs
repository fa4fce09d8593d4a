//! The machine's clock: whether it is kept right, and how finely the kernel counts.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_getres};

/// Whether something (chrony, systemd-timesyncd …) keeps the clock in step with others, as it told the kernel.
///
/// # Errors
/// When the kernel does not say, as in some sandboxes.
pub fn is_synchronised() -> io::Result<bool> {
    // SAFETY: all fields of `timex` are integers, for which zero is a value; `modes` 0 asks and sets nothing.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a valid, exclusively borrowed `timex` for as long as the call lasts.
    match unsafe { libc::adjtimex(&raw mut state) } {
        -1 => Err(io::Error::last_os_error()),
        code => Ok(code != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0),
    }
}

/// How long one of the kernel's ticks (jiffies) is: the coarse clock goes by them.
///
/// # Errors
/// When the kernel has no such clock.
pub fn tick() -> io::Result<Duration> {
    Ok(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_some_milliseconds() {
        let tick = tick().unwrap();
        assert!((Duration::from_millis(1)..=Duration::from_millis(10)).contains(&tick), "{tick:?}");
    }

    #[test]
    fn the_kernel_is_asked() {
        // Whatever this machine's clock is like, asking changes nothing and gives the same answer twice.
        assert_eq!(is_synchronised().ok(), is_synchronised().ok());
    }
}
