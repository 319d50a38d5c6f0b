use super::*;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

fn at(seconds: u64) -> Now {
    Now {
        mono: Mono(Duration::from_secs(seconds)),
        ..Now::default()
    }
}

/// A broker that may be silent for 5 s and an engine that may be for 60 s.
fn plant() -> (Pulse, Pulse, Watchdog) {
    let mut pulses = Pulses::default();
    let broker = pulses.stage("broker", Duration::from_secs(5), at(0));
    let engine = pulses.stage("engine", Duration::from_mins(1), at(0));
    (broker, engine, Watchdog::new(pulses))
}

#[test]
fn each_stage_is_held_to_its_own_allowed_silence() {
    let (broker, _engine, mut watchdog) = plant();
    assert_eq!(watchdog.on_tick(at(5).mono), Verdict::Feed);
    assert_eq!(
        watchdog.on_tick(at(6).mono),
        Verdict::Stalled {
            stage: "broker",
            silent: Duration::from_secs(6)
        }
    );
    broker.beat(at(6));
    assert_eq!(watchdog.on_tick(at(7).mono), Verdict::Feed);
}

#[test]
fn a_stall_is_news_once_and_its_end_is_news_once() {
    let (broker, _engine, mut watchdog) = plant();
    for second in 0..20 {
        watchdog.on_tick(at(second).mono);
    }
    let stalled = News::Stalled {
        stage: "broker",
        silent: Duration::from_secs(6),
    };
    assert_eq!(watchdog.take_news(), [stalled]);
    broker.beat(at(20));
    watchdog.on_tick(at(20).mono);
    watchdog.on_tick(at(21).mono);
    assert_eq!(watchdog.take_news(), [News::MovesAgain { stage: "broker" }]);
}

#[test]
fn the_most_overdue_stage_is_named() {
    let (_broker, _engine, mut watchdog) = plant();
    let verdict = watchdog.on_tick(at(100).mono);
    assert_eq!(
        verdict,
        Verdict::Stalled {
            stage: "broker",
            silent: Duration::from_secs(100)
        }
    );
    assert_eq!(watchdog.take_news().len(), 2);
}

#[test]
fn a_beat_that_comes_late_by_another_thread_never_turns_the_pulse_back() {
    let (broker, _engine, mut watchdog) = plant();
    broker.beat(at(10));
    broker.beat(at(1));
    assert_eq!(watchdog.on_tick(at(15).mono), Verdict::Feed);
}

#[test]
fn a_retired_stage_may_be_silent_but_a_lost_one_may_not() {
    let (broker, engine, mut watchdog) = plant();
    engine.beat(at(30));
    broker.retire();
    assert_eq!(watchdog.on_tick(at(30).mono), Verdict::Feed);
    drop(engine);
    let verdict = watchdog.on_tick(at(91).mono);
    assert!(matches!(
        verdict,
        Verdict::Stalled {
            stage: "engine",
            ..
        }
    ));
}

#[tokio::test]
async fn the_loop_feeds_while_stages_beat_and_stops_when_one_stalls() {
    let name = format!("lineside-watch-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_nonblocking(true).unwrap();
    let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
    let limit = Some(Duration::from_millis(30));
    let notifier = Notifier::new(Some(OsStr::new(&format!("@{name}"))), limit).unwrap();

    let clock = Clock::start();
    let mut pulses = Pulses::default();
    let pulse = pulses.stage("engine", Duration::from_hours(1), clock.now());
    let mut stalled = Pulses::default();
    let _silent = stalled.stage("engine", Duration::ZERO, clock.now());

    let feeding = tokio::spawn(watch(Watchdog::new(pulses), notifier.clone(), clock));
    let mut buffer = [0; 64];
    let length = manager.recv(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
    pulse.retire();
    feeding.abort();
    let _ = feeding.await;
    while manager.try_recv(&mut buffer).is_ok() {}

    tokio::time::sleep(Duration::from_millis(5)).await; // more than the silence it is allowed
    let starving = tokio::spawn(watch(Watchdog::new(stalled), notifier, clock));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(manager.try_recv(&mut buffer).is_err());
    starving.abort();
}
