//! Istio's own samples, where they are beside the repository.

use std::path::{Path, PathBuf};

use crate::{check, dump};

/// Istio's samples; `None` where the folder of other projects' files is not there.
pub(crate) fn samples() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/istio-samples/samples");
    if !root.is_dir() {
        assert!(std::env::var_os("OUTRIGGER_CI").is_none(), "{} is missing", root.display());
        eprintln!("passed over: {} is not there", root.display());
        return None;
    }
    Some(root)
}

#[test]
fn bookinfo_has_its_six_workloads_and_every_service_its_endpoints() {
    let Some(samples) = samples() else { return };
    let yaml = std::fs::read_to_string(samples.join("bookinfo/platform/kube/bookinfo.yaml")).unwrap();
    check(
        "ports facts services all-findings",
        &yaml,
        "default/details-v1-0 127.0.1.1 of details-v1
           details 9080 http details.default.svc.cluster.local:9080
         default/productpage-v1-0 127.0.1.6 of productpage-v1
           productpage 9080 http productpage.default.svc.cluster.local:9080
         default/ratings-v1-0 127.0.1.2 of ratings-v1
           ratings 9080 http ratings.default.svc.cluster.local:9080
         default/reviews-v1-0 127.0.1.3 of reviews-v1
           reviews 9080 http reviews.default.svc.cluster.local:9080
         default/reviews-v2-0 127.0.1.4 of reviews-v2
           reviews 9080 http reviews.default.svc.cluster.local:9080
         default/reviews-v3-0 127.0.1.5 of reviews-v3
           reviews 9080 http reviews.default.svc.cluster.local:9080
         details-v1-0 default/details-v1 app=details version=v1 details-v1-0 spiffe://cluster.local/ns/default/sa/bookinfo-details
         productpage-v1-0 default/productpage-v1 app=productpage version=v1 productpage-v1-0 spiffe://cluster.local/ns/default/sa/bookinfo-productpage
         ratings-v1-0 default/ratings-v1 app=ratings version=v1 ratings-v1-0 spiffe://cluster.local/ns/default/sa/bookinfo-ratings
         reviews-v1-0 default/reviews-v1 app=reviews version=v1 reviews-v1-0 spiffe://cluster.local/ns/default/sa/bookinfo-reviews
         reviews-v2-0 default/reviews-v2 app=reviews version=v2 reviews-v2-0 spiffe://cluster.local/ns/default/sa/bookinfo-reviews
         reviews-v3-0 default/reviews-v3 app=reviews version=v3 reviews-v3-0 spiffe://cluster.local/ns/default/sa/bookinfo-reviews
         default/details [9080] 1
         default/productpage [9080] 1
         default/ratings [9080] 1
         default/reviews [9080] 3",
    );
}

/// The findings are true ones: these files are halves of samples, whose Services or workloads stand in other files.
#[test]
fn every_sample_is_staged_and_only_halves_of_samples_lack_pods() {
    let Some(samples) = samples() else { return };
    let mut folders = vec![samples];
    let (mut pods, mut findings) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                let yaml = std::fs::read_to_string(&path).unwrap();
                pods += dump("pods", &yaml).lines().count();
                let half = !yaml.contains("kind: Deployment");
                let found = dump("findings", &yaml);
                let expected = |line: &&str| half && line.contains("[OUT0308]");
                findings.extend(found.lines().filter(|line| !expected(line)).map(|line| format!("{path:?}: {line}")));
            }
        }
    }
    assert!(pods > 40, "{pods} pods");
    assert_eq!(findings, Vec::<String>::new());
}
