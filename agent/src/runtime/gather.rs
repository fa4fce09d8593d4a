//! A look at what else is ready, before something small is sent.

use std::pin::pin;
use std::task::Context;

use tokio::task::yield_now;

/// Lets the thread's other tasks, and what the kernel has for them by now, add to what is about to be sent: every call and every
/// packet that is saved costs more than the look.
#[derive(Debug, Default)]
pub struct Gather {
    has_looked: bool,
}

impl Gather {
    /// Whether the task is to end its turn here. It is then woken once the others had theirs, and goes on.
    pub fn looks(&mut self, cx: &mut Context<'_>) -> bool {
        self.has_looked = !self.has_looked;
        self.has_looked && pin!(yield_now()).poll(cx).is_pending()
    }

    /// Something was sent, or nothing is to be: the next is something new.
    pub fn begin_anew(&mut self) {
        self.has_looked = false;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn the_others_have_their_turn_in_between() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let local = tokio::task::LocalSet::new();
        let (sender, other) = (Rc::clone(&order), Rc::clone(&order));
        let mut gather = Gather::default();
        let sending = local.spawn_local(poll_fn(move |cx| {
            sender.borrow_mut().push("sender");
            if gather.looks(cx) { Poll::Pending } else { Poll::Ready(()) }
        }));
        local.spawn_local(async move { other.borrow_mut().push("other") });
        local.run_until(sending).await.unwrap();
        assert_eq!(*order.borrow(), ["sender", "other", "sender"]);
    }
}
