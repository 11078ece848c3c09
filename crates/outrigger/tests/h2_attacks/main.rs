//! Attacks on HTTP/2: a catalogue of frames and requests that are illegal, ambiguous or far cheaper to send than to serve,
//! each with the outcome that is safe. A case that fails names its row, its variant and what happened instead.
//!
//! After every attack a request on a fresh connection must be answered, and when all is over the program must still be
//! the same process, without a panic, with its memory and its descriptors back where they were.

mod case;
mod floods;
mod frames;
mod messages;
#[expect(dead_code, reason = "the other suite needs more of it")]
#[path = "../h1_attacks/site.rs"]
mod site;
mod streams;
mod tls;
mod upstream;

use std::time::{Duration, Instant};

use case::{Case, Cases};
use outrigger_testkit::eventually;
use outrigger_testkit::h2::Connection;
use site::{DESCRIPTOR_SLACK, Site, judge_all};

/// How much memory one flood may take, at its worst.
const FLOOD_KIB_MAX: u64 = 8 * 1024;

fn run(case: &Case, site: &Site) -> Result<(), String> {
    let connect = |is_raw| match is_raw {
        true => Connection::silent(site.proxy),
        false => Connection::connect(site.proxy),
    };
    case.run(site, connect).map_err(|why| format!("{} [{}]: {why}", case.id, case.variant))
}

/// The checks that are common to all cases, when all is over.
fn assert_unharmed(site: &mut Site, descriptors_before: usize) {
    site.process.assert_well();
    site.assert_healthy();
    eventually("descriptors to be given back", || {
        (site.descriptors() <= descriptors_before + DESCRIPTOR_SLACK).then_some(())
    });
}

fn assert_none(failures: &[String], of: usize) {
    assert!(failures.is_empty(), "{} of {of} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn illegal_frames_and_requests_have_their_safe_outcome() {
    let mut cases = Cases::default();
    frames::add_to(&mut cases);
    messages::add_to(&mut cases);
    let mut site = Site::start(&[], "");
    site.assert_healthy();
    let descriptors = site.descriptors();
    let failures = judge_all(&site, &cases.0, |_, case| run(case, &site));
    assert_none(&failures, cases.0.len());
    assert!(site.backend.garbage().is_empty(), "the backend saw garbage: {:?}", site.backend.garbage());
    assert_unharmed(&mut site, descriptors);
}

#[test]
fn floods_are_stopped_and_leave_no_mark() {
    let mut cases = Cases::default();
    floods::add_to(&mut cases);
    let mut site = Site::start(&[], "");
    site.assert_healthy();
    let descriptors = site.descriptors();
    let mut failures = Vec::new();
    // One after the other, so that each answers for the memory it took.
    for case in &cases.0 {
        let (before, start) = (site.process.resident_kib(), Instant::now());
        site.process.forget_peak();
        failures.extend(run(case, &site).err());
        let took = start.elapsed();
        if took > Duration::from_secs(8) {
            failures.push(format!("{} [{}]: took {took:?}", case.id, case.variant));
        }
        if let (Some(before), Some(peak)) = (before, site.process.peak_kib())
            && peak > before + FLOOD_KIB_MAX
        {
            failures.push(format!("{} [{}]: memory went from {before} to {peak} KiB", case.id, case.variant));
        }
        site.assert_healthy();
    }
    assert_none(&failures, cases.0.len());
    assert_unharmed(&mut site, descriptors);
}
