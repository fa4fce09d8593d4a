//! Whether the machine's clock is kept right.

use std::io;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked() {
        // Whatever this machine's clock is like, asking changes nothing and gives the same answer twice.
        assert_eq!(is_synchronised().ok(), is_synchronised().ok());
    }
}
