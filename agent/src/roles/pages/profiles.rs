//! `/debug/pprof/profile` and `/debug/pprof/heap`, where Go's programs and ztunnel have them. One at a time; a client that goes away
//! ends its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::control::diagnose::profile::{CpuQuestion, parse_heap};
use crate::drivers::admin::server::{Page, Route};
use crate::drivers::pprof::profile;
use crate::sys::memory;
use crate::sys::profile::{cpu, heap, modules};

const MIME: &str = "application/octet-stream";

/// Held by whoever notes allocations, of which there is one account for the process.
static WATCHING: Mutex<()> = Mutex::new(());

/// A profile that is being made.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    what: &'static str,
    until: SystemTime,
}

/// The one place for a profile that is being made.
#[derive(Clone, Debug, Default)]
struct Place(Arc<Mutex<Option<UnderWay>>>);

/// Somebody's profile. Dropped, it is no longer made, and the next may be.
#[derive(Debug)]
struct Taken {
    place: Place,
    stop: Arc<AtomicBool>,
}

/// The pages.
pub(super) fn routes() -> [Route; 2] {
    let place = Place::default();
    let for_heap = place.clone();
    let about_cpu = "where processor time goes, as pprof's profile: ?seconds=&frequency=";
    let about_heap =
        "what memory is for, as pprof's profile: ?seconds= while it is watched, unless it always is (--heap-profile)";
    [
        Route::made_by("/debug/pprof/profile", about_cpu, move |query| cpu_page(&place, query)),
        Route::made_by("/debug/pprof/heap", about_heap, move |query| heap_page(&for_heap, query)),
    ]
}

fn cpu_page(place: &Place, query: &str) -> impl Future<Output = Page> + Send + use<> {
    let prepared = CpuQuestion::parse(query).map_err(|error| Page::text(400, format!("{error}\n")));
    let prepared = prepared.and_then(|question| Ok((question, place.take("CPU", question.duration)?)));
    async move {
        match prepared {
            Err(refusal) => refusal,
            Ok((question, taken)) => made(taken, move |stop| cpu_profile(question, stop)).await,
        }
    }
}

fn heap_page(place: &Place, query: &str) -> impl Future<Output = Page> + Send + use<> {
    let prepared = parse_heap(query).map_err(|error| Page::text(400, format!("{error}\n")));
    let prepared = prepared.and_then(|duration| Ok((duration, place.take("heap", duration)?)));
    async move {
        match prepared {
            Err(refusal) => refusal,
            Ok((duration, taken)) => made(taken, move |stop| heap_profile(duration, stop)).await,
        }
    }
}

/// Has the profile made on a thread of its own: names are found by reading through much of the binary.
async fn made(taken: Taken, make: impl FnOnce(&AtomicBool) -> Page + Send + 'static) -> Page {
    let stop = Arc::clone(&taken.stop);
    let making = tokio::task::spawn_blocking(move || {
        let page = make(&stop);
        // What it took is used by nothing else.
        if let Err(error) = memory::forget_unused() {
            tracing::debug!(%error, "memory that the profile used is kept");
        }
        page
    });
    let page = making.await.unwrap_or_else(|error| Page::text(500, format!("{error}\n")));
    drop(taken);
    page
}

fn cpu_profile(question: CpuQuestion, stop: &AtomicBool) -> Page {
    let (modules, start) = (modules::loaded(), SystemTime::now());
    let samples = match cpu::sample(&modules, question.duration, question.frequency, stop) {
        Ok(samples) => samples,
        Err(error @ cpu::CpuError::Refused(_)) => return Page::text(501, format!("{error}\n")),
        Err(error @ cpu::CpuError::Kernel(_)) => return Page::text(500, format!("{error}\n")),
    };
    tracing::info!(duration = ?samples.duration, stacks = samples.stacks.len(), lost = samples.lost, "CPU profile taken");
    answered(profile::cpu(&modules, &samples, start, stop))
}

/// All that is allocated where that is noted all the time; else what is allocated from now on and not freed in so much time.
fn heap_profile(duration: Duration, stop: &AtomicBool) -> Page {
    let samples = {
        // Whoever went away may still be about to end: what is noted for them is not all, and stops with them.
        let _alone = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
        heap::allocated().unwrap_or_else(|| watch_heap(duration, stop))
    };
    tracing::info!(stacks = samples.stacks.len(), "heap profile taken");
    answered(profile::heap(&modules::loaded(), &samples, stop))
}

/// Notes allocations for so long, or until nobody waits for it any more.
fn watch_heap(duration: Duration, stop: &AtomicBool) -> heap::HeapSamples {
    const LOOK: Duration = Duration::from_millis(50);
    let start = Instant::now();
    heap::start(&modules::loaded(), heap::USUAL_INTERVAL);
    while start.elapsed() < duration && !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK.min(duration.saturating_sub(start.elapsed())));
    }
    let samples = heap::allocated().unwrap_or_default();
    heap::stop();
    samples
}

fn answered(profile: Result<Vec<u8>, profile::ProfileError>) -> Page {
    match profile {
        Ok(bytes) => Page::new(200, MIME, bytes),
        Err(error) => Page::text(500, format!("{error}\n")),
    }
}

impl Place {
    /// Takes the place for a profile, or says who has it.
    fn take(&self, what: &'static str, duration: Duration) -> Result<Taken, Page> {
        let mut place = self.lock();
        if let Some(UnderWay { what, until }) = *place {
            let until = humantime::format_rfc3339_seconds(until);
            let text = format!("a {what} profile is being made, one at a time: ask again after {until}\n");
            return Err(Page::text(409, text));
        }
        *place = Some(UnderWay { what, until: SystemTime::now() + duration });
        Ok(Taken { place: self.clone(), stop: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        *self.place.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_next_as_soon_as_the_first_is_dropped() {
        let place = Place::default();
        let first = place.take("CPU", Duration::from_secs(10)).unwrap();
        let stop = Arc::clone(&first.stop);
        let refused = place.take("heap", Duration::ZERO).unwrap_err();
        let says = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(refused.status == 409 && says.starts_with("a CPU profile is being made"), "{says}");
        drop(first);
        assert!(stop.load(Ordering::Relaxed));
        assert!(place.take("heap", Duration::ZERO).is_ok());
    }

    #[tokio::test]
    async fn nonsense_takes_no_place() {
        let place = Place::default();
        let page = cpu_page(&place, "seconds=0");
        assert_eq!(heap_page(&place, "seconds=0").await.status, 400);
        assert_eq!(page.await.status, 400);
        assert!(place.take("heap", Duration::ZERO).is_ok());
    }
}
