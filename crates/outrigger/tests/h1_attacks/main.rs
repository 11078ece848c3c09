//! Attacks on HTTP/1: a catalogue of requests and answers that are ambiguous, malformed or hostile, each with the outcome
//! that is safe. A case that fails names its row, its variant and what happened instead.
//!
//! After every attack a request on a fresh connection must be answered, and when all is over the program must still be
//! the same process, without a panic, with its memory and its descriptors back where they were.

mod case;
mod requests;
mod responses;
mod site;
mod special;

use outrigger_testkit::{Request, eventually};
use site::{DESCRIPTOR_SLACK, Site, judge_all};

/// What every request that reaches a backend must be like, whatever the client sent.
fn judge_forwarded(request: &Request) -> Result<(), String> {
    let count = |name: &str| request.fields.0.iter().filter(|(n, _)| n == name).count();
    let of = |name: &str| request.fields.get(name);
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let is_clean_length =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let problem = if request.version != "HTTP/1.1" {
        "its version is not HTTP/1.1"
    } else if count("host") != 1 {
        "it has not exactly one Host"
    } else if count("content-length") + count("transfer-encoding") > 1 {
        "its framing is ambiguous"
    } else if !of("content-length").is_none_or(is_clean_length)
        || of("transfer-encoding").is_some_and(|v| v != "chunked")
    {
        "its framing is not canonical"
    } else if !is_token(&request.method) || !request.fields.0.iter().all(|(name, _)| is_token(name)) {
        "its method or a name is no token"
    } else if !request.target.starts_with('/') || request.target.contains(['#', ' ', '\0']) {
        "its target is not in origin form"
    } else if request.target.starts_with("/smuggled") {
        "it was smuggled"
    } else {
        return Ok(());
    };
    Err(format!("the backend saw a request of which {problem}: {request:?}"))
}

/// The checks that are common to all cases, when all is over.
fn assert_unharmed(site: &mut Site, resident_before_kib: Option<u64>, descriptors_before: usize) {
    site.process.assert_well();
    site.assert_healthy();
    eventually("descriptors to be given back", || {
        (site.descriptors() <= descriptors_before + DESCRIPTOR_SLACK).then_some(())
    });
    if let (Some(before), Some(after)) = (resident_before_kib, site.process.resident_kib()) {
        // Buffers stay with the allocator; what must not happen is that they grow with the attacks.
        assert!(after < before + 32 * 1024, "resident memory went from {before} to {after} KiB");
    }
}

#[test]
fn hostile_requests_have_their_safe_outcome() {
    let mut site = Site::start(&[], "");
    site.assert_healthy();
    let (resident, descriptors) = (site.process.resident_kib(), site.descriptors());
    let cases = requests::all();
    let judge = |number: usize, case: &case::Case| {
        case.run(&site, number).map_err(|why| format!("{} [{}]: {why}", case.id, case.variant.escape_debug()))
    };
    let mut failures = judge_all(&site, &cases, judge);
    failures.extend(site.backend.seen().iter().filter_map(|request| judge_forwarded(request).err()));
    failures.extend(site.backend.garbage().into_iter().map(|garbage| format!("the backend saw garbage: {garbage}")));
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert_counted(&site);
    assert_unharmed(&mut site, resident, descriptors);
}

/// Every refusal that a client saw is in the counters, and nothing that none saw but where the connection broke first.
fn assert_counted(site: &Site) {
    let mut seen = site.refusals.lock().expect("all threads are done").clone();
    let silent = seen.remove(&0).unwrap_or_default();
    let counted = eventually("every refusal to be counted", || {
        let counted = site.counted_replies();
        seen.iter().all(|(status, count)| counted.get(status).is_some_and(|c| c >= count)).then_some(counted)
    });
    let (seen_all, counted_all) = (seen.values().sum::<u64>(), counted.values().sum::<u64>());
    assert!(counted_all <= seen_all + silent, "clients saw {seen:?} and {silent} closes, counted are {counted:?}");
}

#[test]
fn hostile_answers_have_their_safe_outcome() {
    let cases = responses::all();
    let backends: Vec<_> = cases.iter().map(responses::backend).collect();
    let names: Vec<_> = (0..cases.len()).map(responses::service).collect();
    let services: Vec<_> = names.iter().map(String::as_str).zip(backends.iter().map(|b| b.address())).collect();
    let mut site = Site::start(&services, "");
    site.assert_healthy();
    let (resident, descriptors) = (site.process.resident_kib(), site.descriptors());
    let judge = |number: usize, case: &responses::Case| {
        responses::run(case, &site, number).map_err(|why| format!("{} [{}]: {why}", case.id, case.variant))
    };
    let failures = judge_all(&site, &cases, judge);
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
    drop(backends);
    assert_unharmed(&mut site, resident, descriptors);
}
