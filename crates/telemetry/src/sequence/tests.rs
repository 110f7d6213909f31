use proptest::prelude::*;

use super::*;

const WINDOW: usize = 1024;

/// A test message. Its content stands for the value, and for the time if it has one.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    content: u64,
    at_ms: i64,
    is_stamped: bool,
    is_redelivery: bool,
}

fn unstamped(number: u64, content: u64, at_ms: i64) -> Sent {
    Sent { number, content, at_ms, is_stamped: false, is_redelivery: false }
}

/// Returns the positions of the messages that are recognised as copies.
fn copies(boot: Option<&str>, messages: impl IntoIterator<Item = Sent>) -> Vec<usize> {
    let boot = boot.map(SmolStr::from);
    let mut history = SequenceHistory::default();
    let check = |sent: Sent| {
        let Sent { number, content, at_ms, is_stamped, is_redelivery } = sent;
        let message = NumberedMessage {
            boot: boot.as_ref(),
            number,
            content,
            arrival_ms: at_ms,
            is_stamped,
            is_redelivery,
        };
        history.check_message(&message, WINDOW).is_copy()
    };
    let are_copies: Vec<bool> = messages.into_iter().map(check).collect();
    (0..are_copies.len()).filter(|i| are_copies[*i]).collect()
}

/// Builds messages with constant content, `gap_ms` apart.
fn numbers(numbers: impl IntoIterator<Item = u64>, gap_ms: i64) -> Vec<Sent> {
    let numbered = numbers.into_iter().zip(0..);
    numbered.map(|(number, i)| unstamped(number, 7, i * gap_ms)).collect()
}

#[test]
fn counters_of_any_width_lose_nothing() {
    for (width, count) in [(2, 100), (10, 500), (100, 2_000), (256, 2_000), (1 << 16, 70_000)] {
        for (first, gap_ms) in [(0, 1), (0, 10_000), (width / 2, 1), (width - 1, 10_000)] {
            let sent = (first..first + count).map(|i| i % width);
            // Two alternating numbers prove as little as one at a thousand messages a second.
            if width > FEW_MESSAGES || gap_ms > SAME_MOMENT_MS {
                assert_eq!(
                    copies(Some("1.2.0"), numbers(sent, gap_ms)),
                    [0; 0],
                    "{width} {gap_ms}"
                );
            }
        }
    }
}

#[test]
fn a_firmware_version_as_the_run_loses_nothing() {
    for run in [10, 30, 100, 1_000] {
        for gap_ms in [1, 100, 10_000] {
            let sent = (0..3 * run).map(|i| i % run);
            assert_eq!(copies(Some("1.2.0"), numbers(sent, gap_ms)), [0; 0], "{run} {gap_ms}");
        }
    }
    // A device that sleeps deeply counts one message a run.
    assert_eq!(copies(Some("1.2.0"), numbers([0; 300], 10_000)), [0; 0]);
    assert_eq!(copies(Some("1.2.0"), numbers([0, 1].repeat(150), 10_000)), [0; 0]);
}

#[test]
fn a_counter_that_stands_still_says_nothing() {
    assert_eq!(copies(Some("a"), numbers([9; 50], 2_000)), [0; 0]);
    let at_once = (0..50).map(|i| unstamped(0, i, 1));
    assert_eq!(copies(Some("a"), at_once), [0; 0], "each with its own value");
    let at_once = (0..50).map(|i| unstamped(0, i % 2, 1));
    assert_eq!(copies(Some("a"), at_once), [0; 0], "values that come again");
    let within_a_second = copies(Some("a"), numbers([9; 50], 1));
    assert_eq!(within_a_second, (1..50).collect::<Vec<_>>(), "undecidable");
    // This holds for no longer than a second.
    let lost = copies(Some("a"), numbers([9; 500], 100));
    assert_eq!(lost, (1..=10).collect::<Vec<_>>());
    // A counter that reaches its end and stays there.
    let sent = (0..=255).chain([255; 50]);
    assert_eq!(copies(Some("a"), numbers(sent, 10_000)), [256], "one at most");
}

