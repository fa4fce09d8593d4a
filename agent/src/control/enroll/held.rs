//! Network namespaces that are captured while no agent carries them: what an earlier agent left, and pods that are wanted but
//! are no longer where they were. Their connections wait; they must neither leave in clear text nor be held for ever.

use std::collections::BTreeSet;

use super::locate::Locate;
use super::plan::Wanted;
use crate::drivers::redirect::{Redirect, RedirectError};
use crate::sys::netns::NetnsCookie;

/// See the module.
#[derive(Debug, Default)]
pub struct Held(BTreeSet<NetnsCookie>);

impl Held {
    /// What an earlier agent left in force.
    ///
    /// # Errors
    /// When the kernel's state cannot be read.
    pub fn left_behind(redirect: &Redirect) -> Result<Self, RedirectError> {
        Ok(Self(redirect.enrolled()?.into_iter().chain(redirect.attached_pods()?).collect()))
    }

    /// Adds a namespace that is captured and from now on not carried.
    pub fn insert(&mut self, cookie: NetnsCookie) {
        self.0.insert(cookie);
    }

    /// Takes out what is carried (again).
    pub fn claimed(&mut self, carried: impl Iterator<Item = NetnsCookie>) {
        carried.for_each(|cookie| {
            self.0.remove(&cookie);
        });
    }

    /// Forgets namespaces that have ceased to exist.
    ///
    /// # Errors
    /// The last one, after all have been looked at.
    pub fn forget_dead(&mut self, redirect: &mut Redirect) -> Result<(), RedirectError> {
        let mut result = Ok(());
        self.0.retain(|&cookie| match redirect.forget_if_gone(cookie) {
            Ok(gone) => !gone,
            Err(error) => {
                result = Err(error);
                true
            }
        });
        result
    }

    /// Takes out what none of the pods that wait to be carried can lay claim to: neither is it where one of them says, nor does
    /// it have the address of one whose namespace cannot be found.
    pub fn take_unwanted<'a>(
        &mut self,
        redirect: &Redirect,
        locate: &mut dyn Locate,
        waiting: impl Iterator<Item = &'a Wanted>,
    ) -> BTreeSet<NetnsCookie> {
        if self.0.is_empty() {
            return BTreeSet::new();
        }
        let (mut claims, mut lost) = (BTreeSet::new(), Vec::new());
        for pod in waiting {
            match locate.open(pod.sought()) {
                Ok(located) => claims.extend([located.netns.cookie()]),
                Err(_) => lost.extend(&pod.ips),
            }
        }
        let wanted = |cookie: &NetnsCookie| {
            let has_lost = |ips: Vec<_>| ips.iter().any(|ip| lost.contains(&ip));
            claims.contains(cookie) || !lost.is_empty() && redirect.addresses(*cookie).map_or(true, has_lost)
        };
        let (wanted, unwanted) = std::mem::take(&mut self.0).into_iter().partition::<BTreeSet<_>, _>(wanted);
        self.0 = wanted;
        unwanted
    }
}
