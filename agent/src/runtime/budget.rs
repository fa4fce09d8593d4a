//! A limited resource of the process (descriptors, memory), shared out so that no user of it can take what the others need.
//!
//! The rule is the dynamic threshold of shared packet buffers (Choudhury and Hahne, 1998): a user may take more as long as it
//! holds no more than what is still free. One greedy user ends at a half, two at a third each; the last piece is never gone,
//! and nothing has to be set aside for users that are quiet.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The whole resource.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    limit: usize,
    used: AtomicUsize,
}

/// One user's part of it. Takes a fixed amount for as long as it lives, and more in [`Permit`]s.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    fixed: usize,
    used: AtomicUsize,
}

/// A piece that was taken; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    share: Arc<Share>,
    amount: usize,
}

/// Why nothing could be taken: the message names the resource and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    name: &'static str,
    held: usize,
    free: usize,
    limit: usize,
}

impl Budget {
    /// A resource of which there is `limit`; `name` says what it is and how an operator raises it.
    #[must_use]
    pub fn new(name: &'static str, limit: usize) -> Arc<Self> {
        Arc::new(Self { name, limit, used: AtomicUsize::new(0) })
    }

    /// A user of the resource that takes `fixed` whether or not there is so much left.
    #[must_use]
    pub fn share(self: &Arc<Self>, fixed: usize) -> Arc<Share> {
        self.used.fetch_add(fixed, Ordering::Relaxed);
        Arc::new(Share { budget: Arc::clone(self), fixed, used: AtomicUsize::new(0) })
    }

    /// How much is taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Share {
    /// Takes `amount`.
    ///
    /// # Errors
    /// [`Exhausted`] when this user would hold more than what is left to the others.
    pub fn take(self: &Arc<Self>, amount: usize) -> Result<Permit, Exhausted> {
        let mut permit = Permit { share: Arc::clone(self), amount: 0 };
        permit.grow(amount)?;
        Ok(permit)
    }

    /// How much this user holds besides what is fixed.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// Takes `more`.
    ///
    /// # Errors
    /// As [`Share::take`]; what was held before is kept.
    pub fn grow(&mut self, more: usize) -> Result<(), Exhausted> {
        // Threads that grow at once may go over the line by what each of them asks for: the line is no cliff.
        let Share { budget, used, .. } = &*self.share;
        let held = used.load(Ordering::Relaxed);
        let free = budget.limit.saturating_sub(budget.used());
        if held.saturating_add(more) > free.saturating_sub(more) {
            return Err(Exhausted { name: budget.name, held, free, limit: budget.limit });
        }
        used.fetch_add(more, Ordering::Relaxed);
        budget.used.fetch_add(more, Ordering::Relaxed);
        self.amount += more;
        Ok(())
    }

    /// Gives back `less`, at most what is held.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.amount);
        self.amount -= less;
        self.share.used.fetch_sub(less, Ordering::Relaxed);
        self.share.budget.used.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink(self.amount);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.fixed, Ordering::Relaxed);
    }
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, held, free, limit } = self;
        write!(f, "the pod holds {held} of the node's {limit} {name}, and {free} are left for all pods")
    }
}

impl std::error::Error for Exhausted {}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(share: &Arc<Share>) -> Vec<Permit> {
        std::iter::from_fn(|| share.take(1).ok()).collect()
    }

    #[test]
    fn one_greedy_user_ends_at_a_half_and_the_next_at_half_of_the_rest() {
        let budget = Budget::new("things", 100);
        let (first, second) = (budget.share(0), budget.share(0));
        let held = take_all(&first);
        assert_eq!(held.len(), 50);
        assert_eq!(take_all(&second).len(), 25);
        drop(held);
        assert_eq!((budget.used(), first.used()), (0, 0));
    }

    #[test]
    fn what_a_user_needs_at_least_is_taken_from_all() {
        let budget = Budget::new("things", 100);
        let quiet = budget.share(40);
        let greedy = budget.share(0);
        assert_eq!(take_all(&greedy).len(), 30);
        drop(quiet);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_permit_grows_and_shrinks_and_says_why_it_cannot() {
        let budget = Budget::new("bytes", 100);
        let share = budget.share(0);
        let mut permit = share.take(10).unwrap();
        permit.grow(30).unwrap();
        let error = permit.grow(30).unwrap_err();
        assert_eq!(error.to_string(), "the pod holds 40 of the node's 100 bytes, and 60 are left for all pods");
        permit.shrink(1000);
        assert_eq!((share.used(), budget.used()), (0, 0));
        permit.grow(50).unwrap();
        drop(permit);
        assert_eq!(budget.used(), 0);
    }
}
