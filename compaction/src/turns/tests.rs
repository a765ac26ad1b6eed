use super::*;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_turn_comes_each_interval() {
    let turns = Turns::new("job", "does nothing");
    let began = Instant::now();
    for _ in 0..3 {
        let turn = turns.next(MINUTE).await;
        assert!(!turn.is_asked());
        assert_eq!(turns.status().running_for, Some(Duration::ZERO));
    }
    assert_eq!(began.elapsed(), MINUTE * 3);
    let status = turns.status();
    assert_eq!((status.turns, status.failures, status.running_for), (3, 0, None));
    assert_eq!(status.ended_ago, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_asks_waits_for_nothing_and_learns_when_it_is_done() {
    let turns = Turns::new("job", "does nothing");
    let (began, number) = (Instant::now(), turns.ask());
    turns.pause(MINUTE * 10);
    let mut turn = turns.next(MINUTE).await;
    assert!(turn.is_asked() && began.elapsed() == Duration::ZERO, "also while it is paused");
    assert!(turns.status().asked_ended < number);
    // Asked for while one is under way: that one may be past what was meant.
    let next = turns.ask();
    turns.expects(10);
    turns.did(4);
    assert_eq!(turns.status().progress, (4, 10));
    turn.failed(&std::io::Error::other("no luck"));
    drop(turn);
    let status = turns.status();
    assert!(status.asked_ended >= number && status.asked_ended < next);
    assert_eq!((status.error.as_deref(), status.failures), (Some("no luck"), 1));
    drop(turns.next(MINUTE).await);
    assert_eq!((turns.status().asked_ended, turns.status().error), (next, None));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_by_itself_or_when_somebody_says_so() {
    let turns = Turns::new("job", "does nothing");
    turns.pause(MINUTE * 5);
    assert_eq!(turns.status().paused_for, Some(MINUTE * 5));
    let began = Instant::now();
    drop(turns.next(MINUTE).await);
    assert_eq!(began.elapsed(), MINUTE * 5);
    turns.pause(MINUTE * 60);
    let (waits, resumes) = (turns.next(MINUTE), async {
        pause(MINUTE * 2).await;
        turns.resume();
    });
    let (turn, ()) = tokio::join!(waits, resumes);
    drop(turn);
    assert_eq!(began.elapsed(), MINUTE * 7);
    assert_eq!(turns.status().paused_for, None);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_in_its_turn_has_ended_it() {
    let turns = Turns::new("job", "does nothing");
    let works = async {
        let _turn = turns.next(Duration::ZERO).await;
        std::future::pending::<()>().await;
    };
    assert!(tokio::time::timeout(MINUTE, works).await.is_err());
    assert_eq!((turns.status().running_for, turns.status().turns), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pause_interrupts_a_long_turn_and_none_that_begins_later() {
    let turns = Turns::new("job", "does nothing");
    let turn = turns.next(MINUTE).await;
    assert!(!turns.is_interrupted());
    turns.pause(MINUTE);
    assert!(turns.is_interrupted());
    turns.resume();
    assert!(!turns.is_interrupted());
    turns.pause(MINUTE);
    drop(turn);
    turns.ask();
    let asked = turns.next(MINUTE).await;
    assert!(asked.is_asked() && !turns.is_interrupted(), "who asks knows of the pause");
}
