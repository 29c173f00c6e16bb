//! Driver. Clients that break the rules, wait for ever or ask for too much, on real sockets against
//! the built server: what they cost is bounded, how they end is said, and others are served.
//!
//! Counts and bytes decide, never time. Bytes are the process's anonymous memory; each bound stands
//! at its constant, with its reason.
//!
//! Environment: RINGBOLT_HOSTILE_SOAK=1 (also wait for the patience of a silent connection to end,
//! and print what was measured).

mod breaches;
mod calls;
mod floods;
mod garbage;
mod held;
mod raw;
mod slow;
mod victim;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    let soak = soak();
    vec![
        Trial::test(
            "hostile::garbage_is_closed_and_leaves_nothing",
            garbage::is_closed_and_leaves_nothing,
        ),
        Trial::ignorable_test(
            "hostile::held_connections_are_cheap",
            held::connections_are_cheap,
        ),
        Trial::test(
            "hostile::quiet_connections_keep_little",
            held::quiet_connections_keep_little,
        ),
        Trial::test("hostile::floods_are_ended", floods::are_ended),
        Trial::test(
            "hostile::breaches_end_what_they_must",
            breaches::end_what_they_must,
        ),
        Trial::test(
            "hostile::streams_are_counted",
            breaches::streams_are_counted,
        ),
        Trial::test(
            "hostile::ranges_wait_for_their_readers",
            slow::ranges_wait_for_their_readers,
        ),
        Trial::test(
            "hostile::small_answers_add_up_to_a_bound",
            slow::small_answers_add_up_to_a_bound,
        ),
        Trial::test(
            "hostile::watchers_that_do_not_read_are_bounded",
            slow::watchers_that_do_not_read_are_bounded,
        ),
        Trial::test(
            "hostile::requests_wait_for_their_answers",
            slow::requests_wait_for_their_answers,
        ),
        Trial::test(
            "hostile::plain_answers_wait_for_their_readers",
            slow::plain_answers_wait_for_their_readers,
        ),
        Trial::ignorable_test("hostile::calls_are_answered", calls::on_ringbolt),
        // Proves the table.
        Trial::ignorable_test("hostile::calls_are_answered_by_etcd", calls::on_etcd),
        Trial::test("hostile::silence_ends", held::silence_ends).with_ignored_flag(!soak),
    ]
}

fn soak() -> bool {
    std::env::var_os("RINGBOLT_HOSTILE_SOAK").is_some()
}

/// Prints a measurement when it was asked for.
fn note(text: impl FnOnce() -> String) {
    if soak() {
        println!("{}", text());
    }
}