#[test]
fn a_redelivery_is_told_by_its_numbers() {
    for (first, last) in [(50, 59), (40, 59), (59, 59), (8, 59)] {
        for gap_ms in [10, 5_000] {
            let mut sent = numbers(0..60, gap_ms);
            let after_ms = 60 * gap_ms + 3 * 3_600_000;
            // Hours later the messages are sent again, followed by new ones.
            sent.extend((first..=last).map(|n| unstamped(n, 7, after_ms)));
            sent.extend((60..70).map(|n| unstamped(n, 7, after_ms + 1_000 * n as i64)));
            let again: Vec<usize> = (60..60 + (last - first + 1) as usize).collect();
            assert_eq!(copies(Some("a"), sent), again, "{first}..={last}");
        }
    }
}

#[test]
fn a_redelivery_reaches_over_a_wrap() {
    let cycle = (0..256).chain(0..6);
    let mut sent = numbers(cycle, 10_000);
    sent.extend((250..256).chain(0..6).map(|n| unstamped(n, 7, 2_700_000)));
    sent.extend((6..256).map(|n| unstamped(n, 7, 2_700_000 + 10_000 * n as i64)));
    assert_eq!(copies(Some("a"), sent), (262..274).collect::<Vec<_>>());
}

#[test]
fn what_is_measured_is_paced_and_what_is_sent_again_is_not() {
    // A restart whose first numbers were lost.
    let mut sent = numbers(0..60, 10_000);
    sent.extend((20..60).map(|n| unstamped(n, 7, 600_000 + 10_000 * n as i64)));
    assert_eq!(copies(Some("a"), sent), [60], "one at most");
}

#[test]
fn the_transport_and_the_time_of_measurement_are_certain() {
    let mut all = numbers(0..60, 10_000);
    all.extend((0..60).map(|n| Sent { is_redelivery: true, ..unstamped(n, 7, 700_000) }));
    assert_eq!(copies(Some("a"), all.clone()), (60..120).collect::<Vec<_>>());
    assert_eq!(copies(None, all), (60..120).collect::<Vec<_>>());
    let stamped = |n: u64| Sent { is_stamped: true, ..unstamped(n % 100, n, n as i64) };
    let sent = (0..300).map(stamped).chain((200..300).map(stamped));
    assert_eq!(copies(None, sent), (300..400).collect::<Vec<_>>());
}

#[test]
fn without_a_run_the_number_proves_nothing() {
    assert_eq!(copies(None, numbers([0, 1, 1, 0, 5, 5], 1)), [0; 0]);
}

#[test]
fn memory_is_bounded() {
    let mut history = SequenceHistory::default();
    for i in 0..5_000_u64 {
        let boot = SmolStr::from(format!("{}", i / 3));
        let message = NumberedMessage {
            boot: Some(&boot),
            number: i % 3,
            content: i,
            arrival_ms: i as i64 * 100_000,
            is_stamped: false,
            is_redelivery: false,
        };
        assert!(!history.check_message(&message, WINDOW).is_copy());
        assert!(history.runs.len() <= RUNS_MAX && history.entries.len() <= MESSAGES_MIN);
    }
}

/// A device's life: its messages, and the events between them.
#[derive(Clone, Debug)]
struct Life {
    width: u64,
    first: u64,
    gap_ms: i64,
    values: u64,
    is_stamped: bool,
    /// How many messages precede each event.
    events: Vec<(usize, Event)>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// That many of the newest messages are delivered again, after a silence in ms.
    Redelivery(usize, i64),
    /// The device counts from its beginning again.
    Restart,
    /// Two neighbours change places.
    Swap,
    /// That many messages are lost.
    Loss(u64),
}

