//! Each VirtualService and DestinationRule of Bookinfo does what Istio says it does.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::mesh::{Mesh, samples, yaml_files};

/// Bookinfo with one of its routing files.
struct Case {
    /// The routing file, of folder `networking`.
    routing: &'static str,
    /// More files beside `bookinfo.yaml`, of folder `platform/kube`.
    platform: &'static [&'static str],
    /// What is found about it.
    findings: &'static [&'static str],
    /// Questions with their answers.
    shares: &'static [(&'static str, &'static str)],
}

/// What `destination-rule-all.yaml` has subsets for and `bookinfo.yaml` has no pods: version 2 of two services.
const UNUSED: &[&str] =
    &["OUT0205 warning DestinationRule default/details", "OUT0205 warning DestinationRule default/ratings"];

/// Requests of one question: weights are kept to the request.
const COUNT: u32 = 100;

/// Everything in folder `networking` that is about traffic inside the mesh.
const CASES: &[Case] = &[
    Case {
        routing: "virtual-service-all-v1.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[
            ("reviews:9080", "v1 100"),
            ("ratings:9080", "v1 100"),
            ("details:9080", "v1 100"),
            ("productpage:9080/productpage", "v1 100"),
        ],
    },
    Case {
        routing: "virtual-service-reviews-test-v2.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[
            ("reviews:9080", "v1 100"),
            ("reviews:9080 end-user: jason", "v2 100"),
            ("reviews:9080 end-user: jasonx", "v1 100"),
        ],
    },
    Case {
        routing: "virtual-service-reviews-90-10.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[("reviews:9080", "v1 90, v2 10")],
    },
    Case {
        routing: "virtual-service-reviews-80-20.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[("reviews:9080", "v1 80, v2 20")],
    },
    Case {
        routing: "virtual-service-reviews-50-v3.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[("reviews:9080", "v1 50, v3 50")],
    },
    Case {
        routing: "virtual-service-reviews-v2-v3.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[("reviews:9080", "v2 50, v3 50")],
    },
    Case {
        routing: "virtual-service-reviews-v3.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[("reviews:9080", "v3 100")],
    },
    Case {
        routing: "virtual-service-reviews-jason-v2-v3.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[("reviews:9080", "v3 100"), ("reviews:9080 end-user: jason", "v2 100")],
    },
    Case {
        routing: "virtual-service-ratings-test-abort.yaml",
        platform: &[],
        findings: &[
            "OUT0205 warning DestinationRule default/details",
            "OUT0205 warning DestinationRule default/ratings",
        ],
        shares: &[("ratings:9080", "v1 100"), ("ratings:9080 end-user: jason", "500 100, FI 100")],
    },
    // What it delays has a test of its own.
    Case {
        routing: "virtual-service-ratings-test-delay.yaml",
        platform: &[],
        findings: &[
            "OUT0205 warning DestinationRule default/details",
            "OUT0205 warning DestinationRule default/ratings",
        ],
        shares: &[("ratings:9080", "v1 100")],
    },
    // Its second rule can never be reached, which istioctl says too.
    Case {
        routing: "fault-injection-details-v1.yaml",
        platform: &[],
        findings: &["IST0130 warning VirtualService default/details"],
        shares: &[("details:9080", "555 100, FI 100")],
    },
    Case {
        routing: "virtual-service-details-v2.yaml",
        platform: &["bookinfo-details-v2.yaml"],
        findings: &["OUT0205 warning DestinationRule default/ratings"],
        shares: &[("details:9080", "v2 100")],
    },
    // Without the pods of version 2 there is nobody to ask.
    Case {
        routing: "virtual-service-details-v2.yaml",
        platform: &[],
        findings: UNUSED,
        shares: &[("details:9080", "503 100, UH 100")],
    },
    Case {
        routing: "virtual-service-ratings-db.yaml",
        platform: &["bookinfo-ratings-v2.yaml", "bookinfo-db.yaml"],
        findings: &[
            "OUT0203 info Service default/mongodb",
            "OUT0205 warning DestinationRule default/details",
            "OUT0205 warning DestinationRule default/ratings",
        ],
        shares: &[("reviews:9080", "v3 100"), ("ratings:9080", "v2 100")],
    },
    Case {
        routing: "virtual-service-ratings-mysql.yaml",
        platform: &["bookinfo-ratings-v2-mysql.yaml", "bookinfo-mysql.yaml"],
        findings: &[
            "OUT0203 info Service default/mysqldb",
            "OUT0205 warning DestinationRule default/details",
            "OUT0205 warning DestinationRule default/ratings",
        ],
        shares: &[("reviews:9080", "v3 100"), ("ratings:9080", "v2-mysql 100")],
    },
    Case {
        routing: "virtual-service-ratings-mysql-vm.yaml",
        platform: &["bookinfo-ratings-v2-mysql-vm.yaml"],
        findings: UNUSED,
        shares: &[("reviews:9080", "v3 100"), ("ratings:9080", "v2-mysql-vm 100")],
    },
    Case {
        routing: "egress-rule-google-apis.yaml",
        platform: &[],
        findings: &[
            "OUT0103 warning DestinationRule default/originate-tls-for-googleapis",
            "OUT0203 info ServiceEntry default/googleapis",
        ],
        // Its name leads out of the machine, where no test goes.
        shares: &[],
    },
];

