use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::{own, pause};

/// Lets everybody go at once.
#[derive(Debug)]
struct Fair;

impl Scheduler for Fair {
    fn turn(&self) -> Turn {
        Turn::Now
    }

    fn begins(&self) {}
}

/// Counts its drops.
struct Dropped(Arc<AtomicU64>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

async fn tick(ticks: Arc<AtomicU64>) {
    loop {
        pause(Duration::from_millis(10)).await;
        ticks.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_task_spawns_dies_with_its_life() {
    let life = Life::new("a".to_owned(), Arc::new(Fair));
    let (ticks, drops) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (inner_ticks, guard) = (Arc::clone(&ticks), Dropped(Arc::clone(&drops)));
    tokio::spawn(life.task(async move {
        let child = tokio::spawn(own(async move {
            let _guard = guard;
            tick(inner_ticks).await;
        }));
        let _ = child.await;
    }));
    pause(Duration::from_millis(105)).await;
    assert_eq!(ticks.load(Ordering::Relaxed), 10);
    assert_eq!(life.tasks(), 2);
    life.end();
    assert_eq!((life.tasks(), drops.load(Ordering::Relaxed)), (0, 1));
    pause(Duration::from_secs(1)).await;
    assert_eq!(ticks.load(Ordering::Relaxed), 10);
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_held_stands_still_and_goes_on() {
    let life = Life::new("a".to_owned(), Arc::new(Fair));
    let ticks = Arc::new(AtomicU64::new(0));
    tokio::spawn(life.task(tick(Arc::clone(&ticks))));
    pause(Duration::from_millis(105)).await;
    life.hold();
    pause(Duration::from_secs(5)).await;
    assert_eq!(ticks.load(Ordering::Relaxed), 10);
    life.go_on();
    pause(Duration::from_millis(50)).await;
    assert!(ticks.load(Ordering::Relaxed) > 13);
}

#[tokio::test(start_paused = true)]
async fn outside_of_a_life_a_task_is_what_it_was() {
    assert!(Life::current().is_none());
    assert_eq!(tokio::spawn(own(async { 7 })).await.ok(), Some(7));
}