fn life() -> impl Strategy<Value = Life> {
    let widths = prop_oneof![Just(100), Just(256), Just(10_000), Just(1 << 16), Just(1 << 32)];
    let event = prop_oneof![
        4 => (1..60_usize, 0..20_000_000_i64).prop_map(|(n, ms)| Event::Redelivery(n, ms)),
        1 => Just(Event::Restart),
        2 => Just(Event::Swap),
        2 => (1..5_u64).prop_map(Event::Loss),
    ];
    let events = prop::collection::vec((1..400_usize, event), 0..12);
    let gaps = prop_oneof![Just(50_i64), Just(1_500), Just(10_000)];
    (widths, 0..300_u64, gaps, 1..4_u64, any::<bool>(), events).prop_map(
        |(width, first, gap_ms, values, is_stamped, events)| Life {
            width,
            first: first % width,
            gap_ms,
            values,
            is_stamped,
            events,
        },
    )
}

/// Plays a life. Returns the messages that arrived, and whether each was sent again.
fn play(life: &Life) -> Vec<(Sent, bool)> {
    let (mut arrived, mut originals): (Vec<(Sent, bool)>, Vec<Sent>) = (Vec::new(), Vec::new());
    let (mut number, mut at_ms, mut since_start) = (life.first, 1_000_000_000, 0_usize);
    let send = |number: u64, at_ms: i64| {
        let value = number.wrapping_mul(2_654_435_761) % life.values;
        let content = if life.is_stamped { (at_ms as u64) * 8 + value } else { value };
        Sent { is_stamped: life.is_stamped, ..unstamped(number, content, at_ms) }
    };
    for (messages, event) in &life.events {
        for _ in 0..*messages {
            at_ms += life.gap_ms;
            let sent = send(number, at_ms);
            arrived.push((sent, false));
            originals.push(sent);
            number = (number + 1) % life.width;
            since_start = if number == 0 { 0 } else { since_start + 1 };
        }
        match *event {
            Event::Redelivery(count, silence_ms) => {
                at_ms += silence_ms;
                // A redelivery back to the beginning of a run is undecidable, so none is
                // generated.
                let count = if life.is_stamped { count } else { count.min(since_start / 2) };
                // Nothing beyond the remembered messages is sent again.
                let newest_ms = originals.last().map_or(0, |sent| sent.at_ms);
                let spanned =
                    originals.iter().rev().take_while(|sent| newest_ms - sent.at_ms <= SPAN_MS);
                let count = count.min(spanned.count().max(MESSAGES_MIN));
                for sent in &originals[originals.len() - count.min(originals.len())..] {
                    at_ms += 1;
                    arrived.push((Sent { at_ms, ..*sent }, true));
                }
            }
            Event::Restart => (number, since_start, at_ms) = (0, 0, at_ms + 5_000),
            Event::Swap => {
                let (first, second) =
                    (send(number, at_ms + 1), send((number + 1) % life.width, at_ms));
                if since_start > 20 && number + 1 < life.width {
                    for sent in [second, first] {
                        at_ms += 1;
                        let sent = Sent { at_ms, ..sent };
                        arrived.push((sent, false));
                        originals.push(sent);
                    }
                    number = (number + 2) % life.width;
                    since_start = if number == 0 { 0 } else { since_start + 2 };
                }
            }
            Event::Loss(count) => {
                if number + count < life.width {
                    number += count;
                    since_start += count as usize;
                }
            }
        }
    }
    arrived
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// For any width, losses, order, redeliveries and restarts, no new message is lost and every
    /// message that is sent again is recognised.
    #[test]
    fn new_messages_are_kept_and_copies_are_recognised(life in life()) {
        let arrived = play(&life);
        let recognised = copies(Some("1.2.0"), arrived.iter().map(|(sent, _)| *sent));
        let again: Vec<usize> = (0..arrived.len()).filter(|i| arrived[*i].1).collect();
        let lost: Vec<_> = recognised.iter().filter(|i| !again.contains(i)).map(|i| (*i, arrived[*i])).collect();
        prop_assert!(lost.is_empty(), "lost {lost:?}");
        let accepted: Vec<_> = again.iter().filter(|i| !recognised.contains(i)).map(|i| (*i, arrived[*i])).collect();
        prop_assert!(accepted.is_empty(), "accepted twice {accepted:?}");
    }
}
