//! A name through answers and failures, on a clock of its own.

use std::fmt::Write as _;

use super::*;

/// Plays a script: each line is the second since the start and what a lookup brings: `ADDRESS,… TTL`, with a `+` at the end
/// where one family is missing, or a failure's label. Behind it stand the addresses in use from then on, a star if they have
/// changed, seconds to the next lookup, and the news. Of the seconds chance takes away up to a tenth (`~`) or a half (`-`).
#[track_caller]
fn check(script: &str) {
    let settings = Settings { dns_addresses_max: 3, ..Settings::default() };
    let start = Instant::now();
    let mut known = Known::default();
    let mut played = String::new();
    let rng = &mut fastrand::Rng::with_seed(7);
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines.clone() {
        let given = line.split(" => ").next().unwrap();
        let (second, result) = given.split_once(' ').unwrap();
        let now = start + Duration::from_secs(second.parse().unwrap());
        let taken = known.take(result_of(result), now, &settings, rng);
        let next = next_of(&taken, now, line);
        let addresses: Vec<String> = known.addresses().iter().map(ToString::to_string).collect();
        let changed = if taken.changed { "*" } else { "" };
        write!(played, "{given} => {}{changed} {next}", addresses.join(",")).unwrap();
        match taken.news {
            Some(News::Found(count)) => writeln!(played, " found {count}").unwrap(),
            Some(News::Failing(why)) => writeln!(played, " failing {}", why.label()).unwrap(),
            Some(News::Lost(why)) => writeln!(played, " lost {}", why.label()).unwrap(),
            None if taken.dropped > 0 => writeln!(played, " dropped {}", taken.dropped).unwrap(),
            None => played.push('\n'),
        }
    }
    let expected: Vec<&str> = lines.collect();
    assert_eq!(played.trim_end(), expected.join("\n"));
}

/// The time to the next lookup as the line has it, if it is within what chance may take away; else as it is.
fn next_of(taken: &Taken, now: Instant, line: &str) -> String {
    let next = taken.next.duration_since(now).as_secs_f64();
    let words = line.split(" => ").nth(1).unwrap().split(' ');
    let expected = words.into_iter().find(|word| word.starts_with(['~', '-'])).unwrap();
    let most: f64 = expected[1..].parse().unwrap();
    let least = if expected.starts_with('~') { 0.9 * most } else { 0.5 * most };
    if (least..=most).contains(&next) { expected.to_owned() } else { format!("{next:.3}") }
}

fn result_of(text: &str) -> Result<Answer, Failure> {
    if let Some(failure) = Failure::ALL.iter().find(|f| f.label() == text) {
        return Err(*failure);
    }
    let (addresses, ttl) = text.split_once(' ').unwrap();
    let is_partial = ttl.ends_with('+');
    let ttl = Duration::from_secs(ttl.trim_end_matches('+').parse().unwrap());
    Ok(Answer { addresses: addresses.split(',').map(|a| a.parse().unwrap()).collect(), ttl, is_partial })
}

#[test]
fn an_answer_is_believed_and_renewed_a_little_early() {
    check(
        "0 10.0.0.1,10.0.0.2 60 => 10.0.0.1,10.0.0.2* ~60 found 2
         57 10.0.0.2,10.0.0.1 60 => 10.0.0.1,10.0.0.2 ~60
         110 10.0.0.3,10.0.0.2 60 => 10.0.0.2,10.0.0.3* ~60
         160 10.0.0.2 0 => 10.0.0.2* ~1
         161 10.0.0.2 90000 => 10.0.0.2 ~3600",
    );
}

#[test]
fn a_family_that_could_not_be_asked_for_keeps_its_addresses() {
    check(
        "0 10.0.0.1,2001:db8::1 60 => 10.0.0.1,2001:db8::1* ~60 found 2
         60 10.0.0.2 60+ => 10.0.0.1,2001:db8::1,10.0.0.2* ~60
         120 10.0.0.2 60 => 10.0.0.2* ~60",
    );
}

#[test]
fn the_last_addresses_stay_for_five_minutes_after_they_have_expired() {
    check(
        "0 10.0.0.1 30 => 10.0.0.1* ~30 found 1
         28 no_name => 10.0.0.1 -1 failing no_name
         29 timeout => 10.0.0.1 -2
         31 timeout => 10.0.0.1 -4
         35 timeout => 10.0.0.1 -8
         300 timeout => 10.0.0.1 -16
         329 timeout => 10.0.0.1 -1
         330 timeout => * -60 lost timeout
         390 no_name =>  -60
         450 10.0.0.1 30 => 10.0.0.1* ~30 found 1",
    );
}

#[test]
fn a_name_without_any_answer_is_asked_for_ever_more_seldom() {
    check(
        "0 no_name =>  -1 lost no_name
         1 no_name =>  -2
         3 refused =>  -4
         7 no_name =>  -8
         15 no_name =>  -16
         31 no_name =>  -32
         63 no_name =>  -60
         123 no_name =>  -60",
    );
}

#[test]
fn of_too_many_addresses_those_in_use_stay() {
    check(
        "0 10.0.0.1,10.0.0.2 60 => 10.0.0.1,10.0.0.2* ~60 found 2
         60 10.0.0.5,10.0.0.6,10.0.0.2,10.0.0.7,10.0.0.1 60 => 10.0.0.1,10.0.0.2,10.0.0.5* ~60 dropped 2",
    );
}