#[test]
fn every_routing_file_behaves_as_documented() {
    let Some(samples) = samples() else { return };
    let bookinfo = samples.join("bookinfo");
    for case in CASES {
        case.check(&bookinfo);
    }
}

#[test]
fn jason_waits_seven_seconds_for_his_ratings() {
    let Some(samples) = samples() else { return };
    let routing = "networking/virtual-service-ratings-test-delay.yaml";
    let files = ["platform/kube/bookinfo.yaml", routing, "networking/destination-rule-all.yaml"];
    let mut mesh = Mesh::start(&samples.join("bookinfo"), &files);
    let began = Instant::now();
    assert_eq!(mesh.shares("ratings:9080 end-user: jason", Some("productpage-v1"), 4), "v1 4");
    assert!(began.elapsed() >= Duration::from_secs(7), "{:?}", began.elapsed());
    mesh.assert_well();
}

/// No file is left out: those that are not about traffic inside the mesh are named here.
#[test]
fn every_routing_file_has_a_case() {
    let Some(samples) = samples() else { return };
    let elsewhere = [
        "bookinfo-gateway.yaml",
        "certmanager-gateway.yaml",
        "destination-rule-all-mtls.yaml",
        "destination-rule-all.yaml",
        "destination-rule-reviews.yaml",
    ];
    for file in yaml_files(&samples.join("bookinfo/networking")) {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let has_case = CASES.iter().any(|case| case.routing == name);
        assert!(has_case || elsewhere.contains(&name.as_str()), "{name}");
    }
}

/// The other DestinationRules bring subsets too, and a balancer or a TLS mode with them.
#[test]
fn every_set_of_destination_rules_serves_the_canary() {
    let Some(samples) = samples() else { return };
    let not_enforced: &[&str] = &[
        "OUT0103 warning DestinationRule default/details",
        "OUT0103 warning DestinationRule default/productpage",
        "OUT0103 warning DestinationRule default/ratings",
        "OUT0103 warning DestinationRule default/reviews",
    ];
    let mutual = [not_enforced, UNUSED].concat();
    for (rules, findings) in
        [("networking/destination-rule-reviews.yaml", vec![]), ("networking/destination-rule-all-mtls.yaml", mutual)]
    {
        let files = ["platform/kube/bookinfo.yaml", rules, "networking/virtual-service-reviews-90-10.yaml"];
        let mut mesh = Mesh::start(&samples.join("bookinfo"), &files);
        assert_eq!(mesh.findings(), findings, "{rules}");
        assert_eq!(mesh.shares("reviews:9080", Some("productpage-v1"), COUNT), "v1 90, v2 10", "{rules}");
        mesh.assert_well();
    }
}

impl Case {
    fn check(&self, bookinfo: &Path) {
        let routing = format!("networking/{}", self.routing);
        let platform: Vec<String> = self.platform.iter().map(|file| format!("platform/kube/{file}")).collect();
        // Where a sample brings no subsets, Istio's guide has the reader apply these first.
        let text = std::fs::read_to_string(bookinfo.join(&routing)).expect("a sample");
        let rules = (!text.contains("kind: DestinationRule")).then_some("networking/destination-rule-all.yaml");
        let files = ["platform/kube/bookinfo.yaml", &routing].into_iter().chain(rules);
        let files: Vec<&str> = files.chain(platform.iter().map(String::as_str)).collect();
        let mut mesh = Mesh::start(bookinfo, &files);
        assert_eq!(mesh.findings(), self.findings, "{}", self.routing);
        for (ask, expected) in self.shares {
            for from in [None, Some("productpage-v1")] {
                assert_eq!(mesh.shares(ask, from, COUNT), *expected, "{}: {ask} from {from:?}", self.routing);
            }
        }
        mesh.assert_well();
    }
}
