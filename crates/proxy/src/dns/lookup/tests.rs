//! What is asked for, what an answer means, and the hosts file, without any server.

use hickory_resolver::proto::rr::rdata::CNAME;

use super::*;

fn asker(hosts: &str, search: &[&str], reaches_ipv6: bool) -> Asker {
    let mut table = Hosts::default();
    table.read_hosts_conf(hosts.as_bytes()).unwrap();
    let mut config = config_of(&[]);
    search.iter().for_each(|domain| config.add_search(domain.parse().unwrap()));
    Asker::new(config, ResolverOpts::default(), table, reaches_ipv6, &Settings::default())
}

#[test]
fn a_name_is_asked_for_as_it_stands_before_search_domains_unless_it_has_no_dot() {
    let check = |asker: &Asker, host: &str, expected: &str| {
        let names = asker.meant_by(host).unwrap();
        assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), expected);
    };
    let searching = asker("10.0.0.1 listed\n", &["shop.svc.cluster.local", "example"], true);
    check(&searching, "api.test", "api.test. api.test.shop.svc.cluster.local. api.test.example.");
    check(&searching, "db", "db.shop.svc.cluster.local. db.example. db.");
    check(&searching, "listed", "listed. listed.shop.svc.cluster.local. listed.example.");
    check(&asker("", &[], true), "db", "db.");
}

#[tokio::test]
async fn the_hosts_file_comes_before_name_servers() {
    let hosts = "127.0.0.1 localhost\n::1 localhost\n10.0.0.1 Db.test db\n10.0.0.2 db.test\n2001:db8::1 six.test\n\
                 10.0.0.3 both.test\n2001:db8::3 both.test\n0.0.0.0 blocked.test\n";
    let check = async |reaches_ipv6, host: &str, expected: &str| {
        let found = match asker(hosts, &[], reaches_ipv6).look_up(host).await {
            Ok(answer) => {
                assert!(answer.ttl == HOSTS_TTL && !answer.is_partial, "{answer:?}");
                answer.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            Err(failure) => failure.label().to_owned(),
        };
        assert_eq!(found, expected, "{host}");
    };
    check(true, "db.test", "10.0.0.1 10.0.0.2").await;
    check(true, "db", "10.0.0.1").await;
    check(true, "localhost", "127.0.0.1").await;
    check(true, "both.test", "10.0.0.3 2001:db8::3").await;
    check(false, "both.test", "10.0.0.3").await;
    check(false, "six.test", "2001:db8::1").await;
    check(true, "blocked.test", "unusable").await;
}

#[test]
fn aliases_lead_to_addresses_and_loops_nowhere() {
    let name = |text: &str| text.parse::<Name>().unwrap();
    let alias = |from: &str, ttl, to: &str| Record::from_rdata(name(from), ttl, RData::CNAME(CNAME(name(to))));
    let address = |of: &str, ttl, ip: &str| Record::from_rdata(name(of), ttl, ip.parse::<IpAddr>().unwrap().into());
    let found =
        |ip: &str, seconds| Ok(Found { addresses: vec![ip.parse().unwrap()], ttl: Duration::from_secs(seconds) });
    let a = name("a.");
    let chain =
        [alias("b.", 9, "c."), alias("A.", 20, "b."), address("c.", 30, "10.0.0.1"), address("x.", 1, "10.0.0.9")];
    assert_eq!(follow(&a, &chain), found("10.0.0.1", 9), "in any order, the shortest life, no other names");
    assert_eq!(follow(&a, &[address("a.", 0, "10.0.0.2")]), found("10.0.0.2", 0));
    assert_eq!(follow(&a, &[alias("a.", 1, "b."), alias("b.", 1, "a.")]), Err(Failure::NoAddress));
    assert_eq!(follow(&a, &[address("b.", 1, "10.0.0.1")]), Err(Failure::NoAddress));
    let long = |hops: usize| {
        let names: Vec<String> =
            (0..=hops).map(|at| if at == 0 { "a.".to_owned() } else { format!("n{at}.") }).collect();
        let mut records: Vec<Record> = names.windows(2).map(|pair| alias(&pair[0], 60, &pair[1])).collect();
        records.push(address(&names[hops], 60, "10.0.0.3"));
        follow(&a, &records)
    };
    assert_eq!(long(ALIASES_MAX), found("10.0.0.3", 60));
    assert_eq!(long(ALIASES_MAX + 1), Err(Failure::NoAddress));
}

#[test]
fn both_families_make_one_answer() {
    let found = |ip: &str| Ok(Found { addresses: vec![ip.parse().unwrap()], ttl: Duration::from_secs(5) });
    let check = |v4, v6, reaches_ipv6, expected: &str| {
        let joined = match join(v4, v6, reaches_ipv6) {
            Ok(Answer { addresses, is_partial, .. }) => format!("{addresses:?}{}", if is_partial { "+" } else { "" }),
            Err(failure) => failure.label().to_owned(),
        };
        assert_eq!(joined, expected);
    };
    let (v4, v6) = (|| found("10.0.0.1"), || found("2001:db8::1"));
    check(v4(), v6(), true, "[10.0.0.1, 2001:db8::1]");
    check(v4(), v6(), false, "[10.0.0.1]");
    check(found("127.0.0.1"), found("::1"), true, "[127.0.0.1]");
    check(v4(), Err(Failure::NoAddress), true, "[10.0.0.1]");
    check(v4(), Err(Failure::Timeout), true, "[10.0.0.1]+");
    check(Err(Failure::Refused), v6(), true, "[2001:db8::1]+");
    check(Err(Failure::NoAddress), v6(), false, "[2001:db8::1]");
    check(Err(Failure::NoName), Err(Failure::NoName), true, "no_name");
    check(Err(Failure::NoAddress), Err(Failure::Timeout), true, "timeout");
}

#[tokio::test]
async fn the_files_of_the_system_are_read_again_when_they_change() {
    let folder = outrigger_testkit::World::new();
    let (resolv_conf, hosts) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
    let files = Files { resolv_conf, hosts };
    let settings = Settings { dns_timeout: Duration::from_millis(50), dns_tries: 1, ..Settings::default() };
    let mut lookups = Lookups { files, ..Lookups::new(NameServers::System, settings) };
    let address = |answer: Result<Answer, Failure>| answer.unwrap().addresses[0].to_string();

    // Without any file the machine itself is asked, and names of the machine itself are known.
    assert_eq!(address(lookups.asker().look_up("localhost").await), "127.0.0.1");
    assert!(lookups.complained && lookups.asker().search.is_empty());
    folder.write("hosts", "10.0.0.1 db.test\n");
    assert_eq!(address(lookups.asker().look_up("db.test").await), "10.0.0.1");
    folder.write("hosts", "10.0.0.2 db.test db\n");
    assert_eq!(address(lookups.asker().look_up("db.test").await), "10.0.0.2");
    folder.write("resolv.conf", "search shop.test\noptions ndots:5\nnameserver 127.0.0.1\n");
    let asker = lookups.asker();
    assert_eq!(asker.search, ["shop.test".parse::<Name>().unwrap()]);
    assert!(Arc::ptr_eq(&asker, &lookups.asker()), "nothing changed");
    folder.write("resolv.conf", "nameserver nonsense\n");
    assert!(lookups.asker().search.is_empty(), "as without the file");
}
